"""A TRACE.h5 holds what its engine made, or it is refused by name: nothing is invented, guessed or silently changed."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from lavatube.errors import LavatubeError
from lavatube.sim.reference import run_reference
from lavatube.sim.trace_file import read_trace, write_trace

SPIKES = "spikes/layer2_lif"


@pytest.fixture
def trace(small_program, random_inputs):
    program = small_program(message_bits=1)
    return run_reference(program, random_inputs(program), record={"u"})


@pytest.fixture
def path(trace, tmp_path):
    write_trace(trace, tmp_path / "trace.h5")
    return tmp_path / "trace.h5"


def replaced(key, made, **attrs):
    """A change of the file: the array anew, and its attributes, some of them others."""

    def change(handle):
        kept, value = dict(handle[key].attrs) | attrs, made(handle[key][()])
        del handle[key]
        handle[key] = value
        handle[key].attrs.update(kept)

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (replaced(SPIKES, lambda value: value[:1]), SPIKES),
        (replaced("u/layer2_lif", lambda value: value[:1]), "u/layer2_lif"),
    ],
)
def test_an_array_that_cannot_be_of_the_trace_is_refused(change, words, path):
    with h5py.File(path, "a") as handle:
        change(handle)
    with pytest.raises(LavatubeError, match=f"trace.h5.*{words}"):
        read_trace(path)
