"""Wrong arguments and broken files end in one line on stderr and exit code 2: no traceback, no half-written file."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
import yaml

from lavatube.cli.app import invoke
from lavatube.program_file import save_program


@pytest.fixture
def folder(tmp_path, small_program):
    save_program(small_program(1), tmp_path / "p.safetensors")
    np.savez(tmp_path / "x.npz", input=np.random.default_rng(0).integers(0, 256, (3, 2, 6, 5)))
    np.savez(tmp_path / "nan.npz", input=np.full((3, 2, 6, 5), np.nan))
    np.savez(tmp_path / "shape.npz", input=np.ones((3, 2, 6, 6), int))
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "p.safetensors").read_bytes()[:200])
    (tmp_path / "text.nir").write_text("not HDF5")
    (tmp_path / "recipe.yaml").write_text("name: x\nnum_steps: 8\nlearning_rate: 3\n")
    (tmp_path / "zero.yaml").write_text("name: x\nnum_steps: 0\n")
    for name, changes in RECIPES.items():
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(RECIPE | changes))
    (tmp_path / "mnist").mkdir()
    for part, what in itertools.product(("train", "t10k"), ("images-idx3", "labels-idx1")):
        (tmp_path / "mnist" / f"{part}-{what}-ubyte").write_bytes(b"no digits")
    return tmp_path


RECIPE = {
    "name": "x",
    "num_steps": 2,
    "data": {"name": "digits"},
    "network": {"kind": "chain", "layers": [{"dense": {"units": 12}}, {"dense": {"units": 10}}]},
    "neuron": {"decay": 0.5},
    "optimizer": {"lr": 0.02, "epochs": 1, "batch_size": 128},
}
RECIPES = {
    "no-data": {"data": {"name": "nowhere"}},
    "option": {"encoder": {"kind": "rate", "speed": 3}},
    "together": {"network": {"kind": "recurrent", "units": [8]}, "gradient": "rate"},
    "classes": {"network": {"kind": "chain", "layers": [{"dense": {"units": 4}}]}},
    "static": {"encoder": "delta"},
    "diverges": {"optimizer": {"name": "sgd", "lr": 1e30, "epochs": 1, "batch_size": 128}},
    "teacher": {"objective": ["cross_entropy", "kdsnn"], "teacher": {"kind": "run", "folder": "no-run"}},
}


CASES = [
    ("run {d}/p.safetensors --input {d}/nan.npz", "input holds NaN"),
    ("run {d}/p.safetensors --input {d}/shape.npz", "input shape, expected [T, B, 2, 6, 5] or [B, 2, 6, 5]"),
    ("run {d}/p.safetensors --input {d}/x.npz --steps 0", "steps, expected at least 1, got 0"),
    ("run {d}/p.safetensors --input {d}/missing.npz", "missing.npz: no such file"),
    (
        "run {d}/p.safetensors --input {d}/x.npz --backend loihi",
        "unknown backend, expected reference, fast, lava, torch, onnx",
    ),
    ("run {d}/p.safetensors --input {d}/x.npz --record w", "--record, expected u and v, got w"),
    ("run {d}/p.safetensors --input {d}/x.npz --backend torch", "expected a run folder"),
    ("run {d}/p.safetensors --input {d}/x.npz --device tpu", "device"),
    ("run {d}/p.safetensors --input {d}/x.npz --overflow maybe", "--overflow, expected strict or hardware"),
    ("run {d}/p.safetensors --input {d}/x.npz --out /proc/x/t.npz", "/proc/x"),
    ("run {d}/p.safetensors --input {d}/x.npz --backend reference --device foo", "--device would not be used"),
    ("run {d}/p.safetensors --input {d}/x.npz --backend onnx --stock-only", "--stock-only would not be used"),
    ("run {d}/p.safetensors --input {d}/x.npz --conv own", "--conv would not be used, expected --backend lava"),
    ("run {d}/p.safetensors --input {d}/x.npz --backend onnx --timeout 3", "--timeout would not be used"),
    ("run {d}/step.onnx --input {d}/x.npz --backend onnx --overflow hardware", "--overflow would not be used"),
    ("run {d}/text.nir --input {d}/x.npz --backend float --overflow hardware", "--overflow would not be used"),
    ("run {d}/text.nir --input {d}/x.npz --backend float --timeout -1", "--timeout would not be used"),
    ("run {d}/text.nir --input {d}/x.npz --backend float --device cuda", "--device would not be used"),
    ("run {d}/text.nir --input {d}/x.npz --backend float --packed", "--packed would not be used"),
    ("run {d}/cut.safetensors --input {d}/x.npz", "damaged or foreign file"),
    ("run {d}/p.safetensors", "--input"),
    ("lower {d}/text.nir", "damaged or foreign file"),
    ("lower {d}/p.safetensors", "damaged or foreign file"),
    ("lower {d}/text.nir --overflow x", "--overflow, expected strict or hardware, got x"),
    ("train {d}/recipe.yaml", "learning_rate"),
    ("train {d}/zero.yaml", "num_steps"),
    ("train nothing", "nothing"),
    ("train {d}/no-data.yaml", "unknown data set, expected digits"),
    ("train {d}/option.yaml", "unknown key encoder.speed, expected one of: kind"),
    ("train {d}/together.yaml", "network recurrent does not go with gradient rate"),
    ("train {d}/classes.yaml", "read-out does not fit the data, expected 10 units, got 4"),
    ("train {d}/static.yaml", "encoder delta is not for static samples"),
    ("train {d}/diverges.yaml", "not finite"),
    ("train {d}/teacher.yaml", "no trained teacher"),
    ("train imu --data-dir {d}", "watch_imu.npz: no such data"),
    ("train imu --data-dir {d}/typo", "typo: no such data folder"),
    ("train mnist --data-dir {d}", "not an IDX file"),
    ("train", "no recipe"),
    ("quantize {d}", "config.json"),
    ("export {d}", "quantized.safetensors"),
    ("inspect {d}/cut.safetensors", "damaged or foreign file"),
    ("inspect {d}", "a folder"),
    ("parity {d}/p.safetensors", "no samples"),
    ("parity {d}/p.safetensors --data nowhere", "unknown data set"),
    ("parity {d}/p.safetensors --data {d}/x.npz --against gpu", "unknown engine"),
    ("parity {d}/p.safetensors --data {d}/x.npz --against torch", "--against torch, expected a run folder"),
    ("parity {d}/x.npz {d}/x.npz", "not a trace"),
    ("parity {d}/x.npz", "one trace"),
    ("energy {d}/p.safetensors", "exactly one of --input, --trace and --counts"),
    ("energy {d}/p.safetensors --input {d}/x.npz --prices loihi9", "no such price table"),
    ("bogus", "bogus"),
    ("run --nonsense", "--nonsense"),
]


@pytest.mark.parametrize(("command", "words"), CASES)
def test_one_line_exit_2_and_no_file(folder, capsys, monkeypatch, command, words):
    monkeypatch.chdir(folder)
    before = {path.name for path in folder.rglob("*")}
    assert invoke(command.format(d=folder).split()) == 2
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert words in lines[0]
    assert "Traceback" not in captured.err + captured.out
    assert {path.name for path in folder.rglob("*")} == before


def test_run_prints_json_and_writes_the_trace(folder, capsys):
    code = invoke(f"run {folder}/p.safetensors --input {folder}/x.npz --out {folder}/t.npz --json --record v,u".split())
    assert code == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["engine"], result["samples"], result["steps"]) == ("fast", 3, 6)
    with np.load(folder / "t.npz") as trace:
        assert trace["spikes/layer1_lif"].shape == (6, 3, 3, 6, 5)
        assert {"v/layer2_lif", "u/layer1_lif", "readout", "prediction"} <= set(trace.files)


def test_two_different_traces_exit_1_and_name_the_place(folder, capsys, small_program):
    from dataclasses import replace

    program = small_program(1)
    weight = program.nodes[1].weight.copy()
    weight[0, 0, 1, 1] ^= 128
    nodes = (program.nodes[0], replace(program.nodes[1], weight=weight), *program.nodes[2:])
    save_program(replace(program, nodes=nodes), folder / "q.safetensors")
    for name in "pq":
        assert invoke(f"run {folder}/{name}.safetensors --input {folder}/x.npz --out {folder}/{name}.npz".split()) == 0
    assert invoke(f"parity {folder}/p.npz {folder}/p.npz".split()) == 0
    assert "EQUAL" in capsys.readouterr().out
    assert invoke(f"parity {folder}/p.npz {folder}/q.npz".split()) == 1
    printed = capsys.readouterr().out
    assert "first mismatch: layer1_lif (spikes), step" in printed
    assert "made by two programs" in printed


def test_every_command_has_help_that_names_its_options(capsys):
    from lavatube.cli.app import COMMANDS

    for command in COMMANDS:
        assert invoke([command.__name__, "--help"]) == 0
        assert command.__doc__.split(".")[0].split(":")[0][:30] in capsys.readouterr().out


def test_export_and_run_know_all_that_they_take(capsys):
    from lavatube.cli.run import ENGINES
    from lavatube.sim.run import BACKENDS

    assert {*BACKENDS, "float"} == set(ENGINES)
    assert invoke(["export", "--help"]) == 0
    words = " ".join(capsys.readouterr().out.split())
    assert "run folder with quantized.safetensors, a folder of `quantize FILE.nir`, or a program" in words
