"""Bits per weight are read off the integers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lavatube.weight_code import weight_code

RNG = np.random.default_rng(0)


def test_free_weights_need_what_they_are_stored_with() -> None:
    assert weight_code(RNG.integers(-128, 128, (8, 4, 3, 3)), 8).per_weight == 8


@pytest.mark.parametrize(
    ("magnitude", "bits"), [(np.arange(1, 9), 8 * 7), (np.full(8, 3), 7)], ids=["channel", "layer"]
)
def test_binary_weights_need_a_bit_each_and_their_magnitudes(magnitude: np.ndarray, bits: int) -> None:
    signs = RNG.choice([-1, 1], (8, 400))
    code = weight_code(signs * magnitude[:, None], 8)
    assert (code.code, code.bits) == ("binary", signs.size + bits)
    zeros = signs * magnitude[:, None] * (RNG.random(signs.shape) < 0.5)
    assert (weight_code(zeros, 8).code, weight_code(zeros, 8).bits) == ("ternary", 2 * signs.size + bits)


def test_a_channel_that_rounding_made_zero_does_not_make_the_rest_ternary() -> None:
    weight = RNG.choice([-5, 5], (8, 400))
    weight[2] = 0
    assert weight_code(weight, 8).code == "binary"


@given(st.integers(1, 6), st.integers(0, 1 << 30))
def test_kernels_of_a_codebook_need_an_index_each_whatever_the_sign_of_their_channel(index: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    patterns = rng.choice(512, 1 << index, replace=False)
    book = ((patterns[:, None] >> np.arange(9)) & 1) * 2 - 1
    chosen = rng.integers(0, len(book), (64, 32))
    chosen[0] = np.resize(np.arange(len(book)), 32)
    weight = book[chosen].reshape(64, 32, 3, 3) * rng.choice([-7, 7], 64)[:, None, None, None]
    code = weight_code(weight, 8)
    assert code.code == "codebook"
    assert code.per_weight <= (index + 1) / 9 + 2 * len(book) * 9 / weight.size + 64 * 8 / weight.size


def test_a_synapse_of_single_weights_is_free() -> None:
    assert weight_code(np.array([3, -3, 3]), 8).code == "free"
    assert weight_code(np.full((4, 1, 1, 1), 3), 8).code == "free"
