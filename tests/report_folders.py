"""Folders with artifacts for the tests of the page."""

from __future__ import annotations

from contextlib import contextmanager
from itertools import pairwise

import numpy as np
import pytest

from lavatube import fixed_point
from lavatube.program import DenseNode, InputNode, LoihiProgram, NeuronNode, ReadoutNode
from lavatube.program_file import load_program, save_program
from lavatube.sim.counts import count, save_counts
from lavatube.sim.energy import energy, save_energy
from lavatube.sim.parity import parity
from lavatube.sim.run import run


def make_program(lossy=()):
    rng = np.random.default_rng(0)
    nodes = (
        InputNode("input", (12,), 4),
        DenseNode("into_hidden", (12,), (rng.integers(-40, 60, (10, 12)) * 2).astype(np.int16), 8, -2),
        NeuronNode("hidden", (10,), 4095, 400, 150, np.zeros(10, np.int16), 0),
        DenseNode("into_output", (10,), (rng.integers(-40, 60, (3, 10)) * 2).astype(np.int16), 8, 0),
        ReadoutNode("output", np.zeros(3, np.int64)),
    )
    edges = tuple(pairwise(node.name for node in nodes))
    return LoihiProgram(nodes, edges, 12, {"kind": "test", "sha256": ""}, lossy=lossy)


def make_folder(folder):
    lossy = ({"stage": "quantize", "layer": "<script>", "what": "rounded", "largest_error": 0.01},)
    save_program(make_program(lossy), folder / "program.safetensors")
    rng = np.random.default_rng(1)
    np.savez(folder / "input.npz", input=rng.integers(0, 12, (9, 12)), label=rng.integers(0, 3, 9))
    return folder


def fill(folder, **options):
    """Everything after the program."""
    program = load_program(folder / "program.safetensors")
    parity(folder / "program.safetensors", data=folder / "input.npz", against=["fast"], explain=True,
           out=folder / "parity.json", **options)  # fmt: skip
    counts = count(program, run(program, folder / "input.npz", backend="fast"))
    save_counts(counts, folder / "counts.json")
    save_energy(energy(counts, target=program.target), folder / "energy.json")
    (folder / "history.csv").write_text("epoch,loss,validation_accuracy,seconds\n1,2.5,,1\n2,1.5,60,2\n3,1.0,,3\n")
    return folder


@contextmanager
def floored_decay():
    """The reference rounds the leak of v down."""
    honest = fixed_point.decay

    def floored(state, constant, offset=0):
        return honest(state, constant, offset=offset) if offset else (state * (4096 - constant)) >> 12

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fixed_point, "decay", floored)
        yield
