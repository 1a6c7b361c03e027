"""A .net file means its own integers: what is read, written and refused, and what becomes of what does not fit."""

from __future__ import annotations

from dataclasses import replace

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lavatube.cli.app import invoke
from lavatube.deploy.lower import lower
from lavatube.deploy.net_file.integers import exact_mantissas
from lavatube.deploy.net_file.read import lower_net
from lavatube.deploy.net_file.write import write_net
from lavatube.errors import LavatubeError, UnsupportedError
from lavatube.inputs import make_inputs
from lavatube.program import LoihiProgram, SparseNode
from lavatube.program_file import describe, load_program, save_program
from lavatube.sim.fast import run_fast
from lavatube.sim.reference import run_reference

NEURON = {
    "neuron/type": "CUBA", "neuron/iDecay": 1024, "neuron/vDecay": 500, "neuron/vThMant": 60, "neuron/refDelay": 1,
    "neuron/gradedSpike": False,
}  # fmt: skip


def net_file(path, *blocks, **simulation):
    """Write blocks as lava-dl does: strings of one element, numbers as floats."""
    with h5py.File(path, "w") as file:
        file.create_group("layer")
        for number, block in enumerate(blocks):
            for name, value in block.items():
                data = np.array([value], "S10") if isinstance(value, str) else np.asarray(value)
                file[f"layer/{number}/{name}"] = data.astype("f4") if name.startswith("weight") else data
        for name, value in (simulation or {"Ts": 1, "tSample": 12}).items():
            file[f"simulation/{name}"] = value
    return path


def dense(weight, **more):
    return {"type": "dense", "shape": [len(weight)], "weight": weight, **NEURON, **more}


def conv(weight, shape, **more):
    sizes = {"stride": [1, 1], "padding": [0, 0], "dilation": [1, 1], "groups": 1}
    return {"type": "conv", "shape": shape, "weight": weight, **sizes, **NEURON, **more}


def even(rng, *shape, limit=100):
    return 2 * rng.integers(-limit, limit, shape)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.net"


def spikes_of(program, seed=0, steps=12, run=run_reference):
    rng = np.random.default_rng(seed)
    events = rng.integers(0, program.input.max_value + 1, (steps, 2, *program.input.shape))
    return run(program, make_inputs(events, program.input, default_steps=steps), record=frozenset("uv"))


def by_hand(x, block, weight_of_step):
    """Spikes [T, units] of one dense block, in Python integers. weight_of_step(t): a list of (source step, matrix)."""
    units = len(block["weight"])
    bias = np.broadcast_to(block.get("bias", np.zeros(1, int)), units)
    u, v, out = [0] * units, [0] * units, []

    def kept(value, factor):
        return (abs(value) * factor >> 12) * (1 if value >= 0 else -1)

    for t in range(len(x)):
        row = []
        for n in range(units):
            a = sum(int(matrix[n] @ source) for source, matrix in weight_of_step(t, x, out))
            u[n] = kept(u[n], 4096 - block["neuron/iDecay"]) + 64 * a
            v[n] = kept(v[n], 4096 - block["neuron/vDecay"]) + u[n] + 64 * int(bias[n])
            row.append(int(v[n] > 64 * block["neuron/vThMant"]))
            v[n] = 0 if row[n] else v[n]
        out.append(np.array(row))
    return np.array(out)


@pytest.mark.parametrize("form", ["scalar", "neuron", "source", "matrix"])
def test_delays_shift_the_connections_they_belong_to(path, form):
    rng = np.random.default_rng(3)
    weight = even(rng, 4, 6) + 40
    delay = {"scalar": 3.0, "neuron": np.arange(4.0), "source": np.arange(6.0), "matrix": rng.integers(0, 5, (4, 6))}
    matrix = {"neuron": np.arange(4)[:, None], "source": np.arange(6)[None]}.get(form, delay[form])
    matrix = np.broadcast_to(matrix, (4, 6)).astype(int)
    block = dense(weight, delay=delay[form], bias=[3, -5, 0, 7])
    program = lower_net(net_file(path, block), overflow="hardware")
    trace = spikes_of(program)

    def sources(t, x, _):
        return [(x[t - d], np.where(matrix == d, weight, 0)) for d in range(6) if t >= d]

    for sample in range(2):
        expected = by_hand(trace.input[:, sample], block, sources)
        assert 0 < expected.mean() < 1
        np.testing.assert_array_equal(trace.spikes["layer0"][:, sample], expected)


