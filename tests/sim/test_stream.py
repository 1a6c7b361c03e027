"""A streamed run gives the integers of a run that holds everything in memory, and holds little itself."""

from __future__ import annotations

import json
import subprocess
import sys

import h5py
import numpy as np
import pytest
from random_programs import random_case

from lavatube.errors import LavatubeError
from lavatube.inputs import make_inputs
from lavatube.sim import stream as module
from lavatube.sim.compare import compare
from lavatube.sim.counts import count, load_counts
from lavatube.sim.fast import FastEngine
from lavatube.sim.reference import run_reference
from lavatube.sim.stream import stream
from lavatube.sim.trace_file import open_trace, read_trace, write_trace
from lavatube.trace import file_keys

BOTH = frozenset("uv")


def write_h5(inputs, path, *, chunks=None):
    with h5py.File(path, "w") as handle:
        for name, key in file_keys("input", tuple(inputs.by_name)).items():
            value = inputs.by_name[name]
            static = value.strides[0] == 0 and len(value) > 1
            handle[key] = (value[0] if static else value).astype(np.uint8)
        handle["length"] = inputs.length
    return path


def ragged(seed, program, inputs):
    length = np.random.default_rng(seed).integers(0, inputs.num_steps + 1, inputs.batch)
    length[-1] = inputs.num_steps
    return make_inputs(inputs.by_name, program.inputs, default_steps=1, length=length)


@pytest.mark.slow
@pytest.mark.parametrize("elements", [8, 1 << 20])
@pytest.mark.parametrize("seed", [0, 1, 2, 3, 4, 10])
def test_a_streamed_run_equals_the_reference_whatever_the_parts(seed, elements, tmp_path, monkeypatch):
    program, inputs = random_case(seed)
    inputs = ragged(seed, program, inputs)
    expected = run_reference(program, inputs, record=BOTH)
    monkeypatch.setattr(
        module, "FastEngine", lambda program, device: FastEngine(program, device=device, elements=elements)
    )
    source = write_h5(inputs, tmp_path / "x.h5")
    found = stream(
        program, source, out=tmp_path / "trace.h5", counts=tmp_path / "c.json", record=BOTH, steps=inputs.num_steps
    )
    trace = read_trace(tmp_path / "trace.h5")
    result = compare(expected, trace)
    assert result.equal, result.first
    assert {row.quantity for row in result.rows} >= {"spikes", "u", "v", "readout"}
    assert trace.meta["overflow"] == expected.meta["overflow"] == found.meta["overflow"]
    assert found.counts == count(program, expected) == load_counts(tmp_path / "c.json")
    for name, value in expected.readouts.items():
        np.testing.assert_array_equal(found.readouts[name], value)


@pytest.mark.parametrize("seed", [3, 4, 5, 8])
def test_parts_of_samples_from_an_iterator_equal_one_run(seed, tmp_path):
    program, inputs = random_case(seed)
    inputs = ragged(seed, program, inputs)
    expected = run_reference(program, inputs)
    parts = (inputs.samples(stop, start) for start, stop in ((0, 1), (1, 4), (4, 5)))
    found = stream(program, parts, out=tmp_path / "trace.h5")
    result = compare(expected, read_trace(tmp_path / "trace.h5"))
    assert result.equal, result.first
    assert found.counts == count(program, expected)
    np.testing.assert_array_equal(found.length, inputs.length)


def test_a_part_is_not_overwritten(small_program, random_inputs, tmp_path):
    program = small_program()
    source = write_h5(random_inputs(program), tmp_path / "x.h5")
    before = source.read_bytes()
    with pytest.raises(LavatubeError, match="input and out are one file"):
        stream(program, iter([source]), out=source)
    assert source.read_bytes() == before


def test_a_memory_mapped_array_is_an_input(small_program, tmp_path):
    program = small_program()
    events = np.random.default_rng(0).integers(0, 256, (6, 3, *program.input.shape)).astype(np.uint8)
    np.save(tmp_path / "x.npy", events)
    found = stream(program, tmp_path / "x.npy", steps=5)
    expected = run_reference(program, make_inputs(events, program.inputs, default_steps=1, steps=5))
    np.testing.assert_array_equal(found.readouts["output"], expected.readout)
    assert found.counts == count(program, expected)


