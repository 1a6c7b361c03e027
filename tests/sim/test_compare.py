"""A single difference is found and named exactly; the first one is the cause."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from lavatube.errors import LavatubeError
from lavatube.sim.compare import compare
from lavatube.sim.fast import run_fast
from lavatube.sim.reference import run_reference
from lavatube.trace import load_trace, save_trace


@pytest.fixture
def trace(small_program, random_inputs):
    program = small_program(1)
    return run_reference(program, random_inputs(program), record=frozenset("uv"))


def changed(trace, group, layer, place, by=1):
    values = {name: value.copy() for name, value in getattr(trace, group).items()}
    values[layer][place] ^= np.array(by, values[layer].dtype)
    return replace(trace, **{group: values})


def test_equal_traces_are_equal_and_say_how_much_was_compared(trace):
    comparison = compare(trace, trace)
    assert comparison.equal
    assert comparison.first is None
    assert comparison.neuron_steps == sum(value.size for value in trace.spikes.values())


def test_one_flipped_spike_is_named_by_layer_step_sample_and_neuron(trace):
    other = changed(trace, "spikes", "layer2_lif", (3, 2, 1, 0, 2))
    comparison = compare(trace, other)
    first = comparison.first
    assert (first.layer, first.quantity, first.step, first.sample, first.neuron) == (
        "layer2_lif",
        "spikes",
        3,
        2,
        (1, 0, 2),
    )
    assert {first.a, first.b} == {0, 1}
    assert [row.mismatches for row in comparison.rows if row.layer == "layer2_lif"] == [1, 0, 0]


def test_the_first_divergence_is_the_earliest_step_then_the_layer_nearest_to_the_input(trace):
    late = changed(trace, "spikes", "layer1_lif", (4, 0, 0, 0, 0))
    both = changed(late, "spikes", "layer2_lif", (2, 3, 0, 0, 0))
    assert compare(trace, both).first.layer == "layer2_lif"
    same = changed(late, "spikes", "layer2_lif", (4, 0, 0, 0, 0))
    assert compare(trace, same).first.layer == "layer1_lif"
    state = changed(trace, "v", "layer1_lif", (1, 1, 1, 1, 1))
    assert (compare(trace, state).first.quantity, compare(trace, state).first.step) == ("v", 1)


def test_a_different_readout_is_seen(trace):
    readout = trace.readout.copy()
    readout[2, 1] += 1
    comparison = compare(trace, replace(trace, readouts={"output": readout}))
    assert (comparison.first.layer, comparison.first.sample, comparison.first.neuron) == ("readout", 2, (1,))


def test_traces_of_other_inputs_lengths_or_shapes_are_not_comparable(trace, small_program, random_inputs):
    program = small_program(1)
    for other in (
        run_reference(program, random_inputs(program, seed=9)),
        run_reference(program, random_inputs(program, length=np.array([1, 2, 3, 4]))),
        run_reference(program, random_inputs(program, 3)),
    ):
        with pytest.raises(LavatubeError, match="traces of different"):
            compare(trace, other)


def test_a_packed_trace_is_the_same_and_refused_when_bits_are_missing(small_program, random_inputs, tmp_path):
    program = small_program(4)
    inputs = random_inputs(program, 5, 7, length=np.array([7, 3, 0, 1, 7]))
    for run in (run_reference, run_fast):
        trace = run(program, inputs, record=frozenset("uv"))
        save_trace(trace, tmp_path / "packed.npz", packed=True)
        loaded = load_trace(tmp_path / "packed.npz")
        assert compare(trace, loaded).equal
        assert {name: value.dtype for name, value in loaded.spikes.items()} == dict.fromkeys(trace.spikes, np.uint8)
    with np.load(tmp_path / "packed.npz") as opened:
        arrays = dict(opened)
    assert not any(name.startswith("spikes/") for name in arrays)
    name = next(name for name in arrays if name.startswith("bits/"))
    np.savez(tmp_path / "broken.npz", **{**arrays, name: arrays[name][:-1]})
    with pytest.raises(LavatubeError, match="malformed trace"):
        load_trace(tmp_path / "broken.npz")


def test_a_packed_file_keeps_payloads_and_signs_as_they_are(trace, tmp_path):
    name = next(iter(trace.spikes))
    graded = changed(trace, "spikes", name, (0, 0, 0, 0, 0), 3)
    save_trace(graded, tmp_path / "graded.npz", packed=True)
    assert compare(graded, load_trace(tmp_path / "graded.npz")).equal


def test_a_trace_survives_its_file_and_a_broken_one_is_refused(trace, tmp_path):
    path = tmp_path / "t.npz"
    save_trace(trace, path)
    loaded = load_trace(path)
    assert compare(trace, loaded).equal
    assert {row.quantity for row in compare(trace, loaded).rows} == {"spikes", "u", "v", "readout"}
    assert loaded.meta == trace.meta
    raw = path.read_bytes()
    for broken in (raw[: len(raw) // 2], b"nothing", raw[:50]):
        path.write_bytes(broken)
        with pytest.raises(LavatubeError, match=r"t\.npz"):
            load_trace(path)
    np.savez(path, input=np.zeros(3))
    with pytest.raises(LavatubeError, match="not a trace"):
        load_trace(path)


def damaged(arrays, meta, what):
    """One thing that is wrong in an otherwise whole file."""
    first = meta["layers"][0]
    if what == "a layer without spikes":
        del arrays[f"spikes/{first}"]
    elif what == "no layers":
        meta["layers"] = []
    elif what == "a layer twice":
        meta["layers"].append(first)
    elif what == "spikes of nobody":
        arrays["spikes/zzz"] = arrays[f"spikes/{first}"]
    elif what == "two forms":
        arrays |= {f"bits/{first}": np.zeros(1, np.uint8), f"shape/{first}": np.array([1])}
    elif what in ("short", "long"):
        arrays["length"] = arrays["length"] + (1000 if what == "long" else -1000)
    elif what == "length as text":
        arrays["length"] = arrays["length"].astype(str)
    elif what == "no classes":
        arrays["readout"] = arrays["readout"][:, :0]
    elif what == "a read-out of nobody":
        arrays["readout/zzz"] = arrays["readout"]
    elif what == "an input without a name":
        meta["inputs"] = []
    elif what == "two names for one input":
        meta["inputs"].append("zzz")
    elif what == "float input":
        arrays["input"] = arrays["input"].astype(float)
    else:
        meta[what] = 5


@pytest.mark.parametrize(
    "what",
    ["a layer without spikes", "no layers", "a layer twice", "spikes of nobody", "two forms", "short", "long",
     "length as text", "no classes", "a read-out of nobody", "an input without a name", "two names for one input",
     "float input", "inputs", "readouts", "engine", "processes", "layers"],
)  # fmt: skip
def test_a_trace_that_contradicts_itself_is_refused(trace, tmp_path, what):
    save_trace(trace, tmp_path / "t.npz")
    with np.load(tmp_path / "t.npz") as opened:
        arrays = dict(opened)
    meta = json.loads(str(arrays["meta"]))
    damaged(arrays, meta, what)
    np.savez(tmp_path / "d.npz", **{**arrays, "meta": np.array(json.dumps(meta))})
    with pytest.raises(LavatubeError, match=r"d\.npz"):
        load_trace(tmp_path / "d.npz")
