"""The fast engine gives the reference's integers on a GPU, too."""

from __future__ import annotations

import pytest
import torch

from lavatube.sim.compare import compare
from lavatube.sim.fast import run_fast
from lavatube.sim.reference import run_reference

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")


def test_every_integer_of_random_graphs_is_the_same(random_case):
    for seed in range(40):
        program, inputs = random_case(seed)
        expected = run_reference(program, inputs, record=frozenset("uv"))
        comparison = compare(expected, run_fast(program, inputs, record=frozenset("uv"), device="cuda"))
        assert comparison.equal, (seed, comparison.first)
