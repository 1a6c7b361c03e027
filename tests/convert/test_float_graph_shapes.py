"""Shapes are torch's: kernels that are not square, same and valid, dilation, groups, pools, Flatten without batch."""

from __future__ import annotations

import nir
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lavatube.convert.float_graph.read import flat_graph
from lavatube.errors import LavatubeError

torch = pytest.importorskip("torch", reason="shapes are compared with torch")
SETTINGS = settings(max_examples=80, deadline=None)
small = st.integers(1, 3)


def put_out(node, shape):
    nodes = {"input": nir.Input(np.array(shape)), "x": node, "after": nir.Flatten(None, 0, -1)}
    try:
        made = nir.NIRGraph(nodes, [("input", "x"), ("x", "after")], type_check=False)
        return flat_graph(made).shapes["x"]
    except LavatubeError as error:
        return str(error)


def torch_puts_out(function, shape):
    try:
        return tuple(function(torch.zeros(1, *shape)).shape[1:])
    except RuntimeError as error:
        return str(error)


def agree(ours, theirs):
    assert isinstance(ours, str) == isinstance(theirs, str), (ours, theirs)
    assert isinstance(ours, str) or ours == theirs


@st.composite
def windows(draw, axes):
    groups = draw(st.integers(1, 2))
    weight = np.zeros((groups * draw(small), draw(small), *(draw(st.integers(1, 5)) for _ in range(axes))))
    per_axis = st.tuples(*[small] * axes)
    stride, dilation = draw(per_axis), draw(per_axis)
    padding = draw(st.sampled_from(["same", "valid", *[(0,) * axes, (1,) * axes, (2, 1)[:axes]]]))
    shape = (weight.shape[1] * groups, *(draw(st.integers(1, 9)) for _ in range(axes)))
    return weight, stride, padding, dilation, groups, shape


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@given(windows(2))
@SETTINGS
def test_conv2d(window):
    weight, stride, padding, dilation, groups, shape = window
    node = nir.Conv2d(None, weight, stride, padding, dilation, groups, np.zeros(len(weight)))
    w = torch.tensor(weight, dtype=torch.float32)
    theirs = torch_puts_out(lambda x: torch.conv2d(x, w, None, stride, padding, dilation, groups), shape)
    agree(put_out(node, shape), theirs)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@given(windows(1))
@SETTINGS
def test_conv1d_with_arrays_or_integers(window):
    weight, stride, padding, dilation, groups, shape = window
    as_array = np.array(padding) if not isinstance(padding, str) else padding
    node = nir.Conv1d(None, weight, np.array(stride), as_array, np.array(dilation), groups, np.zeros(len(weight)))
    w = torch.tensor(weight, dtype=torch.float32)
    theirs = torch_puts_out(lambda x: torch.conv1d(x, w, None, stride, padding, dilation, groups), shape)
    agree(put_out(node, shape), theirs)


pairs = st.tuples(st.integers(1, 4), st.integers(1, 4))


@given(pairs, pairs, st.tuples(st.integers(0, 2), st.integers(0, 2)), st.tuples(small, st.integers(1, 8), small))
@SETTINGS
def test_pools(kernel, stride, padding, shape):
    node = nir.AvgPool2d(np.array(kernel), np.array(stride), np.array(padding))
    theirs = torch_puts_out(lambda x: torch.nn.functional.avg_pool2d(x, kernel, stride, padding), shape)
    agree(put_out(node, shape), theirs)
    assert put_out(nir.SumPool2d(*(np.array(v) for v in (kernel, stride, padding))), shape) == put_out(node, shape) or (
        isinstance(theirs, str)
    )


@given(st.integers(-3, 3), st.integers(-3, 3), st.lists(small, min_size=1, max_size=3))
@SETTINGS
def test_flatten_counts_axes_without_batch(start, end, shape):
    try:
        theirs = tuple(torch.zeros(shape).flatten(start, end).shape)
    except (IndexError, RuntimeError) as error:
        theirs = str(error)
    agree(put_out(nir.Flatten(None, start, end), tuple(shape)), theirs)


def test_the_shapes_that_nir_infers_wrongly_are_right():
    conv = nir.Conv2d((8, 8), np.zeros((2, 1, 3, 5)), 1, 0, 1, 1, np.zeros(2))
    assert tuple(conv.output_type["output"]) == (2, 6, 6)
    assert put_out(conv, (1, 8, 8)) == (2, 6, 4)
    same = nir.Conv2d((8, 8), np.zeros((2, 1, 3, 3)), 2, "same", 1, 1, np.zeros(2))
    assert "same, expected stride 1" in put_out(same, (1, 8, 8))


def test_same_padding_becomes_numbers_and_stays_a_word_where_it_is_uneven():
    def padding(kernel):
        conv = nir.Conv2d(None, np.zeros((1, 1, *kernel)), 1, "same", 2, 1, np.zeros(1))
        nodes = {"i": nir.Input(np.array([1, 9, 9])), "c": conv, "o": nir.Output(np.array([1, 9, 9]))}
        return flat_graph(nir.NIRGraph(nodes, [("i", "c"), ("c", "o")], type_check=False)).nodes["c"].padding

    assert padding((3, 2)) == (2, 1)
    conv = nir.Conv1d(None, np.zeros((1, 1, 4)), 1, "same", 1, 1, np.zeros(1))
    assert put_out(conv, (1, 9)) == (1, 9)


def test_affine_with_axes_before_the_last_two():
    assert put_out(nir.Affine(np.ones((2, 5, 3)), np.ones((2, 5))), (2, 3)) == (2, 5)
    assert "put a Flatten before it" in put_out(nir.Linear(np.ones((5, 6))), (2, 3))
