"""A TRACE.h5 holds what its engine made, or it is refused by name: nothing is invented, guessed or silently changed."""

from __future__ import annotations

import random

import h5py
import numpy as np
import pytest

from lavatube.errors import LavatubeError
from lavatube.sim.input_parts import open_parts
from lavatube.sim.reference import run_reference
from lavatube.sim.trace_file import open_trace, read_trace, write_trace

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
        (replaced(SPIKES, lambda value: value[:, 0, 0]), SPIKES),
        (replaced(SPIKES, lambda value: value.astype(float)), f"{SPIKES} float64.*expected uint8"),
        (replaced(SPIKES, lambda value: value, bits_of="abc"), SPIKES),
        (replaced(SPIKES, lambda value: value, bits_of=36), SPIKES),
        (replaced(SPIKES, lambda value: value, bits_of=(36.7,)), SPIKES),
        (replaced(SPIKES, lambda value: value, bits_of=(-4, -9)), SPIKES),
        (replaced(SPIKES, lambda value: value, bits_of=(400,)), SPIKES),
        (replaced("readout/output", lambda value: value[:, 0]), "readout/output"),
        (replaced("readout/output", lambda value: value / 2), "readout/output"),
        (replaced("length", lambda value: value[None]), "malformed trace"),
        (replaced("length", lambda value: value + 1), "length"),
        (replaced("meta", lambda value: 5), "malformed trace"),
    ],
)
def test_an_array_that_cannot_be_of_the_trace_is_refused(change, words, path):
    with h5py.File(path, "a") as handle:
        change(handle)
    with pytest.raises(LavatubeError, match=f"trace.h5.*{words}"):
        read_trace(path)


@pytest.mark.parametrize("key", [SPIKES, "input/input", "readout/output"])
def test_damage_that_is_found_late_names_file_and_array(key, path):
    with h5py.File(path) as handle:
        place = handle[key].id.get_chunk_info(0).byte_offset
    flip(path, path, place + 7, 3)
    with open_trace(path) as opened, pytest.raises(LavatubeError, match=f"trace.h5, {key}, samples 1..2"):
        opened.part(slice(1, 3))


def flip(source, target, byte, bit):
    changed = bytearray(source.read_bytes())
    changed[byte] ^= 1 << bit
    target.write_bytes(changed)


def flips(path, number, seed):
    rng, size = random.Random(seed), path.stat().st_size
    return [(rng.randrange(size), rng.randrange(8)) for _ in range(number)]


def test_a_flipped_bit_of_a_trace_is_refused_or_changes_nothing(path, trace, tmp_path):
    plain = [path.read_bytes().find(value.tobytes()) for value in (trace.length, trace.readout)]
    assert min(plain) > 0, "these are not compressed"
    for byte, bit in [*flips(path, 100, 2), *((place + at, bit) for place in plain for at in (0, 9) for bit in (0, 1))]:
        flip(path, tmp_path / "bad.h5", byte, bit)
        try:
            found = read_trace(tmp_path / "bad.h5")
        except LavatubeError:
            continue
        assert equal(found, trace), (byte, bit)


def equal(found, trace):
    groups = ("inputs", "spikes", "u", "v", "readouts")
    pairs = [
        (a, b)
        for group in groups
        for a, b in zip(*(getattr(each, group).values() for each in (found, trace)), strict=True)
    ]
    return found.meta == trace.meta and all(np.array_equal(a, b) for a, b in [*pairs, (found.length, trace.length)])


def test_a_flipped_bit_of_an_input_is_an_input_or_one_clear_error(small_program, random_inputs, tmp_path):
    program = small_program()
    inputs = random_inputs(program)
    with h5py.File(tmp_path / "x.h5", "w") as handle:
        handle["input"] = inputs.events.astype(np.uint8)
        handle["length"] = inputs.length
        handle["label"] = np.zeros_like(inputs.length)
    refused = 0
    for byte, bit in flips(tmp_path / "x.h5", 150, 0):
        flip(tmp_path / "x.h5", tmp_path / "bad.h5", byte, bit)
        try:
            with open_parts(tmp_path / "bad.h5", program.inputs, default_steps=1) as parts:
                parts.read(program.input, slice(0, parts.num_steps), slice(0, parts.batch))
        except LavatubeError:
            refused += 1
    assert refused > 5
