"""Several inputs and several read-outs, through every engine, the files, the counts and the comparison."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lavatube.cli.app import invoke
from lavatube.errors import LavatubeError, UnsupportedError
from lavatube.inputs import load_inputs, make_inputs, save_inputs
from lavatube.program import Conv2dNode, DenseNode, InputNode, LoihiProgram, NeuronNode, ReadoutNode
from lavatube.program_file import save_program
from lavatube.sim.compare import compare
from lavatube.sim.counts import count
from lavatube.sim.fast import FastEngine
from lavatube.sim.parity import parity
from lavatube.sim.reference import run_reference
from lavatube.sim.run import run
from lavatube.trace import load_trace, save_trace

STEPS = 6


def two_senses(*, joined: bool = True) -> LoihiProgram:
    """An image and a vector with a population each, which one read-out adds up; two more hear one population each."""
    rng = np.random.default_rng(0)

    def weight(*shape: int) -> np.ndarray:
        return (rng.integers(-100, 101, shape) * 2).astype(np.int16)

    def neurons(name: str, shape: tuple[int, ...], vth: int) -> NeuronNode:
        return NeuronNode(name, shape, 4095, 500, vth, rng.integers(-90, 90, shape).astype(np.int16), 4)

    look = Conv2dNode("look", (2, 4, 5), weight(3, 2, 2, 3), 8, -1)
    seen, heard = neurons("seen", look.out_shape, 2000), neurons("heard", (7,), 120)
    size = int(np.prod(seen.shape))
    nodes = (
        InputNode("eye", (2, 4, 5), 4), InputNode("ear", (6,), 1),
        look, seen, DenseNode("listen", (6,), weight(7, 6), 8, 0), heard,
        DenseNode("what_seen", seen.shape, weight(4, size), 8, 0), DenseNode("what_heard", (7,), weight(4, 7), 8, 0),
        ReadoutNode("what", rng.integers(-9, 9, 4)),
        ReadoutNode("spikes", rng.integers(-9, 9, 7), "spikes"),
        ReadoutNode("state", rng.integers(-9, 9, size), "voltage"),
    )  # fmt: skip
    edges = "eye>look look>seen ear>listen listen>heard seen>what_seen what_seen>what heard>spikes seen>state "
    edges += "heard>what_heard what_heard>what"
    program = LoihiProgram(nodes, pairs(edges), STEPS, {"kind": "test", "sha256": ""}, overflow="hardware")
    if joined:
        return program
    left = tuple(node for node in nodes if node.name != "what_heard")  # two networks that nothing connects
    return replace(program, nodes=left, edges=tuple(edge for edge in program.edges if "what_heard" not in edge))


def pairs(text: str) -> tuple[tuple[str, str], ...]:
    return tuple((a, b) for a, b in (edge.split(">") for edge in text.split()))


def arrays(batch: int = 3, steps: int = STEPS) -> dict[str, np.ndarray]:
    """A static image and a timed vector."""
    rng = np.random.default_rng(1)
    return {"ear": rng.integers(0, 2, (steps, batch, 6)), "eye": rng.integers(0, 16, (batch, 2, 4, 5))}


def test_inputs_of_another_type_are_refused_by_name() -> None:
    program = two_senses()
    with pytest.raises(LavatubeError, match=r"inputs, expected X\.npz, an array.*, got list"):
        run(program, [1, 2])  # type: ignore[arg-type]
    with pytest.raises(LavatubeError, match="expected a NumPy array of integers, got list"):
        run(program, {"eye": [[1]], "ear": [[1]]})  # type: ignore[dict-item]


def test_the_fast_engine_equals_the_reference_in_blocks_of_every_size() -> None:
    program, length = two_senses(), np.array([6, 2, 0])
    inputs = make_inputs(arrays(), program.inputs, default_steps=STEPS, length=length)
    reference = run_reference(program, inputs, record=frozenset("uv"))
    assert [list(reference.inputs), list(reference.readouts)] == [["eye", "ear"], ["what", "spikes", "state"]]
    assert 0 < reference.spikes["seen"].mean() < 1
    assert 0 < reference.spikes["heard"].mean() < 1
    for elements in (1, 60, 1 << 20):
        trace = FastEngine(program, elements=elements).run(inputs, record=frozenset("uv"))
        assert compare(reference, trace).equal


@pytest.mark.parametrize(("joined", "conv"), [(True, "auto"), (True, "conv"), (False, "auto")])
def test_lava_equals_the_reference_also_where_two_parts_are_not_connected(joined: bool, conv: str) -> None:
    program = two_senses(joined=joined)
    traces = [run(program, arrays(), backend=name, record="uv", conv=conv) for name in ("reference", "lava")]
    assert traces[1].meta["processes"]["look"]["process"] == ("lava Conv" if conv == "conv" else "lava Sparse")
    comparison = compare(*traces)
    assert comparison.equal, str(comparison.first)
    assert [row.layer for row in comparison.rows if row.quantity == "readout"] == [
        "readout/what", "readout/spikes", "readout/state",
    ]  # fmt: skip
    assert np.unique(traces[0].predictions["what"]).size > 1


@pytest.mark.parametrize("name", ["what", "spikes", "state"])
def test_a_difference_in_any_read_out_is_seen_with_its_name(name: str) -> None:
    trace = run(two_senses(), arrays())
    changed = {key: value.copy() for key, value in trace.readouts.items()}
    changed[name][1, 2] += 1
    comparison = compare(trace, replace(trace, readouts=changed))
    first = comparison.first
    assert first is not None
    assert (first.layer, first.sample, first.neuron) == (f"readout/{name}", 1, (2,))
    assert len([row for row in comparison.rows if row.mismatches]) == 1


def test_a_difference_in_any_input_makes_traces_incomparable() -> None:
    trace = run(two_senses(), arrays())
    ear = trace.inputs["ear"] ^ 1
    with pytest.raises(LavatubeError, match="traces of different inputs"):
        compare(trace, replace(trace, inputs={**trace.inputs, "ear": ear}))


def test_the_only_input_or_read_out_is_refused_where_there_are_several() -> None:
    trace = run(two_senses(), arrays())
    for name, names in (("input", "eye, ear"), ("readout", "what, spikes, state"), ("prediction", "what, spikes")):
        with pytest.raises(UnsupportedError, match=names):
            getattr(trace, name)


def test_counts_take_every_synapse_from_its_own_input() -> None:
    program = two_senses()
    trace = run(program, arrays())
    layers = count(program, trace).layers
    for synapse, source in (("look", "eye"), ("listen", "ear")):
        assert layers[synapse].events_in == (trace.inputs[source] != 0).sum() > 0
    assert layers["what_seen + what_heard"].host_additions == 4 * 3 * STEPS
    with pytest.raises(LavatubeError, match="not one of this program"):
        count(program, replace(trace, inputs={"eye": trace.inputs["eye"]}))


def test_the_files_hold_every_input_and_read_out_by_name(tmp_path) -> None:  # type: ignore[no-untyped-def]
    program = two_senses()
    batch = make_inputs(arrays(), program.inputs, default_steps=STEPS)
    save_inputs(batch, tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz") as opened:
        assert set(opened.files) == {"input/eye", "input/ear", "length"}
        assert opened["input/eye"].shape == (3, 2, 4, 5)  # static: once
    loaded = load_inputs(tmp_path / "x.npz", program.inputs, default_steps=1)
    assert all((loaded.by_name[name] == batch.by_name[name]).all() for name in ("eye", "ear"))
    trace = run(program, tmp_path / "x.npz", out=tmp_path / "t.npz")
    with np.load(tmp_path / "t.npz") as opened:
        ends = {key for key in opened.files if key.split("/")[0] in ("input", "readout", "prediction")}
        kinds = {"input": ("eye", "ear")} | dict.fromkeys(("readout", "prediction"), ("what", "spikes", "state"))
        assert ends == {f"{kind}/{name}" for kind, names in kinds.items() for name in names}
        assert (opened["prediction/spikes"] == trace.readouts["spikes"].argmax(1)).all()
    assert compare(trace, load_trace(tmp_path / "t.npz")).equal
    swapped = replace(trace, readouts=dict(reversed(list(trace.readouts.items()))))
    save_trace(swapped, tmp_path / "s.npz")
    assert list(load_trace(tmp_path / "s.npz").readouts) == ["state", "spikes", "what"]


def test_parity_and_inspect_know_every_end(tmp_path, capsys) -> None:  # type: ignore[no-untyped-def]
    program = two_senses()
    save_program(program, tmp_path / "p.safetensors")
    batch = make_inputs(arrays(), program.inputs, default_steps=STEPS, label=np.array([0, 1, 2]))
    save_inputs(batch, tmp_path / "x.npz")
    report = parity(tmp_path / "p.safetensors", data=tmp_path / "x.npz", against=["fast"])
    rows = [row.layer for row in report.engines[0].comparison.rows]
    assert rows == ["seen", "heard", "readout/what", "readout/spikes", "readout/state"]
    assert report.equal
    assert report.accuracy is None  # of which of the three read-outs would it be
    run(program, batch, out=tmp_path / "t.npz")
    assert invoke(["inspect", str(tmp_path / "t.npz")]) == 0
    shown = capsys.readouterr().out
    for line in ("eye [6, 3, 2, 4, 5]", "ear [6, 3, 6]", "what [3, 4]", "spikes [3, 7]", "state [3, 27]"):
        assert line in shown
