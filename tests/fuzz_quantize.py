"""Random float NIR graphs through quantize, NIR, lower and two engines: exact parity or one LavatubeError.

uv run tests/fuzz_quantize.py --graphs 2000 --seed 0
"""

from __future__ import annotations

import argparse
import collections
import tempfile
from pathlib import Path

import nir
import numpy as np
from random_nir import random_graph

from lavatube.contract_presets import PRESETS
from lavatube.convert.float_graph.graph import FloatGraph
from lavatube.convert.float_graph.read import flat_graph
from lavatube.convert.post_training.quantize_graph import quantize_graph
from lavatube.convert.program_to_nir import program_to_nir
from lavatube.deploy.lower import lower
from lavatube.deploy.lower_float import encoded
from lavatube.errors import LavatubeError
from lavatube.program_file import load_program, program_sha256, save_program
from lavatube.sim.compare import compare
from lavatube.sim.run import run

STEPS, SAMPLES = 10, 2


def data_of(graph: FloatGraph, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Spikes, integers, or real numbers of both signs."""
    kind = rng.integers(3)
    found = {}
    for name in graph.inputs:
        shape = (STEPS, SAMPLES, *graph.shapes[name])
        real = np.round(rng.normal(size=shape), 2)
        found[name] = (real > 0.3).astype(float) if kind == 0 else np.rint(np.abs(real) * 9) if kind == 1 else real
    return found


def tamed(graph: nir.NIRGraph, rng: np.random.Generator) -> nir.NIRGraph:
    """Neurons that spike, of one to three time constants, one delay a node: most random graphs would be refused."""
    for name, node in graph.nodes.items():
        for field in ("tau", "tau_syn", "tau_mem"):
            if (tau := getattr(node, field, None)) is not None:
                setattr(node, field, rng.choice([3e-3, 1e-2, 1.7e-2][: rng.integers(1, 4)], np.shape(tau)))
        if isinstance(node, nir.Delay):
            node.delay = np.full(np.shape(node.delay), np.ravel(node.delay)[0])
        if isinstance(node, nir.NIRGraph):
            tamed(node, rng)
        elif isinstance(node, (nir.I, nir.LI, nir.CubaLI)) and rng.random() < 0.95:
            full = np.ones(np.shape(node.r))
            more = {"v_threshold": full * 0.3, "v_reset": full * 0}
            kind = {nir.I: nir.IF, nir.LI: nir.LIF, nir.CubaLI: nir.CubaLIF}[type(node)]
            fields = ("r", "tau", "v_leak", "tau_syn", "tau_mem", "w_in")
            kept = {field: getattr(node, field) for field in fields if hasattr(node, field)}
            graph.nodes[name] = kind(**kept, **more)
    return graph


def outcome(seed: int, folder: Path) -> str:
    """What became of one graph: "exact", or how it was refused. raises: AssertionError, or whatever should not be."""
    rng = np.random.default_rng([seed, 5])
    name = str(rng.choice(["loihi", *PRESETS]))
    given = {"weight_bits": int(rng.integers(2, 9)), "overflow": str(rng.choice(["strict", "hardware"]))}
    try:
        graph = flat_graph(tamed(random_graph(seed), rng))
        contract = PRESETS[name].with_overrides(
            dt=1e-3, requires=(), nodes=PRESETS["loihi"].nodes, delay_rounding="nearest"
        )
        data = data_of(graph, rng)
        shown = data if rng.random() < 0.5 else None
        program = quantize_graph(graph, contract, data=shown, num_steps=STEPS, **given)
        batch = encoded(program, data if shown else {n: (x > 0.3).astype(float) for n, x in data.items()}, None)
    except LavatubeError as error:
        return f"refused: {error.what}"
    save_program(program, folder / "p.safetensors")
    assert program_sha256(load_program(folder / "p.safetensors")) == program_sha256(program)
    traces = [run(program, batch, backend=engine, record=["v", "u"]) for engine in ("reference", "fast")]
    assert compare(*traces).equal
    try:
        program_to_nir(program, folder / "m.nir", partly=True)
    except LavatubeError as error:
        return f"exact, no NIR: {error.what}"
    again = lower(folder / "m.nir", overflow=program.overflow)
    assert compare(traces[0], run(again, batch, backend="fast", record=["v", "u"])).equal
    return "exact"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--graphs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    found: collections.Counter[str] = collections.Counter()
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(asked.seed, asked.seed + asked.graphs):
            try:
                found[outcome(seed, Path(folder))] += 1
            except Exception as error:
                raise SystemExit(f"seed {seed}: {type(error).__name__}: {error}") from error
    for what, count in found.most_common():
        print(f"{count:6} {what}")


if __name__ == "__main__":
    main()
