"""An exported file, read by other platforms' own importers: every spike of every neuron as ours.

Norse and nirtorch run here; snnTorch and SpikingJelly by the commands in docs/nir.md.
"""

from __future__ import annotations

import nir
import numpy as np
import pytest
from check_export import RUN, compare
from exported_networks import KINDS, exported, network

from lavatube.deploy.lower import lower

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def counts(platform, kind, tmp_path, seed=0):
    pytest.importorskip("norse", reason="norse is not installed")
    pytest.importorskip("nirtorch", reason="nirtorch is not installed")
    _, x = exported(kind, tmp_path / "m.nir", seed)
    theirs = RUN[platform](nir.read(str(tmp_path / "m.nir")), x)
    return compare(platform, tmp_path / "m.nir", x, {name: value > 0 for name, value in theirs.items()})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("platform", ["norse", "nirtorch"])
def test_the_platform_reads_the_file_as_it_is_meant(platform, kind, tmp_path):
    if (platform, kind) == ("norse", "residual"):
        pytest.skip("Norse's executor visits a sum before its second addend: see the next test")
    found = counts(platform, kind, tmp_path)
    assert len(found) == sum(layer.neuron is not None for layer in network(kind)[0])
    assert all(spikes > 10 and unlike == 0 for spikes, unlike, _, _ in found.values()), found


def test_norses_own_importer_is_late_with_a_shortcut_and_nirtorch_is_not(tmp_path):
    """nirtorch 2.6's old executor runs a node before all that it adds up; when this fails, docs/nir.md can say so."""
    unlike = {name: row[1] for name, row in counts("norse", "residual", tmp_path).items()}
    assert [count > 0 for count in unlike.values()] == [False, True, True]


def test_a_comparator_of_its_own_changes_spikes_where_v_meets_the_threshold(tmp_path):
    from lavatube.contract_presets import preset
    from lavatube.convert.float_graph.read import read_float_graph
    from lavatube.convert.float_graph.simulate import simulate

    _, x = exported("ties", tmp_path / "m.nir")
    graph = read_float_graph(tmp_path / "m.nir")
    at, above = (simulate(graph, preset(name), x).spikes for name in ("spikingjelly", "snntorch"))
    assert {name: int((at[name] != above[name]).sum()) for name in at} == {"layer1_lif": 246, "layer2_lif": 202}


@pytest.mark.parametrize("kind", KINDS)
def test_the_file_keeps_the_conventions(kind, tmp_path):
    graph, _ = exported(kind, tmp_path / "m.nir")
    layers, _ = network(kind)
    assert {type(node).__name__ for node in graph.nodes.values()} <= {
        "Input", "Output", "Affine", "Conv2d", "SumPool2d", "Flatten", "CubaLIF",
    }  # fmt: skip
    back = [(a, b) for a, b in graph.edges if a >= b]
    assert len(back) == (kind == "recurrent")
    assert all(name.isidentifier() and name.isascii() for name in graph.nodes)
    assert min(graph.nodes) == "input"
    assert max(graph.nodes) == "output"
    for name, node in graph.nodes.items():
        if isinstance(node, nir.CubaLIF):
            shape = next(layer.out_shape for layer in layers if name.endswith(layer.node_name))
            for field in ("tau_syn", "tau_mem", "r", "v_leak", "v_threshold", "v_reset", "w_in"):
                value = getattr(node, field)
                assert (value.dtype, value.shape, np.unique(value).size) == (np.float64, shape, 1)
            np.testing.assert_array_equal(node.r, node.tau_mem / 1e-4)
        if isinstance(node, nir.Conv2d):
            half = kind == "pooled" and name == "layer2_conv2d"
            assert (int(node.groups), tuple(node.input_shape)) == (1, (3, 3) if half else (6, 6))
        if isinstance(node, (nir.Conv2d, nir.Affine)):
            assert node.bias.dtype == np.float64
            assert bool(node.metadata["quant_weight"])
            scale = float(node.metadata["quant_weight_scale"])
            assert (np.rint(node.weight / scale) * scale == node.weight).all()
            scale = float(node.metadata["quant_bias_scale"])
            assert (np.rint(node.bias / scale) * scale == node.bias).all()


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_spelled_for_others_comes_back_as_it_was(kind, tmp_path):
    exported(kind, tmp_path / "m.nir")
    program, (layers, _) = lower(tmp_path / "m.nir"), network(kind)
    assert [node.name for node in program.neurons] == [layer.node_name for layer in layers if layer.neuron]
    made = [synapse for layer in layers for synapse in layer.synapses]
    assert [node.name for node in program.synapses] == [synapse.node_name for synapse in made]
    for node, synapse in zip(program.synapses, made, strict=True):
        integers = synapse.weight.astype(np.int16) << 1
        if synapse.pool is not None and synapse.kind == "conv2d":
            integers = np.kron(integers, np.ones((1, 1, 2, 2), np.int16))
            assert (node.stride, node.padding) == ((2, 2), (2, 2))
        elif synapse.pool is not None:
            integers = np.kron(integers, np.ones((1, 9), np.int16))
        np.testing.assert_array_equal(node.weight.ravel(), integers.ravel())
        assert getattr(node, "groups", 1) == (synapse.in_shape[0] if synapse.kind == "scale" else 1)