def test_a_recurrent_block_sees_its_own_spikes_of_the_step_before(path):
    rng = np.random.default_rng(4)
    weight, back = even(rng, 5, 3), even(rng, 5, 5)
    block = {**dense(weight, weight_rec=back), "type": "dense_rec"}
    program = lower_net(net_file(path, block), overflow="hardware")
    assert program.is_recurrent
    for run in (run_reference, run_fast):
        trace = spikes_of(program, run=run)
        expected = by_hand(
            trace.input[:, 0], block, lambda t, x, out: [(x[t], weight)] + ([(out[t - 1], back)] if t else [])
        )
        assert 0 < expected.mean() < 1
        np.testing.assert_array_equal(trace.spikes["layer0"][:, 0], expected)


def test_a_last_dense_block_without_neurons_is_the_sum_of_its_currents(path):
    weight = np.array([[2, -4, 6], [127, 0, -128]])
    block = {"type": "dense", "shape": [2], "weight": weight}
    trace = spikes_of(lower_net(net_file(path, block)))
    np.testing.assert_array_equal(trace.readout, trace.input.sum(0) @ weight.T)


@pytest.mark.parametrize(
    ("vth", "reads", "output"),
    [(60, "spikes", "binary"), (131071, "voltage", "binary"), ((1 << 18) - 1, "voltage", "none")],
)
def test_what_the_last_population_is_read_by_follows_from_its_threshold(path, vth, reads, output):
    block = {**dense(np.array([[4, -6]])), "neuron/vThMant": vth}
    program = lower_net(net_file(path, block))
    assert (program.readout.reads, program.neurons[-1].output) == (reads, output)
    trace = spikes_of(program)
    expected = trace.v["layer0"][-1] if reads == "voltage" else trace.spikes["layer0"].sum(0, dtype=np.int64)
    np.testing.assert_array_equal(trace.readout, expected)


@settings(max_examples=300, deadline=None)
@given(
    base=st.lists(st.integers(-300, 300), min_size=1, max_size=6), shift=st.integers(0, 6),
)  # fmt: skip
def test_weights_are_exact_or_said_not_to_be(base, shift):
    weight = np.array(base, np.int64) << shift
    found = exact_mantissas(weight)
    if found is None:
        signs = {bool(w > 0) for w in base if w}
        assert max(map(abs, base)) > (127 if len(signs) == 2 else 255)
    else:
        mantissas, _, exponent, _ = found
        for s in (1, 3):
            assert [((int(m) * s) << 8 + exponent) >> 8 for m in mantissas] == (weight * s).tolist()


def test_what_the_registers_do_not_hold_is_clipped_and_listed_and_refused_by_strict(path):
    weight = np.array([[300, -7], [2, 3]])
    block = {**dense(weight, bias=[5001, -9000], delay=[70, 0]), "neuron/iDecay": 0, "neuron/vDecay": 4096}
    block["neuron/refDelay"] = 4
    net_file(path, block)
    with h5py.File(path, "a") as file:
        file["notes"] = 1
    program = lower_net(path, overflow="hardware")
    words = [record["what"] for record in program.lossy]
    for word in ("/notes", "weights", "delays", "bias", "refDelay 4", "iDecay 0 clipped to 1", "vDecay 4096"):
        assert sum(word in line for line in words) == 1, (word, words)
    assert len(words) == 7
    effective = {}
    for node in program.synapses:
        for unit in range(2):
            for place in range(node.indptr[unit], node.indptr[unit + 1]):
                value = int(node.weight[place]) << 8 + node.weight_exp >> 8
                effective[unit, int(node.index[place])] = (value, node.delay)
    assert effective == {(0, 0): (254, 62), (0, 1): (-8, 62), (1, 0): (2, 0), (1, 1): (2, 0)}
    neurons = program.neurons[0]
    assert (neurons.du, neurons.dv, neurons.bias_mant.tolist(), neurons.bias_exp) == (0, 4095, [4095, -4096], 6)
    with pytest.raises(LavatubeError, match="lossy steps"):
        lower_net(path, overflow="hardware", strict=True)


def changed(block, **change):
    return {name: value for name, value in {**block, **change}.items() if value is not None}


