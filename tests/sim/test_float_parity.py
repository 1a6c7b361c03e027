"""Level 1: a program against its float network, from the command line to the gates; level 0 of what quantize makes."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import nir
import numpy as np
import pytest
from dyadic_nir import Dyadic, random_contract

from lavatube.cli.app import invoke
from lavatube.convert.float_graph.read import flat_graph
from lavatube.convert.post_training.quantize_graph import quantize_graph
from lavatube.errors import LavatubeError
from lavatube.files import sha256_of_file
from lavatube.lossy_text import record_lines
from lavatube.program_file import load_program, program_sha256
from lavatube.sim.compare import compare
from lavatube.sim.float_parity import float_parity
from lavatube.sim.parity_report import save_parity
from lavatube.sim.run import run
from lavatube.sim.shares import wilson

NIR = Path(__file__).parents[1] / "data" / "nir"
BRAILLE = NIR / "nirtorch_braille.nir"


def write_data(path: Path, shape: tuple[int, ...], *, steps: int = 40, batch: int = 6, rate: float = 0.4) -> Path:
    rng = np.random.default_rng(0)
    np.savez(path, input=(rng.random((steps, batch, *shape)) < rate).astype(np.uint8), label=np.arange(batch) % 7)
    return path


@pytest.fixture
def braille(tmp_path: Path) -> tuple[Path, Path]:
    """(folder of `lavatube quantize`, X.npz)"""
    data = write_data(tmp_path / "x.npz", (12,))
    command = ["quantize", str(BRAILLE), "--out", str(tmp_path / "q"), "--contract", "norse", "--dt", "1e-4"]
    assert invoke([*command, "--data", str(data)]) == 0
    return tmp_path / "q", data


def test_a_float_file_becomes_a_folder_whose_program_is_within_the_gates(braille, capsys):
    folder, data = braille
    assert {path.name for path in folder.iterdir()} == {
        "program.safetensors", "model.nir", "float.nir", "quantization.json", "input.npz",
    }  # fmt: skip
    assert (folder / "float.nir").read_bytes() == BRAILLE.read_bytes()
    capsys.readouterr()
    assert invoke(["parity", str(folder), "--against", "float", "--data", str(data), "--max-count-error", "0.15"]) == 0
    said = capsys.readouterr().out
    assert "WITHIN the bounds" in said
    assert "accuracy" in said
    report = json.loads((folder / "parity.json").read_text())
    assert (report["level"], report["holds"], report["samples"]) == (1, True, 6)
    first = report["layers"][0]
    assert first["spikes_float"] > 50
    assert first["count_error"]["low"] <= first["count_error"]["value"] <= first["count_error"]["high"]


def test_the_nir_file_of_the_integers_is_exported_and_lowered_to_the_same_program(braille, capsys, tmp_path):
    folder, data = braille
    engines = "fast,onnx" if find_spec("onnxruntime") else "fast"
    assert invoke(["parity", str(folder), "--against", engines, "--record", "v,u"]) == 0  # on the calibration data
    first = load_program(folder / "program.safetensors")
    assert invoke(["export", str(folder), "--nir", str(tmp_path / "a.nir")]) == 0
    assert invoke(["lower", str(tmp_path / "a.nir"), "--out", str(tmp_path / "a.safetensors")]) == 0
    assert invoke(["lower", str(folder)]) == 0
    again, other = load_program(folder / "program.safetensors"), load_program(tmp_path / "a.safetensors")
    assert program_sha256(first) == program_sha256(again)
    assert program_sha256(replace(first, source={})) == program_sha256(replace(other, source={}))
    assert other.source["float_sha256"] == first.source["float_sha256"] == sha256_of_file(BRAILLE)
    assert other.source["sha256"] == sha256_of_file(tmp_path / "a.nir")
    events = folder / "input.npz"
    assert compare(run(first, events, backend="reference"), run(other, events, backend="fast")).equal
    assert float_parity(tmp_path / "a.safetensors", float_file=BRAILLE, data=data).layers
    assert invoke(["inspect", str(folder / "model.nir")]) == 0
    assert "quantized by lavatube" in capsys.readouterr().out


def test_a_folder_whose_nir_file_was_made_again_is_refused_until_it_is_lowered(braille, capsys):
    folder, _ = braille
    assert invoke(["export", str(folder)]) == 0
    assert invoke(["parity", str(folder), "--against", "fast"]) == 2
    assert "lavatube lower" in capsys.readouterr().err
    assert invoke(["lower", str(folder)]) == 0
    assert invoke(["parity", str(folder), "--against", "fast"]) == 0


def test_neither_level_of_the_report_overwrites_the_other(braille):
    folder, data = braille
    zero = ["parity", str(folder), "--against", "fast", "--out", str(folder / "parity.json")]
    one = ["parity", str(folder), "--against", "float", "--data", str(data), "--max-count-error", "0.15"]
    seen = []
    for command in (one, zero, one, zero):
        assert invoke(command) == 0
        seen.append(json.loads((folder / "parity.json").read_text()))
    assert seen[0]["level"] == 1
    for report in seen[1:]:
        assert (report["level"], report["float"]) == (0, seen[0])
        assert [row["engine"] for row in report["engines"]] == ["fast"]
    save_parity({"level": 0, "program_sha256": "another"}, folder / "parity.json")
    assert json.loads((folder / "parity.json").read_text()) == {"level": 0, "program_sha256": "another"}


def test_a_gate_that_fails_is_exit_1_and_says_which(braille, capsys):
    folder, data = braille
    command = ["parity", str(folder / "program.safetensors"), "--against", "float", "--float", str(BRAILLE)]
    capsys.readouterr()
    assert invoke([*command, "--data", str(data), "--max-count-error", "1e-6", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert not report["holds"]
    assert [row["holds"] for row in report["layers"]] == [row["count_error"]["value"] == 0 for row in report["layers"]]


def test_the_energy_of_both_is_compared_and_gated(braille, capsys):
    folder, data = braille
    report = float_parity(folder, data=data)
    assert {(row.prices, row.bound) for row in report.energy} >= {("loihi1-band", "low"), ("loihi1-davies2018", "low")}
    for row in report.energy:
        assert row.fj_float > 0
        assert row.error.value == pytest.approx(row.fj_program / row.fj_float - 1, abs=1e-12)
        assert row.error.low <= row.error.value <= row.error.high
    assert any(row.fj_float != row.fj_program for row in report.energy)  # the premise: rounding changes counts here
    command = ["parity", str(folder), "--against", "float", "--data", str(data), "--max-count-error", "0.15"]
    assert invoke([*command, "--max-energy-error", "1e-6"]) == 1
    assert "uJ float" in capsys.readouterr().out


def test_another_float_file_is_refused(braille):
    folder, data = braille
    with pytest.raises(LavatubeError, match="not made from this file"):
        float_parity(folder, float_file=NIR / "lif_norse.nir", data=data)


def test_the_report_counts_what_differs(braille):
    folder, data = braille
    other = float_parity(folder, data=data, contract="norse,dt=1e-4,comparator=>=,cuba_reset=subtract")
    same = float_parity(folder, data=data)
    assert other.layers[0].count_error.value > same.layers[0].count_error.value
    assert other.layers[0].spikes_float != same.layers[0].spikes_float
    assert other.layers[0].spikes_program == same.layers[0].spikes_program


def test_what_rounding_does_to_the_input_is_in_the_report(braille, tmp_path, capsys):
    folder, data = braille
    assert float_parity(folder, data=data).input_errors == {"input": 0}
    arrays = dict(np.load(data))
    np.savez(tmp_path / "part.npz", **{**arrays, "input": arrays["input"] * 0.9})
    command = ["parity", str(folder), "--against", "float", "--data", str(tmp_path / "part.npz"), "--json"]
    capsys.readouterr()
    invoke(command)
    assert json.loads(capsys.readouterr().out)["input_errors"] == {"input": pytest.approx(0.1)}
    invoke(command[:-1])
    assert "input input: rounded by at most 0.1" in capsys.readouterr().out


def test_an_input_beyond_the_programs_encoding_is_refused_but_not_beyond_its_length(braille, tmp_path, capsys):
    folder, data = braille
    arrays = dict(np.load(data))
    np.savez(tmp_path / "large.npz", **{**arrays, "input": arrays["input"] * 3})
    assert invoke(["parity", str(folder), "--against", "float", "--data", str(tmp_path / "large.npz")]) == 2
    assert "outside the program's encoding, expected 0..1 (1 bits, each worth 1), got 0..3" in capsys.readouterr().err
    arrays["input"][10:] *= 3
    np.savez(tmp_path / "cut.npz", **arrays, length=np.full(6, 10))
    cut, short = (float_parity(folder, data=tmp_path / "cut.npz"), float_parity(folder, data=data, steps=10))
    assert cut.layers == short.layers


def test_level_0_holds_between_the_engines_for_a_quantized_recurrent_file(braille):
    folder, data = braille
    program = load_program(folder / "program.safetensors")
    events = np.load(data)["input"][:20, :2]
    reference = run(program, events, backend="reference", record=["v", "u"])
    assert sum(int(spikes.sum()) for spikes in reference.spikes.values()) > 100
    for engine in ("fast", "lava"):
        assert compare(reference, run(program, events, backend=engine, record=["v", "u"])).first is None


@pytest.mark.parametrize("seed", [4, 6, 9])
def test_level_0_holds_between_the_engines_for_quantized_random_graphs(seed):
    graph = flat_graph(Dyadic(seed).graph)
    program = quantize_graph(graph, random_contract(seed), num_steps=6)
    rng = np.random.default_rng(seed)
    events = {node.name: rng.integers(0, 2, (6, 2, *node.shape)) for node in program.inputs}
    reference = run(program, events, backend="reference")
    for engine in ("fast", "lava"):
        assert compare(reference, run(program, events, backend=engine)).first is None


def test_lower_takes_a_float_file_and_strict_refuses_what_it_rounds(tmp_path, capsys):
    out = tmp_path / "p.safetensors"
    command = ["lower", str(NIR / "lif_norse.nir"), "--contract", "norse", "--dt", "1e-4", "--out", str(out)]
    assert invoke(command) == 0
    assert load_program(out).neurons[0].dv == 164
    assert invoke([*command, "--strict"]) == 2
    assert "lossy steps" in capsys.readouterr().err
    assert invoke(["lower", str(NIR / "lif_norse.nir"), "--out", str(out)]) == 2
    assert "expected --contract with one of" in capsys.readouterr().err


def test_strict_quantization_refuses_only_another_contract(tmp_path, capsys):
    full = np.ones(2)
    nodes = {"input": nir.Input(np.array([2])), "w": nir.Linear(np.array([[0.3, 0.7], [0.1, -0.9]])),
             "n": nir.IF(full, full, full * 0), "o": nir.Output(np.array([2]))}  # fmt: skip
    graph = nir.NIRGraph(nodes, [("input", "w"), ("w", "n"), ("n", "o")], type_check=False)
    nir.write(str(tmp_path / "f.nir"), graph)
    command = ["quantize", str(tmp_path / "f.nir"), "--strict", "--overwrite", "--out", str(tmp_path / "q")]
    assert invoke([*command, "--contract", "loihi"]) == 0
    assert invoke([*command, "--contract", "loihi,if_reset=subtract,spikes_per_step=many"]) == 2
    assert "one spike in a timestep" in capsys.readouterr().err
    assert invoke([*command, "--contract", "loihi,if_reset=subtract", "--target", "loihi1"]) == 2
    assert "soft reset" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("right", "trials", "low", "high"), [(9, 10, 0.5958, 0.9821), (0, 5, 0.0, 0.4345), (4, 4, 0.5101, 1)]
)
def test_wilson_intervals_are_those_of_the_formula(right, trials, low, high):
    found = wilson(right, trials)
    assert (found.low, found.high) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


def test_a_file_that_cannot_spike_and_weights_that_found_no_room_are_noted(tmp_path, capsys):
    rng = np.random.default_rng(0)
    full = np.ones(4)
    nodes = {"input": nir.Input(np.array([8])), "w": nir.Linear(rng.normal(size=(4, 8))),
             "n": nir.IF(full, full, full * 0), "o": nir.Output(np.array([4]))}  # fmt: skip
    edges = [("input", "w"), ("w", "n"), ("n", "o")]
    nir.write(str(tmp_path / "f.nir"), nir.NIRGraph(nodes, edges, type_check=False))
    command = ["lower", str(tmp_path / "f.nir"), "--out", str(tmp_path / "p.safetensors"), "--contract"]
    assert invoke([*command, "loihi", "--json"]) == 0  # dt = 1e-4 in r * dt: 128 timesteps do not reach 1
    assert json.loads(capsys.readouterr().out)["never_spiking"] == ["n"]
    assert invoke([*command, "loihi"]) == 0
    assert "no neuron of n can spike in 128 timesteps" in capsys.readouterr().out
    assert invoke([*command, "norse"]) == 0
    assert "note: no neuron" not in capsys.readouterr().out
    assert invoke([*command, "norse", "--input-bits", "7"]) == 0
    said = capsys.readouterr().out
    assert "became 0" not in said  # 8 bits below a weight unit, where the unit is a threshold
    lossy = record_lines(load_program(tmp_path / "p.safetensors").lossy)
    rounded = "sums rounded down to the unit of their population (lost at most 0.96875; threshold 1)"
    assert any(rounded in line for line in lossy)
    assert all(words in said for words in ("sums rounded down", "lost at most 0.96875; threshold 1"))
    command = ["quantize", str(tmp_path / "f.nir"), "--overwrite", "--out", str(tmp_path / "q"), "--weight-bits", "2"]
    command += ["--contract", "norse", "--input-bits", "7"]
    assert invoke(command) == 0
    assert "weights of w became 0, as v could leave its register otherwise: try --overflow" in capsys.readouterr().out
    assert invoke([*command, "--overflow", "hardware"]) == 0
    assert "became 0" not in capsys.readouterr().out
