"""lavatube energy: counts first, prices from names, files and folders; what is missing is said in one line."""

from __future__ import annotations

import json

import pytest

from lavatube.cli.app import invoke
from lavatube.inputs import save_inputs
from lavatube.program_file import save_program
from lavatube.sim.price_table import SHIPPED, list_prices


@pytest.fixture
def files(tmp_path, small_program, random_inputs):
    program = small_program(4)
    save_program(program, tmp_path / "p.safetensors")
    save_inputs(random_inputs(program), tmp_path / "x.npz")
    return tmp_path


def test_counts_come_first_and_can_be_priced_again_without_a_run(files, capsys):
    run = ["energy", str(files / "p.safetensors"), "--input", str(files / "x.npz"), "--out", str(files / "out")]
    assert invoke([*run, "--per-step"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("counts over 4 samples")
    assert max(map(len, lines)) <= 100
    again = ["energy", str(files / "p.safetensors"), "--counts", str(files / "out" / "counts.json"), "--json"]
    assert invoke(again) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["counts"] == json.loads((files / "out" / "counts.json").read_text())
    before = json.loads((files / "out" / "energy.json").read_text())
    assert found["energy"]["interval"] == before["interval"]
    steps = json.loads((files / "out" / "counts_per_step.json").read_text())
    for row in found["counts"]["layers"]:
        assert sum(steps[row["layer"]]["synops_stored"]) == row["synops_stored"]


def test_every_shipped_table_prints_within_a_hundred_columns(files, capsys):
    prices = [part for name in list_prices() for part in ("--prices", name)]
    assert invoke(["energy", str(files / "p.safetensors"), "--input", str(files / "x.npz"), *prices]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    assert any("break-even" in line for line in lines)


def test_a_price_file_with_one_illegal_entry_is_refused_in_one_line(files, capsys):
    value = json.loads((SHIPPED / "loihi1-davies2018.json").read_text())
    value["terms"]["hop_x"]["nominal"] = 2000
    (files / "mine.json").write_text(json.dumps(value))
    arguments = ["energy", str(files / "p.safetensors"), "--input", str(files / "x.npz")]
    assert invoke([*arguments, "--prices", str(files / "mine.json")]) == 2
    error = capsys.readouterr().err.strip()
    assert (
        "mine.json: term hop_x: prices, expected integers or null, not all null, 0 <= low <= nominal <= high" in error
    )
    assert error.endswith("got [3000, 2000, 3000]")
    assert "\n" not in error


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--input x.npz --measure cpu", "--measure, expected a run folder"),
        ("--counts counts.json --per-step", "--per-step, expected --input or --trace"),
        ("--input x.npz --trace x.npz", "exactly one of --input, --trace and --counts"),
    ],
)
def test_what_cannot_be_done_is_said(files, capsys, options, words):
    words_at = [str(files / word) if "." in word else word for word in options.split()]
    assert invoke(["energy", str(files / "p.safetensors"), *words_at]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("wrong", ["--target loihi9 --input x.npz", "--input none.npz", "--input x.npz --prices none"])
def test_what_is_refused_leaves_no_folder_behind(files, capsys, wrong):
    words = [str(files / word) if word.endswith(".npz") else word for word in wrong.split()]
    out = files / "new" / "out"
    assert invoke(["energy", str(files / "p.safetensors"), *words, "--out", str(out)]) == 2
    assert not out.parent.exists()
    assert invoke(["map", str(files / "p.safetensors"), "--target", "loihi9", "--out", str(out / "m.json")]) == 2
    assert not out.parent.exists()


def test_the_limits_that_map_knows_are_targets_here_too(files, capsys):
    run = ["energy", str(files / "p.safetensors"), "--input", str(files / "x.npz"), "--json", "--target"]
    assert invoke([*run, "loihi2"]) == 0
    new = json.loads(capsys.readouterr().out)
    assert invoke([*run, "loihi2-2022"]) == 0
    old = json.loads(capsys.readouterr().out)
    assert old["counts"]["traffic"]["cores"] >= new["counts"]["traffic"]["cores"]
    assert any("on a loihi2 program" in label for label in old["energy"]["labels"])
    assert invoke([*run, "loihi9"]) == 2
    assert "loihi1, loihi2, loihi2-2022, got loihi9" in capsys.readouterr().err


def test_what_is_unpriced_is_said_of_the_table_that_leaves_it_out(files, capsys):
    prices = ["--prices", "loihi1-davies2018", "--prices", "loihi1-sanafe2025", "--prices", "horowitz45-int8"]
    assert invoke(["energy", str(files / "p.safetensors"), "--input", str(files / "x.npz"), *prices]) == 0
    lines = " ".join(capsys.readouterr().out.split()).split(" unpriced in ")[1:]
    (davies,) = (line for line in lines if line.startswith("loihi1-davies2018: "))
    (sanafe,) = (line for line in lines if line.startswith("loihi1-sanafe2025: "))
    assert "spike" in davies.partition("(no price in this table)")[0]
    assert "spike" not in sanafe.partition("(no price in this table)")[0]
    assert lines[-1].startswith("every table: ")


def test_samples_counted_one_by_one_give_the_same_file_and_one_that_is_too_long_is_refused(files, capsys, monkeypatch):
    run = ["energy", str(files / "p.safetensors"), "--input", str(files / "x.npz"), "--json", "--per-step"]
    assert invoke(run) == 0
    whole = json.loads(capsys.readouterr().out)
    assert whole["energy"]["tables"][0]["latency"]["total"]["high"] > 0
    monkeypatch.setattr("lavatube.sim.counted_parts.NEURON_STEPS_AT_ONCE", 1)
    assert invoke(run) == 0
    assert json.loads(capsys.readouterr().out) == whole
    monkeypatch.setattr("lavatube.sim.counted_parts.MOST_OF_A_SAMPLE", 1)
    assert invoke(run) == 2
    error = capsys.readouterr().err.strip()
    assert "a sample too long to be counted by core" in error
    assert "run --counts" in error
    assert "\n" not in error
