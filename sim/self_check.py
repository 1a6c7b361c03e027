"""A small program on every engine, for `lavatube doctor`."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

import numpy as np

from lavatube.errors import LavatubeError, WorkerError
from lavatube.inputs import InputBatch, make_inputs
from lavatube.program import Conv2dNode, DenseNode, InputNode, LoihiProgram, NeuronNode, ReadoutNode
from lavatube.sim.compare import TraceComparison, compare
from lavatube.sim.lava_run import LavaJob, run_lava_jobs
from lavatube.sim.lava_worker import worker_command
from lavatube.sim.reference import run_reference

STATE = frozenset({"u", "v"})


def small_program() -> LoihiProgram:
    """A strided convolution and a dense layer, with biases, on graded input."""
    rng = np.random.default_rng(0)
    conv = Conv2dNode("layer1_conv2d", (1, 4, 5), _weight(rng, 2, 1, 3, 2), 8, -1, (2, 1), (1, 0))
    bias = rng.integers(-400, 400, conv.out_shape).astype(np.int16)
    nodes = (
        InputNode("input", (1, 4, 5), 4),
        conv,
        NeuronNode("layer1_lif", conv.out_shape, 4095, 400, 300, bias, 3),
        DenseNode("layer2_dense", conv.out_shape, _weight(rng, 3, bias.size), 8, -1),
        ReadoutNode("output", np.arange(3)),
    )
    edges = tuple(pairwise(node.name for node in nodes))
    return LoihiProgram(nodes, edges, 5, {"kind": "self-check", "sha256": ""})


def check_fast() -> str:
    """Run the fast engine. raises: nothing; says what differs."""
    from lavatube.sim.fast import run_fast

    program, inputs = small_program(), _inputs()
    return _verdict(compare(run_reference(program, inputs, record=STATE), run_fast(program, inputs, record=STATE)))


def check_onnx() -> str:
    """Run the onnx engine. raises: nothing; says what differs or what is missing."""
    from lavatube.sim.onnx_run import run_onnx

    program, inputs = small_program(), _inputs()
    try:
        trace = run_onnx(program, inputs, record=STATE)
    except LavatubeError as error:
        return str(error)
    return _verdict(compare(run_reference(program, inputs, record=STATE), trace))


def check_worker() -> dict[str, Any]:
    """Prepare the worker; run Lava with Sparse and with Conv, u and v recorded, and compare with the reference.

    raises: WorkerError if the worker does not work or a spike differs.
    """
    program, inputs = small_program(), _inputs()
    started = time.perf_counter()
    traces = run_lava_jobs([LavaJob(program, inputs, STATE, conv) for conv in ("sparse", "conv")])
    expected = run_reference(program, inputs, record=STATE)
    for trace in traces:
        if (verdict := _verdict(compare(expected, trace))) != "equal to the reference":
            raise WorkerError("Lava's spikes differ from the reference's", where="lava", got=verdict)
    return {
        **traces[0].meta["versions"],
        "found": worker_command()[1],
        "seconds": round(time.perf_counter() - started, 1),
        "small program": "equal to the reference",
    }


def _verdict(comparison: TraceComparison) -> str:
    return "equal to the reference" if comparison.equal else f"differs: {comparison.first}"


def _inputs() -> InputBatch:
    events = np.random.default_rng(1).integers(0, 16, (5, 3, 1, 4, 5))
    return make_inputs(events, small_program().input, default_steps=5)


def _weight(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return (rng.integers(-120, 120, shape) * 2).astype(np.int16)
