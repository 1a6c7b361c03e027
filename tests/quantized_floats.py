"""Float graphs and the programs that quantization makes of them, compared: what its tests share."""

from __future__ import annotations

from pathlib import Path

import nir
import numpy as np
from dyadic_nir import DT

from lavatube.contract import LOIHI, ExecutionContract
from lavatube.convert.float_graph.graph import FloatGraph
from lavatube.convert.float_graph.read import flat_graph
from lavatube.convert.float_graph.simulate import simulate
from lavatube.program import LoihiProgram
from lavatube.sim.run import run

NIR = Path(__file__).parent / "data" / "nir"
PLAIN = LOIHI.with_overrides(dt=DT, bias="input", state_rounding="none", weight_rounding="none", requires=())


def spikes_of(graph: FloatGraph, steps: int, seed: int = 0, batch: int = 3) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: (rng.random((steps, batch, *graph.shapes[name])) < 0.5).astype(float) for name in graph.inputs}


def differences(graph: FloatGraph, contract: ExecutionContract, program: LoihiProgram, steps: int) -> dict[str, int]:
    """{population: spikes that are not the float network's}, and of read-outs of sums values that are not.

    Of read-outs of spikes only where they differ, and where the contract has no spikes on their way at the end.
    """
    data = spikes_of(graph, steps)
    there = simulate(graph, contract, data)
    here = run(program, {name: value.astype(int) for name, value in data.items()}, backend="reference")
    found = {}
    for name, spikes in there.spikes.items():
        if name not in here.spikes:
            continue
        ours = here.spikes[name].reshape(spikes.shape).astype(int)
        if contract.output_lag and not isinstance(graph.nodes[name], nir.Threshold):
            ours = np.concatenate([ours[:1] * 0, ours[:-1]])
        found[name] = int(np.abs(ours - spikes).sum())
    for node in program.readouts:
        if node.reads == "current":
            unit = program.scales[program.inbound(node)[0].name]
            value = there.output[node.name].reshape(steps, 3, -1).sum(0)
            found[node.name] = int((here.readouts[node.name] * unit != value).sum())
        elif node.reads == "spikes" and not contract.output_lag:
            if wrong := int((here.readouts[node.name] != there.output[node.name].reshape(steps, 3, -1).sum(0)).sum()):
                found[node.name] = wrong
    return found


def lossy(program: LoihiProgram) -> list[dict]:
    """What may change a spike, but the fraction that decayed states lose."""
    ours = ("decayed states lose their fraction", "counts the spikes decided in the last timestep")
    return [dict(r) for r in program.lossy if r["stage"] != "read" and not r["what"].startswith(ours)]


def one_layer(neuron: nir.NIRNode, weight: np.ndarray) -> FloatGraph:
    out, size = weight.shape
    nodes = {"input": nir.Input(np.array([size])), "w": nir.Linear(weight), "n": neuron,
             "o": nir.Output(np.array([out]))}  # fmt: skip
    return flat_graph(nir.NIRGraph(nodes, [("input", "w"), ("w", "n"), ("n", "o")], type_check=False))


def lif(size: int, **change: np.ndarray | float) -> nir.LIF:
    values = {"tau": 10.0, "r": 10.0, "v_leak": 0.0, "v_threshold": 1.0, "v_reset": 0.0, **change}
    return nir.LIF(**{name: np.ones(size) * value for name, value in values.items()})