W = np.array([[2, 4, 6]])
K = np.ones((2, 1, 2, 2)) * 2
REFUSED = [
    *(([changed(dense(W), type=kind)], f"block type '{kind}'") for kind in ("pool", "convT", "unpool", "concat")),
    ([{"type": "dense_comp", "shape": [1]}], "resonate-and-fire"),
    ([changed(dense(W), weight=None) | {"weight/real": W, "weight/imag": W}], "complex weights"),
    *(([dense(W, **{"neuron/type": kind})], f"neuron type '{kind}'") for kind in ("SDNN", "ALIF", "RF_PHASE")),
    ([dense(W, **{"neuron/gradedSpike": True})], "neuron/gradedSpike"),
    ([dense(W, **{"neuron/weight_exp": 2})], "neuron/weight_exp"),
    ([dense(W, **{"neuron/wgtExp": 1})], "neuron/wgtExp"),
    ([dense(W, **{"neuron/threshold_step": 1})], "unknown field of a neuron"),
    ([dense(W, **{"neuron/vDecay": [1, 2]})], "differs between neurons"),
    ([dense(W, momentum=1)], "unknown field of a dense block"),
    ([changed(dense(W), type="dense_rec", weight_rec=[[2]], delay=[1])], "delays in a recurrent block"),
    ([{"type": "input", "shape": [1, 3, 3]}, conv(K, [2, 2, 2], delay=[1, 2])], "delays in a conv block"),
    ([{"type": "input", "shape": [1, 1, 3]}, dense(W)], "put a flatten block before it"),
    ([{"type": "input", "shape": [3], **NEURON}, dense(W)], "input neurons that keep current"),
    ([{"type": "dense", "shape": [1], "weight": W}, dense([[2]])], "a dense block after a block without neurons"),
]
WRONG = [
    ([dense(W + 0.5)], "not integers"),
    ([dense(W * np.nan)], "not integers"),
    ([dense(W * 1e12)], "too large"),
    ([dense(W, shape=[0])], "shape"),
    ([dense(W, shape=[2])], "weight"),
    ([dense(W, shape=[1 << 30])], "at most"),
    ([dense(W, inFeatures=4)], "inFeatures"),
    ([dense(W), dense(W)], "weight columns"),
    ([dense(W, bias=[1, 2])], "bias"),
    ([dense(W, delay=[1, 2])], "delay"),
    ([dense(W, delay=-1.0)], "delay"),
    ([dense(W, **{"neuron/vThMant": -1})], "vThMant"),
    ([dense(W, **{"neuron/iDecay": 4097})], "iDecay"),
    ([changed(dense(W), **{"neuron/vDecay": None})], "vDecay"),
    ([conv(K, [2, 2, 2])], "give (C, H, W) as input_shape"),
    ([{"type": "input", "shape": [1, 3, 3]}, conv(K, [2, 3, 3])], "shape, expected (2, 2, 2), got (2, 3, 3)"),
    ([{"type": "input", "shape": [2, 3, 3]}, conv(K, [2, 2, 2])], "weight input channels"),
    ([{"type": "input", "shape": [1, 3, 3]}, conv(K, [2, 2, 2], stride=[0, 1])], "stride"),
    ([{"type": "input", "shape": [1, 3, 3]}, conv(K, [2, 2, 2], kernelSize=[3, 3])], "kernelSize"),
    ([{"type": "input", "shape": [1, 3, 3]}, conv(K, [2, 2, 2], bias=[1, 2, 3])], "bias"),
    ([dense(W), {"type": "average", "shape": [3]}], "average"),
    ([{"type": "input", "shape": [3]}, {"type": "flatten", "shape": [4]}], "shape, expected 3 values"),
    ([{"type": "input", "shape": [3]}], "a network without neurons"),
    ([{"shape": [3]}], "not a block"),
    ([], "layers"),
]


