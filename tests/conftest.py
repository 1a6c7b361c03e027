"""Seeded programs and inputs that many tests use."""

from __future__ import annotations

import os

if "PYTEST_XDIST_WORKER" in os.environ:  # one thread a worker, before torch counts cores: else they wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest

from lavatube.inputs import InputBatch, make_inputs
from lavatube.program import Conv2dNode, DenseNode, InputNode, LoihiProgram, NeuronNode, Node, ReadoutNode


def random_weight(rng: np.random.Generator, shape: tuple[int, ...], bits: int) -> np.ndarray:
    """Mantissas of b-bit signed integers, both ends included."""
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    integers = rng.integers(low, high + 1, shape)
    integers.flat[0], integers.flat[-1] = low, high
    return (integers << (9 - bits)).astype(np.int16)


@pytest.fixture
def small_program() -> Callable[..., LoihiProgram]:
    """conv 3x3 -> LIF -> strided, padded conv 3x2 -> LIF -> dense -> read-out on a non-square image."""

    def make(
        seed: int = 0, *, bits: int = 8, message_bits: int = 8, overflow: str = "hardware", **change: object
    ) -> LoihiProgram:
        rng = np.random.default_rng(seed)
        unit = 1 << (bits - 1)  # the largest weight; thresholds and biases go with it
        first = Conv2dNode(
            "layer1_conv2d", (2, 6, 5), random_weight(rng, (3, 2, 3, 3), bits), bits, bits - 9, padding=(1, 1)
        )
        lif1 = NeuronNode(
            "layer1_lif", first.out_shape, 4095, 2048, min(unit << (message_bits - 1), 131071),
            rng.integers(-4096, 4096, first.out_shape).astype(np.int16), bits - 1,
        )  # fmt: skip
        second = Conv2dNode(
            "layer2_conv2d", first.out_shape, random_weight(rng, (4, 3, 3, 2), bits), bits, bits - 8, (2, 1), (1, 0)
        )
        lif2 = NeuronNode(
            "layer2_lif", second.out_shape, int(change.pop("du", 4095)), 410, unit,
            rng.integers(-32 * unit, 32 * unit, second.out_shape).astype(np.int16), 0,
        )  # fmt: skip
        dense = DenseNode(
            "layer3_dense",
            second.out_shape,
            random_weight(rng, (5, int(np.prod(second.out_shape))), bits),
            bits,
            bits - 9,
        )
        nodes: list[Node] = [
            InputNode("input", (2, 6, 5), message_bits), first, lif1, second, lif2, dense,
            ReadoutNode("output", rng.integers(-50, 50, 5).astype(np.int64)),
        ]  # fmt: skip
        edges = tuple(pairwise(node.name for node in nodes))
        return LoihiProgram(tuple(nodes), edges, 6, {"kind": "test", "sha256": ""}, overflow=overflow, **change)  # type: ignore[arg-type]

    return make


@pytest.fixture
def random_program() -> Callable[..., LoihiProgram]:
    """See random_programs.py."""
    from random_programs import random_program

    return random_program


@pytest.fixture
def random_case() -> Callable[[int], tuple[LoihiProgram, InputBatch]]:
    """See random_programs.py."""
    from random_programs import random_case

    return random_case


@pytest.fixture
def random_inputs() -> Callable[..., InputBatch]:
    """Random events within the encodings of a program's inputs, [T, B, ...]."""

    def make(
        program: LoihiProgram, batch: int = 4, steps: int | None = None, seed: int = 1, **more: np.ndarray
    ) -> InputBatch:
        rng = np.random.default_rng(seed)
        room = steps or program.num_steps, batch
        events = {node.name: rng.integers(0, node.max_value + 1, (*room, *node.shape)) for node in program.inputs}
        return make_inputs(events, program.inputs, default_steps=program.num_steps, **more)

    return make
