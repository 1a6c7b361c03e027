"""A large run in Lava goes in parts over several workers, ends like one, and goes on where it was interrupted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lavatube.errors import WorkerError
from lavatube.inputs import save_inputs
from lavatube.program_file import save_program
from lavatube.sim import lava_parts, lava_run, parity_samples
from lavatube.sim.compare import compare
from lavatube.sim.fast import run_fast
from lavatube.sim.kept_parts import KeptParts
from lavatube.sim.lava_parts import parts_of, run_lava
from lavatube.sim.lava_run import LavaJob
from lavatube.sim.parity import parity
from lavatube.sim.parity_samples import lava_takes_every
from lavatube.sim.run import run


@pytest.fixture
def many(small_program, random_inputs, monkeypatch):
    """A program and samples that are four parts."""
    program = small_program(3, overflow="hardware")
    inputs = random_inputs(program, 11, length=np.array([6, 5, 0, 0, 6, 6, 1, 6, 6, 6, 2]))
    monkeypatch.setattr("lavatube.deploy.lava_backend.schedule.LANES_MAX", 3)
    monkeypatch.setattr(lava_parts, "PART", lava_parts.connection_steps(program, 6, 3))
    assert parts_of(LavaJob(program, inputs)) == [range(0, 3), range(3, 6), range(6, 9), range(9, 11)]
    return program, inputs


def by_fast(monkeypatch, started, most=99):
    """Workers that the fast engine stands in for; `started` gets the samples of each; after so many they fail."""

    def run_jobs(rows, folder, **rest):
        if len(started) == most:
            raise WorkerError("the power went", where="lava")

    def trace(job, folder):
        started.append(job.inputs.batch)
        found = run_fast(job.program, job.inputs, record=job.record)
        side = {"lanes": 3, "windows": 1, "runs": 1}
        return replace(found, meta={**found.meta, "engine": "lava", "samples_in_lava": side, "processes": {}})

    monkeypatch.setattr(lava_run, "run_jobs", run_jobs)
    monkeypatch.setattr(lava_run, "_trace", trace)


def test_parts_over_two_workers_are_the_run_of_the_whole(many, monkeypatch):
    program, inputs = many
    monkeypatch.setattr(lava_parts, "PART", 2 * lava_parts.PART)
    seen = []
    trace = run_lava(program, inputs, record=frozenset("uv"), workers=2, progress=lambda *at: seen.append(at))
    comparison = compare(run_fast(program, inputs, record=frozenset("uv")), trace)
    assert comparison.equal, comparison.first
    assert {row.quantity for row in comparison.rows} == {"spikes", "u", "v", "readout"}
    assert trace.meta["samples_in_lava"] == {
        "lanes": 6, "windows": 1, "window": 6, "runs": 2, "parts": 2, "workers": 2
    }  # fmt: skip
    assert all(done <= total for done, total in seen)
    assert seen[-1][0] == seen[-1][1]


def test_an_interrupted_run_goes_on_with_the_parts_that_are_left(many, monkeypatch, tmp_path):
    program, inputs = many
    started, out = [], tmp_path / "trace.npz"
    by_fast(monkeypatch, started, most=2)
    with pytest.raises(WorkerError, match="the power went"):
        run(program, inputs, backend="lava", out=out, workers=1)
    assert not out.exists()
    assert started == [3, 3]
    kept = sorted(KeptParts(out).folder.glob("*/*.npz"))
    assert [path.name for path in kept] == ["0-2.npz", "3-5.npz"]
    kept[0].write_bytes(kept[0].read_bytes()[:-40])  # a damaged part runs again
    by_fast(monkeypatch, started)
    trace = run(program, inputs, backend="lava", out=out, workers=1)
    assert started == [3, 3, 3, 3, 2]
    assert compare(run_fast(program, inputs), trace).equal
    assert not KeptParts(out).folder.exists()


def test_parts_of_another_input_are_not_taken(many, monkeypatch, tmp_path):
    program, inputs = many
    started = []
    by_fast(monkeypatch, started)
    run_lava(program, inputs, keep=KeptParts(tmp_path / "t.npz"))
    other = replace(inputs, by_name={"input": inputs.events.copy()})
    other.events[0, 0, 0] ^= 1
    assert compare(run_fast(program, other), run_lava(program, other, keep=KeptParts(tmp_path / "t.npz"))).equal
    assert len(started) == 8
    run_lava(program, inputs, keep=KeptParts(tmp_path / "t.npz"))
    assert len(started) == 8


def test_a_command_removes_the_parts_of_its_own_runs_alone(many, monkeypatch, tmp_path):
    program, inputs = many
    save_program(program, tmp_path / "program.safetensors")
    save_inputs(inputs, tmp_path / "x.npz")
    out = tmp_path / "p.json"
    given = {"data": tmp_path / "x.npz", "out": out}
    by_fast(monkeypatch, [], most=2)
    with pytest.raises(WorkerError, match="the power went"):
        parity(tmp_path / "program.safetensors", against=["lava"], workers=1, **given)
    mine = KeptParts(out).folder / "mine.txt"
    mine.write_text("precious")
    parity(tmp_path / "program.safetensors", against=["fast"], **given)
    assert len(list(KeptParts(out).folder.glob("*/*.npz"))) == 2
    started = []
    by_fast(monkeypatch, started)
    assert parity(tmp_path / "program.safetensors", against=["lava"], workers=1, **given).equal
    assert started == [3, 2]
    assert list(KeptParts(out).folder.iterdir()) == [mine]


def test_parts_of_another_state_of_the_code_are_not_taken(many, monkeypatch, tmp_path):
    program, inputs = many
    started, keep = [], KeptParts(tmp_path / "t.npz")
    by_fast(monkeypatch, started)
    run_lava(program, inputs, keep=keep)
    monkeypatch.setattr(lava_parts, "_code_sha256", lambda: "another")
    run_lava(program, inputs, keep=keep)
    assert len(started) == 8


def test_sampling_takes_samples_that_have_timesteps(many, monkeypatch):
    program, _ = many
    monkeypatch.setattr(parity_samples, "LAVA_STEPS", lava_parts.connection_steps(program, 6, 3))
    assert lava_takes_every(program, 6, np.array([0, 6, 6, 6, 0, 6, 6, 6, 0, 6, 2])) == 3


def test_one_part_that_fails_ends_the_run(many, monkeypatch):
    program, inputs = many
    by_fast(monkeypatch, [], most=1)
    with pytest.raises(WorkerError, match="the power went"):
        run_lava(program, inputs, workers=2)


def test_above_its_size_parity_samples_for_lava_and_says_so(many, monkeypatch, tmp_path):
    program, inputs = many
    save_program(program, tmp_path / "program.safetensors")
    save_inputs(inputs, tmp_path / "x.npz")
    files = {"source": tmp_path / "program.safetensors", "data": tmp_path / "x.npz"}
    started = []
    by_fast(monkeypatch, started)
    monkeypatch.setattr(parity_samples, "LAVA_STEPS", lava_parts.connection_steps(program, 6, 3))
    assert lava_takes_every(program, 6, inputs.length) == 4
    report = parity(**files, against=["fast", "lava"])
    fast, lava = report.engines
    assert report.equal
    assert (fast.sampled, sum(started)) == ("", 3)
    assert lava.sampled.startswith("on 3 of 11 samples, one in 4: all are above ")
    lengths = inputs.length[[0, 4, 8]].sum(), inputs.length.sum()
    assert lava.comparison.neuron_steps * lengths[1] == fast.comparison.neuron_steps * lengths[0]
    assert report.to_json()["engines"][1]["sampled"] == lava.sampled
    started.clear()
    assert parity(**files, against=["lava"], samples=11).engines[0].sampled == ""
    assert sum(started) == 11


def test_a_fault_in_a_sampled_part_is_named_by_its_sample_of_the_whole(many, monkeypatch, tmp_path):
    program, inputs = many
    save_program(program, tmp_path / "program.safetensors")
    save_inputs(inputs, tmp_path / "x.npz")
    by_fast(monkeypatch, [])
    exact = lava_run._trace

    def faulty(job, folder):
        trace = exact(job, folder)
        spikes = {name: value.copy() for name, value in trace.spikes.items()}
        spikes["layer2_lif"][0, 1, 0, 0, 0] ^= 1
        return replace(trace, spikes=spikes)

    monkeypatch.setattr(lava_run, "_trace", faulty)
    monkeypatch.setattr(parity_samples, "LAVA_STEPS", lava_parts.connection_steps(program, 6, 3))
    report = parity(tmp_path / "program.safetensors", data=tmp_path / "x.npz", against=["lava"])
    assert (report.first.layer, report.first.step, report.first.sample) == ("layer2_lif", 0, 4)