@pytest.mark.parametrize(("blocks", "words"), [*REFUSED, *WRONG], ids=[words for _, words in [*REFUSED, *WRONG]])
def test_what_has_no_exact_place_is_refused_in_one_line(path, capsys, blocks, words):
    net_file(path, *blocks)
    with pytest.raises(LavatubeError) as caught:
        lower_net(path)
    assert words in str(caught.value)
    assert isinstance(caught.value, UnsupportedError) == any(blocks is each for each, _ in REFUSED)
    assert invoke(["lower", str(path)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not (path.parent / "program.safetensors").exists()


def test_files_of_strangers_are_refused(path, tmp_path):
    def refused(words):
        with pytest.raises(LavatubeError, match=words) as caught:
            lower_net(path)
        assert "\n" not in str(caught.value)

    refused("no such file, expected a .net file")
    path.write_text("hello")
    refused("damaged or foreign file")
    with h5py.File(path, "w") as file:
        file["x"] = 1
    refused("not a .net file")
    with h5py.File(path, "w") as file:
        file["layer/0/type"] = h5py.SoftLink("/x")
    refused("links other than hard links")
    with h5py.File(path, "w") as file:
        file["layer/0/weight"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/x")
    refused("links other than hard links")
    with h5py.File(path, "w") as file:
        file["layer/0/type"] = np.array(["dense"], h5py.string_dtype())
        file["layer/0/shape"] = np.array(["x"], h5py.string_dtype())
    refused("dtype, expected integers")
    with h5py.File(path, "w") as file:
        file["layer/0/type"], file["layer/2/type"] = "dense", "dense"
    refused("layers, expected groups 0, 1")
    net_file(path, dense(W))
    raw = path.read_bytes()
    for cut in (len(raw) // 3, len(raw) - 7):
        path.write_bytes(raw[:cut])
        refused("damaged or foreign file")
    net_file(path, dense(W), Ts=0, tSample=4)
    refused("simulation")
    net_file(path, dense(W), Ts=1)
    refused("how many timesteps")


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_a_written_program_is_read_as_itself(tmp_path_factory, seed):
    path = tmp_path_factory.mktemp("net") / "x.net"
    program = random_net(path, seed)
    write_net(program, path.with_name("y.net"))
    again = lower_net(path.with_name("y.net"), overflow="hardware", input_bits=program.input.message_bits)
    (tensors, header), (tensors_again, header_again) = describe(program), describe(again)
    assert tensors.keys() == tensors_again.keys()
    assert all(np.array_equal(tensors[name], tensors_again[name]) for name in tensors)
    for both in (header, header_again):
        both.pop("source")
        both.pop("lossy")
    assert header == header_again


def random_net(path, seed) -> LoihiProgram:
    """Lowered from a random file: an image or a vector, convolutions, delays, recurrence, three kinds of ends."""
    rng = np.random.default_rng(seed)
    blocks, features = [], int(rng.integers(1, 8))
    if rng.random() < 0.5:
        shape = (int(rng.integers(1, 3)), int(rng.integers(3, 6)), int(rng.integers(3, 6)))
        currents = {"weight": [36.0], "bias": [34.0], **NEURON, "neuron/iDecay": 4096} if rng.random() < 0.5 else {}
        blocks.append({"type": "input", "shape": shape, **currents})
        channels, kernel = int(rng.integers(1, 4)), rng.integers(1, 4, 2)
        out = (channels, *(np.array(shape[1:]) - kernel + 1))
        weight = even(rng, channels, shape[0], *kernel)
        blocks.append(
            conv(weight[..., None] if rng.random() < 0.5 else weight, out, bias=rng.integers(-60, 60, channels))
        )
        blocks.append({"type": "flatten", "shape": [int(np.prod(out)), 1, 1]})
        features = int(np.prod(out))
    else:
        blocks.append({"type": "input", "shape": [features]})
    for _ in range(int(rng.integers(1, 4))):
        units = int(rng.integers(1, 8))
        block = dense(even(rng, units, features), bias=rng.integers(-60, 60, units))
        kind = rng.random()
        if kind < 0.3:
            block["delay"] = rng.integers(0, 63, units).astype("f4")
        elif kind < 0.5:
            block |= {"type": "dense_rec", "weight_rec": even(rng, units, units)}
        blocks.append(block)
        features = units
    if rng.random() < 0.5:
        blocks.append({"type": "dense", "shape": [3], "weight": even(rng, 3, features)})
    elif rng.random() < 0.5 and blocks[-1]["type"] == "dense":
        blocks[-1] = {**blocks[-1], "neuron/vThMant": (1 << 18) - 1}
    return lower_net(net_file(path, *blocks), overflow="hardware")


def test_synapses_that_fit_alone_but_not_together_are_refused(path, tmp_path):
    """One block is one matrix: 253 and -3 have no common 8 bits, though each has its own."""
    program = lower_net(net_file(path, dense(W * 10, bias=[3])), overflow="hardware")
    first = program.synapses[0]
    target, shape = program.neurons[0], (int(np.prod(first.out_shape)), int(np.prod(first.in_shape)))

    def one(name, column, weight, sign, delay):
        indptr = np.arange(shape[0] + 1)
        index = np.full(shape[0], column, np.int32)
        return SparseNode(
            name, first.in_shape, first.out_shape, np.full(shape[0], weight, np.int16), index, indptr, 8, 0, delay, sign
        )

    parts = one("a", 0, 253, "excitatory", 0), one("b", 1, -3, "inhibitory", 1)
    nodes = (program.nodes[0], *parts, *(node for node in program.nodes[1:] if node is not first))
    edges = [edge for edge in program.edges if first.name not in edge]
    edges += [("input", "a"), ("input", "b"), ("a", target.name), ("b", target.name)]
    with pytest.raises(UnsupportedError, match="weights that are not 8 bits within"):
        write_net(replace(program, nodes=nodes, edges=tuple(edges)), tmp_path / "out.net")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"node": "layer0_dense", "weight_exp": -9 + 4}, "a weight that is no integer"),
        ({"node": "layer0_dense", "weight_exp": 4}, "weights that are not 8 bits within"),
        ({"node": "layer0", "bias_exp": 0}, "a bias that is no whole number"),
        ({"node": "layer0", "refractory": 2}, "not Loihi's plain integrate-and-fire"),
        ({"node": "layer0", "reset": "subtract"}, "not Loihi's plain integrate-and-fire"),
        ({"node": "output", "bias": np.array([1])}, "a read-out of spikes"),
        ({"node": "output", "reads": "voltage"}, "a read-out of voltage"),
        ({"node": "layer0", "reset_interval": 4, "reset_offset": 1}, "a periodic reset"),
    ],
)
def test_a_program_that_a_net_file_cannot_say_is_refused_by_name(path, change, words):
    program = lower_net(net_file(path, dense(W * 10, bias=[3])), overflow="hardware")
    name = change.pop("node")
    nodes = tuple(replace(node, **change) if node.name == name else node for node in program.nodes)
    with pytest.raises(UnsupportedError, match=words):
        write_net(replace(program, nodes=nodes), path.with_name("y.net"))
    assert not path.with_name("y.net").exists()


