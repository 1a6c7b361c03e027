"""Mutated .nir files are read or refused; the long form of this is `tests/fuzz_nir.py`."""

from __future__ import annotations

import csv
import sys

import fuzz_nir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lavatube.errors import LavatubeError


@given(st.integers(0, 2**31), st.integers(0, 2**31))
@settings(max_examples=200, deadline=None)
def test_a_mutated_file_is_simulated_or_refused(tmp_path_factory, seed, number):
    path = tmp_path_factory.mktemp("fuzz", numbered=True) / "x.nir"
    fuzz_nir.mutated(seed, number, path)
    outcome, detail = fuzz_nir.judge(path)
    path.unlink()
    assert outcome in fuzz_nir.FINE, detail


def run(monkeypatch, out, files):
    monkeypatch.setattr(sys, "argv", ["fuzz_nir.py", "--files", str(files), "--out", str(out)])
    code = fuzz_nir.main()
    with out.open(newline="") as handle:
        return code, list(csv.DictReader(handle))


@pytest.mark.slow
def test_the_command_logs_every_file_once_and_goes_on(monkeypatch, tmp_path):
    code, first = run(monkeypatch, tmp_path / "log.csv", 3)
    assert (code, [row["file"] for row in first]) == (0, ["0", "1", "2"])
    code, rows = run(monkeypatch, tmp_path / "log.csv", 5)
    assert (code, len(rows), rows[:3]) == (0, 5, first)


def test_another_exception_and_a_broken_promise_are_found(monkeypatch, tmp_path):
    def breaks(path):
        raise MemoryError("too much")

    monkeypatch.setattr(fuzz_nir, "read_float_graph", breaks)
    assert fuzz_nir.judge(tmp_path) == ("other error", "MemoryError: too much")
    flat = fuzz_nir.FloatGraph({}, (), frozenset({("a", "b")}), {}, (), "", "")
    monkeypatch.setattr(fuzz_nir, "read_float_graph", lambda path: flat)
    assert fuzz_nir.judge(tmp_path)[0] == "broken promise"

    def refuses(path):
        raise LavatubeError("no")

    monkeypatch.setattr(fuzz_nir, "read_float_graph", refuses)
    assert fuzz_nir.judge(tmp_path) == ("refused", "no")
