"""The conformance command keeps a log by seed, goes on where it stopped, and fails on the first difference."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import conformance
import pytest


def run(monkeypatch: pytest.MonkeyPatch, out: Path, programs: int) -> tuple[int, list[dict[str, str]]]:
    monkeypatch.setattr(sys, "argv", ["conformance.py", "--programs", str(programs), "--out", str(out)])
    code = conformance.main()
    with out.open(newline="") as handle:
        return code, list(csv.DictReader(handle))


@pytest.mark.slow
def test_it_logs_every_seed_once_and_goes_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    code, first = run(monkeypatch, tmp_path / "log.csv", 2)
    assert (code, [row["seed"] for row in first]) == (0, ["0", "1"])
    code, rows = run(monkeypatch, tmp_path / "log.csv", 3)
    assert (code, rows[:2], [row["outcome"] for row in rows]) == (0, first, ["equal"] * 3)


def test_a_fault_in_an_engine_is_in_the_log_with_its_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    exact = conformance.run_fast

    def faulty(*arguments, **options):  # type: ignore[no-untyped-def]
        trace = exact(*arguments, **options)
        next(iter(trace.spikes.values()))[0, 0].flat[0] ^= 1
        return trace

    monkeypatch.setattr(conformance, "run_fast", faulty)
    monkeypatch.setattr(
        conformance, "run_lava_jobs", lambda jobs, workers: [exact(j.program, j.inputs, record=j.record) for j in jobs]
    )
    code, [row] = run(monkeypatch, tmp_path / "log.csv", 1)
    assert (code, row["outcome"]) == (1, "different")
    assert row["detail"].startswith("fast: population0 spikes: sample 0, step 0")
