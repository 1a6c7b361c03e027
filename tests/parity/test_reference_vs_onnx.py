"""ONNX Runtime, looping the exported timestep, equals the reference: spikes, u, v and read-out, tolerance zero."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="needs the extra onnx")
pytest.importorskip("onnxruntime", reason="needs the extra onnx")

from lavatube.deploy.onnx_file.write import step_model, write_onnx  # noqa: E402
from lavatube.errors import LavatubeError  # noqa: E402
from lavatube.inputs import make_inputs  # noqa: E402
from lavatube.program import DenseNode, InputNode, LoihiProgram, NeuronNode, ReadoutNode  # noqa: E402
from lavatube.sim import onnx_run  # noqa: E402
from lavatube.sim.compare import compare  # noqa: E402
from lavatube.sim.onnx_run import run_onnx  # noqa: E402
from lavatube.sim.reference import run_reference  # noqa: E402
from lavatube.sim.run import run  # noqa: E402

BOTH = frozenset("uv")
DOCUMENT = Path(__file__).parents[2] / "docs" / "onnx.md"


def difference(program, inputs, other=None):
    """First place where ONNX Runtime on `other` differs from the reference on `program`, or None."""
    trace = run_onnx(other or program, inputs, record=BOTH)
    reference = run_reference(program, inputs, record=BOTH)
    assert list(trace.spikes) == list(reference.spikes)
    assert all(trace.spikes[name].dtype == reference.spikes[name].dtype for name in trace.spikes)
    return compare(reference, trace).first


@pytest.mark.parametrize("seed", range(60))
def test_random_programs_of_every_node_and_option_agree(random_case, seed):
    assert difference(*random_case(seed, ends=False)) is None


@pytest.mark.parametrize("seed", range(0, 36, 3))
def test_a_second_executor_of_onnx_finds_the_same(random_case, seed):
    """ONNX's own evaluator in Python: the file leans on the specification, not on one runtime."""
    from onnx.reference import ReferenceEvaluator

    program, inputs = random_case(seed, ends=False)
    inputs = make_inputs(inputs.events[:12], program.input, default_steps=12)
    model, said = step_model(program)
    evaluator, reference = ReferenceEvaluator(model), run_reference(program, inputs, record=BOTH)
    sizes = {"batch": inputs.batch}
    state = {
        row.name: np.broadcast_to(np.int64(row.initial), [sizes.get(size, size) for size in row.shape])
        for row in said.states
    }
    for t in range(inputs.num_steps):
        made = evaluator.run(None, {"input": inputs.events[t], **state})
        out = dict(zip(evaluator.output_names, made, strict=True))
        state = {name: out[f"next/{name}"] for name in state}
        for layer in reference.spikes:
            np.testing.assert_array_equal(out[f"spikes/{layer}"], reference.spikes[layer][t])
            np.testing.assert_array_equal(state[f"u/{layer}"], reference.u[layer][t])
            np.testing.assert_array_equal(state[f"v/{layer}"], reference.v[layer][t])
    np.testing.assert_array_equal(state["readout"], reference.readout)


@pytest.mark.parametrize("seed", range(3))
def test_samples_of_different_lengths_agree_in_any_number(small_program, random_inputs, seed, monkeypatch):
    monkeypatch.setattr(onnx_run, "SAMPLES_AT_ONCE", 2)
    program = small_program(seed)
    length = np.random.default_rng(seed).integers(0, 7, 5)
    assert difference(program, random_inputs(program, batch=5, length=length)) is None


@pytest.mark.parametrize("sign", ["mixed", "excitatory", "inhibitory"])
@pytest.mark.parametrize("weight_exp", [-8, 0, 7])
def test_sums_that_wrap_around_int32_agree(sign, weight_exp):
    low = {"mixed": -256, "excitatory": 255, "inhibitory": -255}[sign]
    weight = np.full((3, 400), low, np.int16)
    nodes = (
        InputNode("input", (400,), 24),
        DenseNode("synapse", (400,), weight, 8, weight_exp, sign=sign),
        NeuronNode("neurons", (3,), 1, 1, 100, np.array([-4096, 0, 4095], np.int16), 7),
        ReadoutNode("output", np.array([-7, 0, 7]), "spikes"),
    )
    edges = tuple(pairwise(node.name for node in nodes))
    program = LoihiProgram(nodes, edges, 6, {"kind": "test", "sha256": ""}, overflow="hardware")
    events = np.random.default_rng(0).integers(0, 1 << 24, (6, 4, 400))
    inputs = make_inputs(events, program.input, default_steps=6)
    assert max(run_reference(program, inputs).meta["overflow"]["wraps"].values()) > 0
    assert difference(program, inputs) is None


def relay_into_integrator():
    """v of the integrator is 640, then 1280, which is the threshold; weights and leaks with a remainder."""
    nodes = (
        InputNode("input", (2,), 1),
        DenseNode("into", (2,), np.array([[40, -6]], np.int16), 8, -2),
        NeuronNode("integrator", (1,), 4095, 1, 20, np.zeros(1, np.int16), 0),
        ReadoutNode("output", np.zeros(1, np.int64), "spikes"),
    )
    program = LoihiProgram(nodes, tuple(pairwise(n.name for n in nodes)), 7, {"kind": "test", "sha256": ""})
    events = np.ones((7, 1, 2), int)
    events[2:, :, 0] = 0
    return replace(program, nodes=(*nodes[:2], replace(nodes[2], dv=0), nodes[3])), program, events


