"""What quantization makes of a float file is equal in Lava: populations in parts, weights by channel, signed input."""

from __future__ import annotations

import json
from pathlib import Path

import nir
import numpy as np

from lavatube.cli.app import invoke
from lavatube.contract import LOIHI
from lavatube.convert.float_graph.read import flat_graph
from lavatube.convert.post_training.quantize_graph import quantize_graph
from lavatube.deploy.lower_float import encoded
from lavatube.lossy_text import record_lines
from lavatube.program import LoihiProgram, floors_sums
from lavatube.program_file import load_program
from lavatube.sim.compare import compare
from lavatube.sim.lava_run import LavaJob, run_lava_jobs
from lavatube.sim.reference import run_reference

DT, STEPS = 1e-3, 12
PLAIN = LOIHI.with_overrides(dt=DT, bias="input", state_rounding="none", weight_rounding="none", requires=())


def network(seed: int, *, parts: bool, channels: bool) -> nir.NIRGraph:
    """conv -> neurons -> dense with a loop -> neurons

    parts: several time constants in a population. channels: weights of a channel up to eight times those of another.
    """
    rng = np.random.default_rng(seed)

    def weights(*shape: int) -> np.ndarray:
        spread = 2.0 ** -np.arange(shape[0]).clip(0, 3) if channels else np.ones(shape[0])
        return rng.normal(0.2, 0.5, shape) * spread.reshape(-1, *(1,) * (len(shape) - 1))

    def neurons(*shape: int) -> nir.CubaLIF:
        full = np.ones(shape)
        tau = rng.choice([3e-3, 1e-2], shape) if parts else full * 1e-2
        tau.flat[:2] = [3e-3, 1e-2] if parts else 1e-2
        return nir.CubaLIF(full * 2e-3, tau, full, full * 0, full * 0.1, full * 0, full)

    nodes = {
        "input": nir.Input(np.array([2, 4, 4])),
        "a": nir.Conv2d((4, 4), weights(4, 2, 3, 3), 2, 1, 1, 1, np.zeros(4)),
        "n": neurons(4, 2, 2),
        "flat": nir.Flatten({"input": np.array([4, 2, 2])}, 0, -1),
        "b": nir.Affine(weights(5, 16), weights(5) * 0.2),
        "m": neurons(5),
        "loop": nir.Linear(weights(5, 5) * 0.3),
        "out": nir.Output(np.array([5])),
    }
    edges = [("input", "a"), ("a", "n"), ("n", "flat"), ("flat", "b"), ("b", "m"), ("m", "loop"), ("loop", "m"),
             ("m", "out")]  # fmt: skip
    return nir.NIRGraph(nodes, edges, type_check=False)


def samples(seed: int, *, signed: bool) -> np.ndarray:
    rng = np.random.default_rng(seed)
    real = np.round(rng.normal(size=(STEPS, 3, 2, 4, 4)), 1)
    return real if signed else (real > 0).astype(float)


def below_a_unit() -> LavaJob:
    """A convolution and a matrix on 8-bit values, for so many timesteps that whole units would be too coarse."""
    graph = flat_graph(network(5, parts=False, channels=False))
    data = {"input": np.floor(np.random.default_rng(5).random((STEPS, 3, 2, 4, 4)) * 256)}
    for name in ("a", "b", "loop"):
        graph.nodes[name].weight *= 1 / 16 if name == "a" else 1
    contract = PLAIN.with_overrides(if_reset="zero")
    program = quantize_graph(graph, contract, data=data, num_steps=STEPS)
    assert {type(each).__name__ for each in program.synapses if floors_sums(each)} >= {"Conv2dNode"}
    return LavaJob(program, encoded(program, data, None), frozenset("uv"))


def names(program: LoihiProgram) -> set[str]:
    return {node.name for node in program.nodes}


def test_parts_channels_and_signed_inputs_are_equal_in_lava():
    jobs = []
    for parts, channels, signed in [(False, True, False), (True, True, True)]:
        data = {"input": samples(3, signed=signed)}
        graph = flat_graph(network(3, parts=parts, channels=channels))
        shown = data if signed else None
        program = quantize_graph(graph, PLAIN, data=shown, weight_bits=5, num_steps=STEPS)
        assert ({"n.0", "n.1", "m.0", "m.1"} <= names(program)) is parts
        assert any(".by" in name for name in names(program)) or not channels
        assert ("input.neg" in names(program)) is signed
        jobs.append(LavaJob(program, encoded(program, data, None), frozenset("uv")))
    jobs.append(below_a_unit())
    for job, trace in zip(jobs, run_lava_jobs(jobs), strict=True):
        reference = run_reference(job.program, job.inputs, record=job.record)
        comparison = compare(reference, trace)
        assert comparison.equal, str(comparison.first)
        assert all(reference.spikes[node.name].any() for node in job.program.neurons)


def test_negative_data_go_through_the_command_line(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    nir.write("f.nir", network(9, parts=False, channels=False))
    np.savez("x.npz", input=samples(9, signed=True), length=np.array([STEPS, 5, 9]))
    contract = "norse,dt=1e-3,resistance=r"
    assert invoke(["quantize", "f.nir", "--contract", contract, "--data", "x.npz", "--out", "q"]) == 0
    said = capsys.readouterr().out
    assert "input input.neg: integers of 5 bits, each worth -0.1" in said
    scales = load_program(tmp_path / "q" / "program.safetensors").scales
    assert scales["input"] == -scales["input.neg"]
    assert invoke(["run", "q", "--input", "q/input.npz", "--backend", "reference", "--out", "t.npz"]) == 0
    capsys.readouterr()
    bounds = ["--max-count-error", "0.2", "--min-agreement", "0.5"]
    assert invoke(["parity", "q", "--against", "float", "--data", "x.npz", *bounds, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    made = np.load("t.npz")
    assert {row["layer"]: row["spikes_program"] for row in report["layers"]} == {
        name: int(made[f"spikes/{name}"].sum()) for name in ("n", "m")
    }
    assert report["input_errors"] == {"input": 0}
    assert invoke(["run", "q", "--input", "x.npz", "--backend", "reference", "--out", "u.npz"]) == 2
    assert "`input/input.neg`, got `input`; those .neg take the numbers below 0" in capsys.readouterr().err
    assert invoke(["lower", "f.nir", "--contract", contract, "--out", "p.safetensors"]) == 0
    assert "the input is binary spikes" in capsys.readouterr().out
    lossy = record_lines(load_program(Path("p.safetensors")).lossy)
    assert any("the input is binary spikes, each worth 1, none below 0: no data say" in line for line in lossy)
    (tmp_path / "p.safetensors").unlink()
    assert invoke(["lower", "f.nir", "--contract", contract, "--out", "p.safetensors", "--strict"]) == 2
    assert "lossy steps, got lower: " in capsys.readouterr().err
    assert not (tmp_path / "p.safetensors").exists()