def test_a_trace_file_can_be_read_by_samples(small_program, random_inputs, tmp_path):
    program = small_program()
    trace = run_reference(program, random_inputs(program))
    write_trace(trace, tmp_path / "trace.h5")
    with open_trace(tmp_path / "trace.h5") as opened:
        sums = [count(program, opened.part(slice(start, start + 1))) for start in range(opened.batch)]
        assert opened.neurons == sum(node.bias_mant.size for node in program.neurons)
    total = sums[0]
    for each in sums[1:]:
        total = total + each
    assert total == count(program, trace)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"input": np.full((3, 2, 2, 6, 5), 300)}, "outside the input encoding"),
        ({"input": np.zeros((3, 2, 9, 9), np.uint8)}, "input shape"),
        ({"input": np.zeros((3, 2, 2, 6, 5)) + 0.5}, "fractions"),
        ({"other": np.zeros((3, 2, 2, 6, 5))}, "keys that would not be used"),
        ({"input": np.zeros((3, 2, 2, 6, 5)), "lenght": np.array([1, 1])}, "keys that would not be used"),
        ({"length": np.array([1, 1])}, "input is missing"),
        ({"input": np.zeros((3, 2, 2, 6, 5)), "length": np.array([1, 4])}, "length"),
        ({"input": np.zeros((3, 0, 2, 6, 5))}, "input shape"),
    ],
)
def test_bad_input_is_one_clear_error_and_leaves_no_file(change, words, small_program, tmp_path):
    program = small_program()
    with h5py.File(tmp_path / "x.h5", "w") as handle:
        for key, value in change.items():
            handle[key] = value
    with pytest.raises(LavatubeError, match=words):
        stream(program, tmp_path / "x.h5", out=tmp_path / "out.h5", counts=tmp_path / "counts.json")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.h5"]


def test_links_to_other_files_are_not_followed(small_program, tmp_path):
    program = small_program()
    with h5py.File(tmp_path / "secret.h5", "w") as handle:
        handle["input"] = np.zeros((3, 2, 2, 6, 5), np.uint8)
    with h5py.File(tmp_path / "x.h5", "w") as handle:
        handle["input"] = h5py.ExternalLink("secret.h5", "/input")
    with pytest.raises(LavatubeError, match="not an array of this file"):
        stream(program, tmp_path / "x.h5")


def test_damaged_traces_are_refused(small_program, random_inputs, tmp_path):
    path = tmp_path / "trace.h5"
    write_trace(run_reference(small_program(), random_inputs(small_program())), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(LavatubeError):
        read_trace(path)
    path.write_bytes(whole)
    with h5py.File(path, "a") as handle:
        del handle["length"]
        handle["length"] = np.array([1])
    with pytest.raises(LavatubeError, match="malformed trace"):
        read_trace(path)


PEAK = """
import json, resource, sys
import h5py, numpy as np
from lavatube.program_file import load_program
from lavatube.sim.stream import stream
steps, batch = int(sys.argv[2]), int(sys.argv[3])
program = load_program(sys.argv[1] + "/program.safetensors")
one = np.random.default_rng(0).integers(0, 256, (20, batch, *program.input.shape)).astype(np.uint8)
with h5py.File(sys.argv[1] + "/x.h5", "w") as handle:
    held = handle.create_dataset("input", (steps, *one.shape[1:]), np.uint8, chunks=(20, 50, *one.shape[2:]))
    for start in range(0, steps, 20):
        held[start : start + 20] = one
found = stream(program, sys.argv[1] + "/x.h5", out=sys.argv[1] + "/trace.h5")
print(json.dumps([resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, found.counts.total.spikes_out]))
"""


@pytest.mark.long
def test_memory_grows_neither_with_time_nor_with_samples(small_program, tmp_path):
    from lavatube.program_file import save_program

    save_program(small_program(), tmp_path / "program.safetensors")

    def peak(steps, batch):
        command = [sys.executable, "-c", PEAK, str(tmp_path), str(steps), str(batch)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
        return json.loads(done.stdout)

    small, long, wide = peak(1000, 50), peak(10_000, 50), peak(40, 12_500)
    assert long[1] > 8 * small[1] > 0
    assert long[0] < small[0] + 160, "MB; a run in memory holds 240 of inputs and 100 of events more"
    assert wide[0] < small[0] + 160, "MB; the same"