def changed(program, change, tmp_path):
    """The program's model with a fault in it, as a file."""
    model, _ = step_model(program)
    change(model.graph)
    (tmp_path / "faulty.onnx").write_bytes(model.SerializeToString())
    return tmp_path / "faulty.onnx"


def renamed(before, after):
    def change(graph):
        nodes = [node for node in graph.node if node.op_type == before]
        assert nodes
        for node in nodes:
            node.op_type = after

    return change


@pytest.mark.parametrize("bit", range(1, 8))
def test_a_flipped_weight_bit_in_the_file_is_caught(bit, tmp_path):
    program, _, events = relay_into_integrator()

    def flip(graph):
        (tensor,) = [each for each in graph.initializer if each.name == "into.weight"]
        weight = np.frombuffer(tensor.raw_data, np.int16).copy()
        weight[0] ^= 1 << bit
        tensor.raw_data = weight.tobytes()

    inputs = make_inputs(events, program.input, default_steps=7)
    found = difference(program, inputs, changed(program, flip, tmp_path))
    assert (found.layer, found.quantity, found.step) == ("integrator", "u", 0)


def test_a_comparator_that_fires_on_the_threshold_is_caught_where_v_equals_it(tmp_path):
    program, _, events = relay_into_integrator()
    events[:, :, 1] = 0
    inputs = make_inputs(events, program.input, default_steps=7)
    path = changed(program, renamed("Greater", "GreaterOrEqual"), tmp_path)
    found = difference(program, inputs, path)
    assert (found.layer, found.step, found.a, found.b) == ("integrator", 1, 1280, 0)


def test_a_floor_for_the_truncation_of_the_leak_is_caught(tmp_path):
    _, leaky, events = relay_into_integrator()
    events[:, :, 0] = 0
    inputs = make_inputs(events, leaky.input, default_steps=7)
    assert difference(leaky, inputs) is None

    def floors(graph):  # lowers what the leak of v divides by one below a multiple
        (leak,) = [node for node in graph.node if node.op_type == "Mul" and "v/integrator" in node.input]
        graph.node.insert(
            list(graph.node).index(leak) + 1, onnx.helper.make_node("Sub", [leak.output[0], "down"], ["floored"])
        )
        graph.initializer.append(onnx.numpy_helper.from_array(np.array(4095, np.int64), "down"))
        (div,) = [node for node in graph.node if node.op_type == "Div" and leak.output[0] in node.input]
        div.input[0] = "floored"

    found = difference(leaky, inputs, changed(leaky, floors, tmp_path))
    assert (found.layer, found.quantity) == ("integrator", "v")


def test_the_loop_in_the_document_runs_with_onnxruntime_alone_and_agrees(random_case, tmp_path, monkeypatch):
    code = re.search(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.S).group(1)
    assert "lavatube" not in code.replace('["lavatube"]', "")
    monkeypatch.chdir(tmp_path)
    for seed in (0, 3, 4, 9, 12):
        program, inputs = random_case(seed, ends=False)
        write_onnx(program, tmp_path / "step.onnx")
        np.save(tmp_path / "x.npy", inputs.events)
        names: dict = {}
        exec(compile(code, "docs/onnx.md", "exec"), names)
        reference = run_reference(program, inputs)
        for layer, events in reference.spikes.items():
            np.testing.assert_array_equal(np.stack([step[layer] for step in names["spikes"]]), events)
        np.testing.assert_array_equal(names["state"]["readout"], reference.readout)
        np.testing.assert_array_equal(names["prediction"], reference.prediction)


def test_a_file_runs_without_its_program_and_every_node_is_a_standard_one(small_program, random_inputs, tmp_path):
    program = small_program(1)
    inputs = random_inputs(program)
    write_onnx(program, tmp_path / "step.onnx")
    trace = run(tmp_path / "step.onnx", inputs, backend="onnx", record=BOTH)
    assert compare(run_reference(program, inputs, record=BOTH), trace).equal
    assert trace.meta["program_sha256"] == run_reference(program, inputs).meta["program_sha256"]
    model = onnx.load(tmp_path / "step.onnx")
    onnx.checker.check_model(model, full_check=True)
    with pytest.raises(LavatubeError, match="input values are outside"):
        run(tmp_path / "step.onnx", inputs.events + 256, backend="onnx")


def test_the_same_program_is_the_same_file(small_program, tmp_path):
    for name in "ab":
        write_onnx(small_program(2), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_without_the_package_the_error_names_the_extra(small_program, random_inputs, monkeypatch):
    import sys

    program = small_program(1)
    for name in ("onnxruntime", "onnx"):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(LavatubeError, match=re.escape("pip install 'lavatube[onnx]'")):
            run_onnx(program, random_inputs(program))


def test_weights_that_do_not_fit_in_a_file_are_refused(small_program, monkeypatch):
    monkeypatch.setattr("lavatube.deploy.onnx_file.write.WEIGHTS_MAX", 100)
    with pytest.raises(LavatubeError, match="too large for an ONNX file"):
        step_model(small_program())
