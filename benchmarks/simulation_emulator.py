"""Runs a program of the benchmark in nengo-loihi's emulator, which wants an interpreter of its own."""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from simulation_networks import pairs

from lavatube.errors import WorkerError
from lavatube.program import LoihiProgram, NeuronNode
from lavatube.sim.lava_worker import find_uv

SCRIPT = Path(__file__).with_name("simulation_nengo.py")


def run_emulator(
    program: LoihiProgram, events: np.ndarray, python: str | None = None
) -> tuple[list[float], np.ndarray, list[int]]:
    """(seconds of each sample, read-out [B, classes] in units of weights, spikes of each population).

    events: [T, B, ...]. python: a 3.10 that has nengo-loihi; by default uv prepares one.
    raises: WorkerError with its last line if it fails.
    """
    layers = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number, (synapse, target) in enumerate(pairs(program)):
            np.save(folder / f"{number}.npy", synapse.weight)
            neurons = target if isinstance(target, NeuronNode) else None
            layers.append(
                {
                    "kind": synapse.kind,
                    "in_shape": synapse.in_shape,
                    "out_shape": synapse.out_shape,
                    "stride": getattr(synapse, "stride", None),
                    "padding": getattr(synapse, "padding", None),
                    "weight_exp": synapse.weight_exp,
                    "dv": 0 if neurons is None else neurons.dv,
                    "vth": None if neurons is None else neurons.vth,
                }
            )
        (folder / "job.json").write_text(json.dumps(layers))
        np.save(folder / "events.npy", events)
        command = [python] if python else [find_uv(), "run", "--quiet", "--no-project", "--script"]
        done = subprocess.run([*command, str(SCRIPT), name], capture_output=True, text=True, check=False)
        if done.returncode:
            raise WorkerError("nengo-loihi", where="emulator", got=(done.stderr.strip() or "nothing").splitlines()[-1])
        seconds = json.loads(done.stdout.splitlines()[-1])
        counts = json.loads((folder / "spikes.json").read_text())
        return seconds, np.load(folder / "readout.npy", allow_pickle=False), counts
