"""model.nir is plain NIR that others execute, and gives its integers back exactly."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace

import h5py
import nir
import numpy as np
import pytest

from lavatube.cli.app import invoke
from lavatube.convert.from_nir import read_quantized_nir
from lavatube.convert.to_nir import export_nir
from lavatube.deploy.lower import lower
from lavatube.errors import LavatubeError, UnsupportedError
from lavatube.integer_layer import IntegerLayer, IntegerNeuron, IntegerSynapse
from lavatube.program import InputNode, floors_sums
from lavatube.program_file import program_sha256

NODE = InputNode("input", (1, 6, 6), 6)


def layers(seed=0, bits=8):
    rng = np.random.default_rng(seed)
    limit, scale = 2 ** (bits - 1) - 1, 2.0 ** (1 - bits)

    def integers(*shape):
        return rng.integers(-limit, limit + 1, shape).astype(np.int8)

    def neuron(channels, vth, exp):
        return IntegerNeuron(4095, 2048, vth, rng.integers(-200, 200, channels).astype(np.int16), exp)

    def layer(name, source, kind, shapes, weight, headroom, neuron, readout_bias=None, **window):
        synapse = IntegerSynapse(name, source, kind, *shapes, weight, bits, headroom, scale, **window)
        return IntegerLayer(name, (synapse,), neuron, readout_bias)

    return [
        layer(
            "layer1", "input", "conv2d", ((1, 6, 6), (4, 6, 6)), integers(4, 1, 3, 3), 0, neuron(4, 18 * limit, 5),
            padding=(1, 1),
        ),
        layer(
            "layer2", "layer1", "conv2d", ((4, 6, 6), (6, 3, 3)), integers(6, 4, 3, 3), 2, neuron(6, 5 * limit, 1),
            stride=(2, 2), padding=(1, 1),
        ),
        layer(
            "layer3", "layer2", "dense", ((6, 3, 3), (10,)), integers(10, 54), 0, None,
            readout_bias=rng.integers(-9, 9, 10),
        ),
    ]  # fmt: skip


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.nir"
    export_nir(layers(), NODE, path, num_steps=8, method="rate", lossy=[{"stage": "quantize", "what": "x"}])
    return path


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_integers_thresholds_and_biases_come_back_exactly_from_the_file(tmp_path, bits):
    made = layers(3, bits)
    export_nir(made, NODE, tmp_path / "m.nir", num_steps=8, method="rate")
    program = lower(tmp_path / "m.nir")
    for layer, (synapse, target) in zip(made, zip(program.synapses, program.targets, strict=True), strict=True):
        (made_synapse,) = layer.synapses
        np.testing.assert_array_equal(synapse.weight, made_synapse.weight.astype(np.int16) << (9 - bits))
        assert synapse.weight_exp == bits - 9 + made_synapse.headroom
        if layer.neuron is None:
            np.testing.assert_array_equal(target.bias, layer.readout_bias)
        else:
            assert (target.dv, target.vth, target.bias_exp) == (2048, layer.neuron.vth, layer.neuron.bias_exp)
            assert (target.bias_mant == layer.neuron.bias_mant[:, None, None]).all()


def test_lowering_twice_gives_the_same_program(model):
    assert program_sha256(lower(model)) == program_sha256(lower(model))


def test_floats_are_exactly_integer_times_scale(model):
    graph = nir.read(str(model))
    for layer in layers()[:2]:
        node = graph.nodes[f"{layer.name}_conv2d"]
        assert node.weight.dtype == np.float64
        np.testing.assert_array_equal(node.weight, layer.synapses[0].weight * layer.synapses[0].scale)
        lif = graph.nodes[f"{layer.name}_lif"]
        np.testing.assert_array_equal(lif.v_threshold, layer.neuron.vth * layer.activation_scale)


def test_the_order_of_execution_is_in_the_metadata_and_the_graph_is_flat(model):
    graph = nir.read(str(model))
    order = ["input"]
    after = dict(graph.edges)
    while order[-1] in after:
        order.append(after[order[-1]])
    assert read_quantized_nir(model).order == tuple(order)
    assert not any(isinstance(node, nir.NIRGraph) for node in graph.nodes.values())


def plain_float64(made, events):
    """Spikes of the two hidden layers, forward Euler in float64, written out. events: [T, C, H, W]."""
    import torch
    import torch.nn.functional as F

    spikes = [[], []]
    v = [0.0, 0.0]
    for x in events:
        s = torch.tensor(x, dtype=torch.float64)[None]
        for index, layer in enumerate(made[:2]):
            (synapse,) = layer.synapses
            weight = torch.tensor(synapse.weight * synapse.scale)
            bias = torch.tensor(layer.bias * layer.bias_scale)
            current = F.conv2d(s, weight, bias, synapse.stride, synapse.padding)
            v[index] = v[index] * 0.5 + current
            s = (v[index] > layer.neuron.vth * layer.activation_scale).double()
            v[index] = v[index] * (1 - s)
            spikes[index].append(s[0].numpy())
    return [np.stack(each) for each in spikes]


def test_norse_executes_the_file_with_the_spikes_of_a_plain_float64_step(model):
    norse = pytest.importorskip("norse.torch", reason="norse is a development dependency")
    import torch

    events = np.random.default_rng(5).integers(0, 64, (8, 1, 6, 6))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # norse and nirtorch warn about their own deprecations
        network = norse.from_nir(nir.read(str(model)), dt=1e-4).double()
        seen = {}
        for name, module in network.named_modules():
            if name in ("layer1_lif", "layer2_lif"):
                module.register_forward_hook(
                    lambda _, __, result, name=name: seen.setdefault(name, []).append(result[0].detach().numpy()[0])
                )
        state = None
        with torch.no_grad():
            for x in events:
                _, state = network(torch.tensor(x, dtype=torch.float64)[None], state)
    for name, expected in zip(("layer1_lif", "layer2_lif"), plain_float64(layers(), events), strict=True):
        np.testing.assert_array_equal(np.stack(seen[name]), expected)
        assert 0 < expected.mean() < 1


def test_changed_floats_make_the_integers_void(model):
    graph = nir.read(str(model))
    graph.nodes["layer1_conv2d"].weight[0, 0, 0, 0] += 1 / 128
    nir.write(str(model), graph)
    with pytest.raises(UnsupportedError, match="floats were changed after export"):
        lower(model)


def test_a_foreign_nir_file_is_refused_with_the_reason(tmp_path):
    lif = nir.LIF(*(np.ones(2) for _ in range(5)))
    graph = nir.NIRGraph.from_list(nir.Affine(np.eye(2), np.zeros(2)), lif)
    nir.write(str(tmp_path / "f.nir"), graph)
    with pytest.raises(UnsupportedError, match="carries no quantization metadata"):
        read_quantized_nir(tmp_path / "f.nir")
    with pytest.raises(LavatubeError, match="does not say how it is to be stepped"):
        lower(tmp_path / "f.nir")


def test_an_unsupported_node_is_named_with_what_is_supported(model):
    graph = nir.read(str(model))
    quantized = read_quantized_nir(model)
    graph.nodes["layer2_lif"] = nir.LIF(*(np.ones((6, 3, 3)) for _ in range(5)))
    quantized.graph.nodes["layer2_lif"] = graph.nodes["layer2_lif"]
    with pytest.raises(UnsupportedError, match=r"layer2_lif: node type LIF, expected Input, Affine, Conv2d"):
        lower(quantized)


def edit_metadata(model, change):
    """Also without what each node says again: it would be found first."""
    with h5py.File(model, "r+") as opened:
        for node in opened["node/nodes"].values():
            node.pop("metadata", None)
        text = json.loads(opened["node/metadata/lavatube"][()])
        change(text)
        del opened["node/metadata/lavatube"]
        opened["node/metadata/lavatube"] = json.dumps(text)


@pytest.mark.parametrize(
    ("node", "field", "value"),
    [("layer1_conv2d", "headroom", 1), ("layer1_lif", "bias_exp", 0), ("layer1_lif", "du", 5), ("layer2_lif", "vth", 9),
     ("layer2_lif", "dv", 2049), ("layer1_conv2d", "scale", 2.0**-6), ("layer3_dense", "headroom", 1),
     ("layer1_conv2d", "bits", 0),
     ("layer1_conv2d", "bits", 10**30), ("layer1_lif", "bias_exp", 5000), ("layer1_lif", "dv", 0),
     ("layer1_conv2d", "zero_point", 1), ("layer1_conv2d", "signed", False), ("layer1_conv2d", "axis", 9),
     ("layer1_conv2d", "rounding", "floor")],
)  # fmt: skip
def test_integer_metadata_that_contradicts_the_floats_is_refused(model, node, field, value):
    edit_metadata(model, lambda text: text["nodes"][node].update({field: value}))
    with pytest.raises(LavatubeError):
        lower(model)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("quant_weight_scale", 2.0**-6, "quant_weight_scale contradicts the integers in the metadata, expected"),
        ("quant_weight_bit_width", 4, "quant_weight_bit_width contradicts"),
        ("quant_weight_rounding", "floor", "quant_weight_rounding contradicts .* expected half to even, got floor"),
        ("quant_weight_signed", False, "quant_weight_signed contradicts"),
        ("quant_bias_zero_point", 3, "quant_bias_zero_point contradicts"),
        ("lavatube", '{"bits": 8}', "the integers in the node's metadata contradict those in the graph's"),
        ("lavatube", "{", "malformed quantization metadata"),
    ],
)
def test_what_a_node_says_for_others_must_be_what_its_integers_are(model, key, value, words):
    with h5py.File(model, "r+") as opened:
        stated = opened["node/nodes/layer1_conv2d/metadata"]
        del stated[key]
        stated[key] = value
    with pytest.raises(LavatubeError, match=words):
        lower(model)
    with h5py.File(model, "r+") as opened:
        del opened["node/nodes/layer1_conv2d/metadata"]  # says nothing, and so nothing wrong
    lower(model)


def test_another_readout_another_version_and_a_wrong_order_are_refused(model):
    for change, words in [
        ({"order": ["input"]}, "order of execution"),
        ({"readout": "spikes"}, "another read-out, expected sum over timesteps"),
        ({"version": 1}, "of another version of lavatube, expected version 3, got version 1; export again"),
    ]:
        edit_metadata(model, lambda text, change=change: text.update(change))
        with pytest.raises(LavatubeError, match=words):
            lower(model)


def test_sums_that_are_rounded_down_are_no_float_network(tmp_path, capsys):
    rows, model = layers(), tmp_path / "m.nir"
    first = replace(rows[0].synapses[0], headroom=-3)
    rows[0] = replace(rows[0], synapses=(first,), neuron=replace(rows[0].neuron, vth=3))
    export_nir(rows, NODE, model, num_steps=4, method="test")
    program = lower(model)
    assert program.synapses[0].weight_exp == first.num_weight_bits - 9 - 3
    assert floors_sums(program.synapses[0])
    x = np.zeros((1, *first.in_shape), int)
    np.savez(tmp_path / "x.npz", input=x)
    command = ["run", str(model), "--backend", "float", "--input", str(tmp_path / "x.npz"), "--steps", "2"]
    assert invoke(command) == 2
    assert "the sums of layer1_conv2d are rounded down to whole units" in capsys.readouterr().err
    assert invoke(["inspect", str(model), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["states contract"].startswith("one for its integers alone: the sums of")


def test_another_contract_is_refused(model):
    edit_metadata(model, lambda text: text["contract"].update(reset="subtract"))
    with pytest.raises(LavatubeError, match="contract field reset is not supported, expected 'zero', got 'subtract'"):
        lower(model)


def test_loihi1_refuses_graded_input_with_the_remedy(model):
    with pytest.raises(UnsupportedError, match=r"target loihi1: the program needs graded input.*--target loihi2"):
        lower(model, target="loihi1")
    with pytest.raises(LavatubeError, match="unknown target, expected loihi1 or loihi2, got akida"):
        lower(model, target="akida")