def test_the_command_line_lowers_inspects_and_exports(path, capsys, tmp_path):
    net_file(path, conv(K, [2, 2, 2]), {"type": "flatten", "shape": [8]}, dense(np.full((3, 8), 20)), Ts=1)
    out, back = tmp_path / "p.safetensors", tmp_path / "back.net"
    assert invoke(["inspect", str(path)]) == 0
    assert "give (C, H, W)" in capsys.readouterr().out
    words = "--num-steps 9 --input-shape 1,3,3 --input-bits 4 --reset-interval 3".split()
    assert invoke(["lower", str(path), "--out", str(out), *words]) == 0
    program = load_program(out)
    assert (program.num_steps, program.input.shape, program.input.message_bits) == (9, (1, 3, 3), 4)
    assert {node.reset_interval for node in program.neurons} == {3}
    assert invoke(["export", str(out), "--net", str(back)]) == 0
    assert "give netx.hdf5.Network input_message_bits=4, reset_interval=3" in capsys.readouterr().out
    assert invoke(["inspect", str(back)]) == 0
    assert "loihi2 accepts it" in capsys.readouterr().out
    assert lower(back).by_name["layer1_conv"].weight.tolist() == program.by_name["layer0_conv"].weight.tolist()


def test_options_of_net_files_are_refused_for_nir_and_bad_sizes_in_one_line(path, capsys, tmp_path, small_program):
    save_program(small_program(1), tmp_path / "p.safetensors")
    for words in (["lower", "x.nir", "--num-steps", "3"], ["lower", str(path), "--input-shape", "3,x"]):
        assert invoke(words) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
    assert invoke(["export", str(tmp_path / "p.safetensors"), "--net", str(path)]) == 2
    assert "has no exact place in a .net file" in capsys.readouterr().err
