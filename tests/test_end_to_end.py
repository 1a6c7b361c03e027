"""The main job on real data, from the command line: trained, quantized, exported, lowered, run in Lava, all equal."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import lavatube.train
from lavatube.cli.app import invoke
from lavatube.sim.run import run

ENGINES = ("reference", "fast", "torch", "lava")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run of the shipped recipe, cut to a few epochs, up to the program."""
    base = tmp_path_factory.mktemp("end to end")
    text = (Path(lavatube.train.__file__).parent / "recipes" / "digits.yaml").read_text()
    assert "\n  epochs: 80" in text
    assert "warmup_epochs: 5" in text
    short = text.replace("\n  epochs: 80", "\n  epochs: 6").replace("warmup_epochs: 5", "warmup_epochs: 0")
    (base / "short.yaml").write_text(short)
    out = base / "run"
    assert invoke(["train", str(base / "short.yaml"), "--out", str(out)]) == 0
    assert invoke(["quantize", str(out), "--epochs", "2"]) == 0
    assert invoke(["export", str(out)]) == 0
    assert invoke(["lower", str(out)]) == 0
    return out


def test_a_short_training_already_recognises_digits_and_quantization_keeps_it(folder):
    config = json.loads((folder / "config.json").read_text())
    assert config["metrics"]["test_accuracy"] > 90
    assert config["metrics"]["test_samples"] == 360
    assert invoke(["inspect", str(folder / "program.safetensors")]) == 0
    from lavatube.trained import load_quantized

    metrics = load_quantized(folder / "quantized.safetensors").metrics
    assert metrics["test_accuracy"] > 89
    assert metrics["test_samples"] == 360


def test_parity_holds_on_every_engine_and_is_written(folder, capsys):
    assert invoke(["parity", str(folder), "--samples", "40", "--record", "v,u", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert not (folder / "parity.json").exists()  # a partial comparison does not stand for the full one
    assert report["equal"]
    assert {engine["engine"] for engine in report["engines"]} == {"fast", "lava", "torch"}
    assert report["neuron_steps"] == 40 * 8 * (16 * 64 + 32 * 16)
    for engine in report["engines"]:
        assert engine["counts_equal"]
        assert {row["quantity"] for row in engine["rows"]} == {"spikes", "u", "v", "readout"}
        assert all(row["total_a"] != 0 for row in engine["rows"])


def test_onnx_runtime_agrees_as_an_outside_judge(folder, capsys):
    pytest.importorskip("onnxruntime", reason="needs the extra onnx")
    pytest.importorskip("onnx", reason="needs the extra onnx")
    command = ["parity", str(folder), "--samples", "40", "--record", "v,u", "--json", "--against", "onnx"]
    assert invoke(command) == 0
    (engine,) = json.loads(capsys.readouterr().out)["engines"]
    assert (engine["engine"], engine["equal"], engine["counts_equal"]) == ("onnx", True, True)


def test_one_weight_bit_in_the_program_fails_parity_with_exit_1(folder, tmp_path, capsys):
    import shutil
    from dataclasses import replace

    from lavatube.program_file import load_program, save_program

    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    program = load_program(copy / "program.safetensors")
    weight = program.nodes[3].weight.copy()
    weight[5, 3, 1, 1] ^= 64
    nodes = (*program.nodes[:3], replace(program.nodes[3], weight=weight), *program.nodes[4:])
    save_program(replace(program, nodes=nodes, overflow="hardware"), copy / "program.safetensors")
    assert invoke(["parity", str(copy), "--against", "torch", "--samples", "60"]) == 1
    printed = capsys.readouterr().out
    assert "first mismatch: layer2_lif (spikes), step" in printed
    assert "DIFFERENT" in printed


def test_any_input_gives_the_same_trace_on_every_engine(folder):
    rng = np.random.default_rng(0)
    inputs = [
        rng.integers(0, 256, (8, 3, 1, 8, 8)),
        np.zeros((4, 2, 1, 8, 8), int),
        np.full((5, 1, 1, 8, 8), 255),
        rng.integers(0, 2, (1, 4, 1, 8, 8)),
    ]
    for events in inputs:
        first, *others = (run(folder, events, backend=name) for name in ENGINES)
        for other in others:
            for name in first.spikes:
                np.testing.assert_array_equal(first.spikes[name], other.spikes[name])
            np.testing.assert_array_equal(first.readout, other.readout)


def test_energy_of_a_torch_trace_equals_that_of_a_run(folder, tmp_path, capsys):
    from lavatube.inputs import save_inputs
    from lavatube.program_file import load_program
    from lavatube.sim.parity_samples import samples_for

    batch = samples_for(load_program(folder / "program.safetensors"), folder).samples(20)
    save_inputs(batch, tmp_path / "x.npz")
    run(folder, tmp_path / "x.npz", backend="torch", out=tmp_path / "t.npz")
    results = []
    for source in (["--input", str(tmp_path / "x.npz")], ["--trace", str(tmp_path / "t.npz")]):
        assert invoke(["energy", str(folder), *source, "--json"]) == 0
        results.append(json.loads(capsys.readouterr().out))
    assert results[0] == results[1]
    assert results[0]["energy"]["interval"]["low"] > 0


@pytest.mark.long
def test_a_killed_demo_goes_on_where_it_stopped(tmp_path):
    """Killed in the middle of training; the same command resumes from the checkpoint."""
    out = tmp_path / "demo"
    command = [sys.executable, "-m", "lavatube", "demo", "--out", str(out)]
    child = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    checkpoint = out / "checkpoint" / "checkpoint.safetensors"
    deadline = time.monotonic() + 90
    while not checkpoint.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert checkpoint.exists()
    assert not (out / "config.json").exists()
    child = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    while not (out / "config.json").exists() and child.poll() is None:
        time.sleep(0.1)
    child.send_signal(signal.SIGINT)
    errors = child.communicate(timeout=60)[1]
    if child.returncode != 0:
        assert child.returncode == 130, errors
        assert "Traceback" not in errors
    assert (out / "config.json").exists()
    assert sorted(path.name for path in Path(out).glob(".*")) == [".training.lock"]
