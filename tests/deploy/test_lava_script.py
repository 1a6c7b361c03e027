"""A program as a script of stock Lava: it runs without lavatube and gives every spike of the program."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from random_programs import random_case

from lavatube.cli.app import invoke
from lavatube.deploy.lava_script.write import write_lava_script
from lavatube.errors import LavatubeError, UnsupportedError
from lavatube.inputs import InputBatch
from lavatube.program import LoihiProgram
from lavatube.program_file import save_program
from lavatube.sim import lava_worker
from lavatube.sim.compare import compare
from lavatube.sim.reference import run_reference
from lavatube.trace import file_keys, load_trace


def case(seed: int) -> tuple[LoihiProgram, InputBatch]:
    program, inputs = random_case(seed, 3)
    return replace(program, num_steps=inputs.num_steps), inputs


def save_inputs(inputs: InputBatch, path: Path) -> None:
    np.savez(path, **{key: inputs.by_name[name] for name, key in file_keys("input", inputs.by_name).items()})


def run_script(script: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command, _ = lava_worker.worker_command()
    alone = {name: value for name, value in os.environ.items() if name not in lava_worker.REMOVED}
    return subprocess.run(
        [*command[:-1], str(script), *arguments],
        cwd=script.parent, env={**alone, "PYENV_VERSION": "3.10"}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("seed", [5, 34, 46])  # every kind of read-out; two inputs and a delay; a cycle
def test_the_script_gives_every_spike_and_refuses_changed_arrays(seed: int, tmp_path: Path) -> None:
    program, inputs = case(seed)
    arrays = write_lava_script(program, tmp_path / "net.py")
    save_inputs(inputs, tmp_path / "x.npz")
    done = run_script(tmp_path / "net.py", "x.npz", "trace.npz")
    assert done.returncode == 0, done.stderr
    reference = run_reference(program, inputs)
    found = load_trace(tmp_path / "trace.npz")
    assert compare(reference, found).equal
    assert all(found.spikes[name].dtype == reference.spikes[name].dtype for name in reference.spikes)
    with np.load(arrays) as stored:
        changed = dict(stored)
    readout = program.readouts[0].name
    changed[f"{readout}.bias"] = changed[f"{readout}.bias"] + 1
    np.savez(arrays, **changed)
    refused = run_script(tmp_path / "net.py", "x.npz", "again.npz")
    assert refused.returncode != 0
    assert "not the arrays that belong to this script" in refused.stderr
    assert not (tmp_path / "again.npz").exists()


@pytest.mark.slow
def test_the_script_says_in_one_line_what_does_not_fit_and_replaces_nothing_that_it_reads(tmp_path: Path) -> None:
    program, inputs = case(4)
    write_lava_script(program, tmp_path / "net.py")
    (values,) = inputs.by_name.values()
    np.savez(tmp_path / "x.npz", input=values)
    np.savez(tmp_path / "narrow.npz", input=values[..., :-1])
    np.savez(tmp_path / "more.npz", input=values, lable=values)
    (tmp_path / "text.npz").write_text("no zip")
    (tmp_path / "numpy.py").write_text("raise ValueError")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for arguments, words in (
        (("narrow.npz", "t.npz"), "expected (4, samples"),
        (("more.npz", "t.npz"), "lable"),
        (("text.npz", "t.npz"), "not readable as .npz"),
        (("none.npz", "t.npz"), "No such file"),
        (("x.npz", "x.npz"), "would replace what is read"),
        (("x.npz", "net.arrays.npz"), "would replace what is read"),
        (("x.npz", "none/t.npz"), "cannot be written"),
    ):
        done = run_script(tmp_path / "net.py", *arguments)
        assert done.returncode != 0
        assert done.stderr.count("\n") == 1
        assert words in done.stderr
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_node_without_a_stock_process_is_refused_by_name_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program, _ = case(0)
    with pytest.raises(UnsupportedError, match="population0: no stock Lava process: initial potential"):
        write_lava_script(program, tmp_path / "net.py")
    save_program(program, tmp_path / "p.safetensors")
    assert invoke(["export", str(tmp_path / "p.safetensors"), "--lava-script", str(tmp_path / "net.py")]) == 2
    assert "population0" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["p.safetensors"]


@pytest.mark.parametrize("name", ["net.txt", "a\\u.py", 'a".py'])
def test_a_script_has_a_name_that_python_can_say(name: str, tmp_path: Path) -> None:
    with pytest.raises(LavatubeError, match=r"expected FILE\.py"):
        write_lava_script(case(4)[0], tmp_path / name)


def test_nothing_is_written_where_the_script_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "d.py").mkdir()
    with pytest.raises(LavatubeError, match="cannot write here"):
        write_lava_script(case(4)[0], tmp_path / "d.py")
    assert [path.name for path in tmp_path.iterdir()] == ["d.py"]
