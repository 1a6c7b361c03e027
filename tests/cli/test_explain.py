"""`lavatube parity --explain`, of engines and of two trace files."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from report_folders import make_program

from lavatube import fixed_point
from lavatube.cli.app import invoke
from lavatube.program_file import program_sha256, save_program
from lavatube.sim.parity import parity
from lavatube.sim.run import run
from lavatube.trace import save_trace


@pytest.fixture
def program():
    return make_program()


@pytest.fixture
def images():
    return np.random.default_rng(1).integers(0, 12, (9, 12))


def test_two_traces_and_their_program_are_explained(tmp_path, program, images, capsys):
    other = replace(
        program, nodes=tuple(replace(n, reset="subtract") if n.name == "hidden" else n for n in program.nodes)
    )
    save_program(program, tmp_path / "program.safetensors")
    run(program, images, backend="fast", out=tmp_path / "a.npz")  # without u and v: the engine runs it again
    faulty = run(other, images, backend="reference", record=("u", "v"))
    same = {"program_sha256": program_sha256(program)}  # as an engine with this fault would say
    save_trace(replace(faulty, meta={**faulty.meta, **same}), tmp_path / "b.npz")
    command = ["parity", str(tmp_path / "a.npz"), str(tmp_path / "b.npz"), "--explain"]
    assert invoke(command) == 2
    assert "--program" in capsys.readouterr().err
    command += ["--program", str(tmp_path / "program.safetensors")]
    code = invoke(command)
    shown = capsys.readouterr().out
    assert code == 1
    assert invoke([*command, "--json"]) == code
    explanation = json.loads(capsys.readouterr().out)["engines"][0]["explanation"]
    assert explanation["sides"][1]["causes"][0]["rule"] == "reset by subtraction"
    assert [side["state"] for side in explanation["sides"]] == ["recorded", "recorded"]
    assert "subtracts the threshold" in shown
    assert max(len(line) for line in shown.splitlines()) <= 100


def test_a_faulty_engine_is_run_again_and_explained_in_parity_json(tmp_path, program, images, monkeypatch):
    save_program(program, tmp_path / "program.safetensors")
    np.savez(tmp_path / "x.npz", input=images)
    options = {"data": tmp_path / "x.npz", "against": ["fast"], "out": tmp_path / "parity.json", "explain": True}
    options["record"] = ("u", "v")
    assert parity(tmp_path / "program.safetensors", **options).equal
    honest = fixed_point.decay
    monkeypatch.setattr(
        fixed_point,
        "decay",
        lambda state, constant, offset=0: (
            honest(state, constant, offset=offset) if offset else (state * (4096 - constant)) >> 12
        ),
    )
    report = parity(tmp_path / "program.safetensors", **options)
    assert not report.equal
    found = json.loads((tmp_path / "parity.json").read_text())["engines"][0]["explanation"]
    sides = {side["engine"]: side for side in found["sides"]}
    assert sides["fast"]["follows"]
    assert sides["reference"]["causes"][0]["rule"] == "decay of v rounded down"
    assert found["verdict"].startswith("reference rounds the leak of v down")
