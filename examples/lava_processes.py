"""For Lava's own users, inside their Python 3.10: the connected processes of a program, run step by step.

    python examples/lava_processes.py runs/demo

Needs lava-nc 0.10.0, NumPy below 2 and safetensors, and lavatube's files on the path (pip install --no-deps lavatube).
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from lavatube.deploy.lava_backend import build
from lavatube.program_file import load_program


def main(folder: Path) -> None:
    program = load_program(folder / "program.safetensors")
    with np.load(folder / "input.npz") as stored:
        images = stored["input"][:2]  # [B, C, H, W], presented at every timestep
    events = np.broadcast_to(images, (program.num_steps, *images.shape))
    network = build(program, events)
    for name, row in network.report.items():
        print(f"{name}: {row['process']}, output lags the input by {network.latency[name]} ticks")
    neurons = program.neurons[0].name
    network.run(program.num_steps)
    voltage = network.processes[neurons].v.get()  # one element a message: fine for a look, slow for traces
    print(f"v of {neurons} after {program.num_steps} ticks: {voltage.min()} .. {voltage.max()}")
    network.stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
