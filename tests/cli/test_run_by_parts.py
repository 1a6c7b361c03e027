"""`lavatube run` by parts, and what reads its files."""

from __future__ import annotations

import json

import numpy as np
import pytest
from random_programs import random_case

from lavatube.cli.app import invoke
from lavatube.inputs import make_inputs, save_inputs
from lavatube.program_file import save_program
from lavatube.sim.reference import run_reference


@pytest.fixture
def folder(small_program, tmp_path):
    program = small_program()
    events = np.random.default_rng(0).integers(0, 256, (9, 4, *program.input.shape)).astype(np.uint8)
    save_program(program, tmp_path / "program.safetensors")
    np.save(tmp_path / "x.npy", events)
    save_inputs(make_inputs(events, program.inputs, default_steps=1), tmp_path / "x.npz")
    return tmp_path


def call(folder, command, *options):
    return invoke([command, *(str(folder / each) if "." in each else each for each in options)])


def test_counts_are_the_same_with_and_without_a_trace_and_from_every_engine(folder, capsys):
    common = ("run", "program.safetensors", "--input")
    assert call(folder, *common, "x.npz", "--out", "a.npz", "--counts", "a.json") == 0
    assert call(folder, *common, "x.npy", "--out", "b.h5", "--counts", "b.json") == 0
    assert call(folder, *common, "x.npy", "--no-trace", "--counts", "c.json") == 0
    assert call(folder, *common, "x.npz", "--backend", "reference", "--out", "d.h5", "--counts", "d.json") == 0
    assert len({(folder / f"{name}.json").read_text() for name in "abcd"}) == 1
    assert call(folder, "parity", "a.npz", "b.h5", "--program", "program.safetensors") == 0
    assert call(folder, "parity", "d.h5", "b.h5") == 0
    capsys.readouterr()
    said = []
    for given in (("--input", "x.npz"), ("--input", "x.npy"), ("--trace", "b.h5"), ("--trace", "a.npz")):
        assert call(folder, "energy", "program.safetensors", *given, "--json") == 0
        said.append(json.loads(capsys.readouterr().out))
    assert said[1:] == said[:-1]


def test_parts_are_refused_where_an_engine_needs_the_whole(folder, capsys):
    for given in (("x.npy", "--backend", "reference"), ("x.npz", "--backend", "lava", "--no-trace")):
        assert call(folder, "run", "program.safetensors", "--input", *given, "--out", "t.npz") == 2
        assert "--backend fast" in capsys.readouterr().err
    assert call(folder, "run", "program.safetensors", "--input", "x.npy", "--out", "t.npz") == 2
    assert "ends in .h5" in capsys.readouterr().err
    assert not (folder / "t.npz").exists()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("run", "program.safetensors", "--input", "same.h5", "--out", "same.h5"), "input and out"),
        (("run", "program.safetensors", "--input", "x.npz", "--out", "x.npz"), "input and out"),
        (("run", "program.safetensors", "--input", "x.npz", "--out", "z.npz", "--counts", "z.npz"), "out and counts"),
        (
            ("run", "program.safetensors", "--input", "x.npy", "--no-trace", "--counts", "linked.npy"),
            "input and counts",
        ),
        (("run", "program.safetensors", "--input", "x.npz", "--out", "program.safetensors"), "program and out"),
        (("run", "program.safetensors", "--input", "x.npz", "--backend", "float", "--out", "x.npz"), "input and out"),
        (("parity", "same.h5", "x.npz", "--out", "same.h5"), "trace and out"),
        (("parity", "program.safetensors", "--data", "x.npz", "--against", "fast", "--out", "x.npz"), "data and out"),
    ],
)
def test_a_file_that_is_read_is_never_written_and_none_is_written_twice(given, words, folder, capsys):
    import h5py

    with h5py.File(folder / "same.h5", "w") as handle:
        handle["input"] = np.load(folder / "x.npy")
    (folder / "linked.npy").symlink_to("x.npy")
    before = {each.name: each.read_bytes() for each in folder.iterdir()}
    assert call(folder, *given) == 2
    assert f"{words} are one file" in capsys.readouterr().err
    assert {each.name: each.read_bytes() for each in folder.iterdir()} == before


def test_a_changed_bit_of_a_trace_file_is_found(folder, capsys):
    import h5py

    assert call(folder, "run", "program.safetensors", "--input", "x.npy", "--out", "a.h5") == 0
    (folder / "b.h5").write_bytes((folder / "a.h5").read_bytes())
    with h5py.File(folder / "b.h5", "a") as handle:
        handle["spikes/layer2_lif"][3, 2, 0] ^= 1 << 7
    assert call(folder, "parity", "a.h5", "b.h5") == 1
    assert "step 3" in capsys.readouterr().out


@pytest.mark.parametrize("seed", [27, 45])  # graded; signed
def test_a_spike_is_an_event_whatever_it_carries_and_however_it_is_run(seed, tmp_path, capsys):
    program, inputs = random_case(seed, 3)
    save_program(program, tmp_path / "program.safetensors")
    save_inputs(inputs, tmp_path / "x.npz")
    trace = run_reference(program, inputs)
    events = {name: int(np.count_nonzero(value)) for name, value in trace.spikes.items()}
    assert any(events[name] != int(value.sum()) for name, value in trace.spikes.items())
    for given in (("--backend", "reference", "--out", "a.npz"), ("--out", "b.h5")):
        assert call(tmp_path, "run", "program.safetensors", "--input", "x.npz", *given, "--json") == 0
        assert json.loads(capsys.readouterr().out)["spikes"] == events
        assert call(tmp_path, "inspect", given[-1], "--json") == 0
        assert json.loads(capsys.readouterr().out)["spikes"] == events
