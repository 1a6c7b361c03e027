"""Whatever goes wrong in Lava ends in one clear error, soon, and leaves no process and no shared memory behind."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from lavatube.errors import WorkerError
from lavatube.sim import lava_run, lava_worker
from lavatube.sim.compare import compare
from lavatube.sim.lava_parts import run_lava
from lavatube.sim.lava_run import LavaJob, run_lava_jobs
from lavatube.sim.reference import run_reference
from lavatube.sim.self_check import check_worker

pytestmark = pytest.mark.slow
MARK = f"LAVATUBE_TEST={os.getpid()}".encode()  # what these tests start inherits it; other tests run Lava meanwhile


def marked_processes():
    """Worker processes that these tests started."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            worker = b"worker/lava_worker.py" in (folder / "cmdline").read_bytes()
            if worker and MARK in (folder / "environ").read_bytes().split(b"\0"):
                found.append(folder.name)
        except OSError:
            continue
    return found


def abandoned_segments():
    """Shared memory that no process has mapped."""
    held = set()
    for path in Path("/proc").glob("[0-9]*/maps"):
        try:
            held |= set(re.findall(r"/dev/shm/(psm_\w+)", path.read_text()))
        except OSError:
            continue
    return {path.name for path in lava_worker.SHARED_MEMORY.glob("psm_*")} - held


@pytest.fixture
def clean(monkeypatch):
    monkeypatch.setenv(*MARK.decode().split("="))
    before = abandoned_segments()
    yield
    assert marked_processes() == []
    left = abandoned_segments() - before
    time.sleep(1)  # others may be between making a segment and mapping it
    assert not left & abandoned_segments()


def test_a_run_leaves_nothing_behind_and_the_doctor_is_content():
    facts = check_worker()
    assert facts["small program"] == "equal to the reference"


@pytest.mark.usefixtures("clean")
def test_a_hang_ends_at_the_time_limit(small_program, random_inputs):
    program = small_program(1)
    started = time.monotonic()
    with pytest.raises(WorkerError, match="took too long and was stopped, expected at most 2 s"):
        run_lava(program, random_inputs(program, 40000), timeout=2)
    assert time.monotonic() - started < 12


@pytest.mark.usefixtures("clean")
def test_an_exception_inside_a_process_model_is_named_and_ends_the_run(
    tmp_path, monkeypatch, small_program, random_inputs
):
    """A recorder that cannot write its file, in the middle of a run: Lava alone would wait for ever."""
    prepare = lava_worker.run_jobs

    def with_unwritable_recorder(jobs, folder, **rest):
        for job in jobs:
            (Path(job["out"]) / "layer1_lif.spikes").mkdir()
        return prepare(jobs, folder, **rest)

    monkeypatch.setattr("lavatube.sim.lava_run.run_jobs", with_unwritable_recorder)
    program = small_program(1)
    started = time.monotonic()
    with pytest.raises(WorkerError, match=r"an exception inside a Lava process in run_spk of .*IsADirectoryError"):
        run_lava(program, random_inputs(program), timeout=60)
    assert time.monotonic() - started < 30


def test_a_missing_uv_is_one_clear_error(monkeypatch):
    monkeypatch.delenv("UV", raising=False)
    monkeypatch.setitem(sys.modules, "uv", None)
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(WorkerError, match=r"uv is missing, which prepares Lava's Python 3\.10; pip install uv"):
        lava_worker.find_uv()


def test_a_python_that_is_not_there_is_one_clear_error(monkeypatch, small_program, random_inputs):
    monkeypatch.setenv("LAVATUBE_LAVA_PYTHON", "/nowhere/python3.10")
    program = small_program(1)
    with pytest.raises(WorkerError, match=r"no Python 3\.10 for Lava"):
        run_lava(program, random_inputs(program), timeout=60)


def test_a_uv_that_cannot_start_is_one_clear_error(monkeypatch, small_program, random_inputs):
    monkeypatch.setenv("UV", "/nowhere/uv")
    program = small_program(1)
    with pytest.raises(WorkerError, match="cannot start the worker, got /nowhere/uv"):
        run_lava(program, random_inputs(program), timeout=60)


@pytest.mark.usefixtures("clean")
def test_a_killed_parent_takes_its_worker_with_it(tmp_path, small_program):
    from lavatube.program_file import save_program

    before = abandoned_segments()
    save_program(small_program(1), tmp_path / "p.safetensors")
    np.savez(tmp_path / "x.npz", input=np.ones((40000, 2, 6, 5), np.uint8))
    command = [sys.executable, "-m", "lavatube", "run", str(tmp_path / "p.safetensors"), "--backend", "lava"]
    parent = subprocess.Popen(
        [*command, "--input", str(tmp_path / "x.npz"), "--out", str(tmp_path / "t.npz")], stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while len(marked_processes()) < 4 and time.monotonic() < deadline:
        time.sleep(0.1)
    workers = marked_processes()
    assert len(workers) >= 4
    folders = {Path(f"/proc/{pid}/cwd").resolve() for pid in workers}
    os.kill(parent.pid, 9)
    parent.wait()
    while (marked_processes() or any(f.exists() for f in folders)) and time.monotonic() < deadline + 60:
        time.sleep(0.1)
    left = abandoned_segments() - before  # those of other tests are so for a moment only
    while left and time.monotonic() < deadline + 60:
        time.sleep(0.1)
        left &= abandoned_segments()
    assert not left
    assert not marked_processes()
    assert folders
    assert not any(folder.exists() for folder in folders)


def test_a_worker_that_fails_ends_those_beside_it(monkeypatch, small_program, random_inputs):
    ended = []

    def one_fails(rows, folder, *, end, **rest):
        if rows[0]["program"].endswith("job1/program.safetensors"):
            raise WorkerError("it failed", where="lava")
        ended.append(end.wait(30))

    monkeypatch.setattr(lava_run, "run_jobs", one_fails)
    program = small_program()
    with pytest.raises(WorkerError, match="it failed"):
        run_lava_jobs([LavaJob(program, random_inputs(program, 1))] * 4, workers=2)
    assert ended == [True]


def test_jobs_dealt_to_several_workers_come_back_in_their_order(small_program, random_inputs):
    program = small_program()
    jobs = [LavaJob(program, random_inputs(program, 1, seed=seed)) for seed in range(5)]
    traces = run_lava_jobs(jobs, workers=2)
    for job, trace in zip(jobs, traces, strict=True):
        np.testing.assert_array_equal(trace.input, job.inputs.events)
        assert compare(run_reference(program, job.inputs), trace).equal
