"""A matrix that is mostly zeros is stored by its connections, which are all of its weights and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lavatube.synapse_nodes import SPARSE_BELOW, SPARSE_SIZE, DenseNode, SparseNode, as_stored


def matrix(outputs: int, inputs: int, filled: int, seed: int) -> DenseNode:
    rng = np.random.default_rng(seed)
    weight = np.zeros(outputs * inputs, np.int16)
    weight[rng.permutation(weight.size)[:filled]] = 2 * rng.integers(1, 128, filled) * rng.choice([-1, 1], filled)
    return DenseNode("a", (inputs,), weight.reshape(outputs, inputs), 8, -3, delay=2)


@given(st.integers(1, 300), st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_the_stored_connections_are_the_weights(outputs: int, seed: int, density: float) -> None:
    inputs = -(-SPARSE_SIZE // outputs)
    dense = matrix(outputs, inputs, round(density * outputs * inputs), seed)
    stored = as_stored(dense)
    filled = np.count_nonzero(dense.weight)
    if not 0 < filled < SPARSE_BELOW * dense.weight.size:
        assert stored is dense
        return
    assert isinstance(stored, SparseNode)
    assert len(stored.weight) == filled
    again = np.zeros_like(dense.weight)
    again[np.repeat(np.arange(outputs), np.diff(stored.indptr)), stored.index] = stored.weight
    assert np.array_equal(again, dense.weight)
    for name in ("name", "in_shape", "out_shape", "num_weight_bits", "weight_exp", "delay", "sign"):
        assert getattr(stored, name) == getattr(dense, name)


@pytest.mark.parametrize("filled", [0, 5])
def test_a_small_or_empty_matrix_stays_whole(filled: int) -> None:
    assert as_stored(dense := matrix(10, 20, filled, 0)) is dense
