"""What a lowering ends with: the limit of the real chip is reported, and refused where it was asked for."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from lavatube.cli.app import invoke
from lavatube.deploy.accept import accept
from lavatube.errors import LavatubeError
from lavatube.program import DenseNode, InputNode, LoihiProgram, NeuronNode, ReadoutNode
from lavatube.program_file import save_program


def wide_program(target: str, inputs: int = 200) -> LoihiProgram:
    """A neuron of so many inputs with weight 255: 64 * 255 * 200 is beyond 2^21."""
    nodes = (
        InputNode("in", (inputs,), 1),
        DenseNode("w", (inputs,), np.full((1, inputs), 255, np.int16), 8, 0, 0, "excitatory"),
        NeuronNode("n", (1,), 4095, 4095, 9, np.zeros(1, np.int16), 0),
        ReadoutNode("out", np.zeros(1, np.int64), "spikes"),
    )
    return LoihiProgram(nodes, tuple(pairwise(node.name for node in nodes)), 3, {}, target=target)


def test_strict_refuses_for_loihi_1_what_may_leave_its_accumulator() -> None:
    with pytest.raises(LavatubeError, match=r"w -> n: sums may leave.*21 bits and sign\), got a in 0\.\.51000"):
        accept(wide_program("loihi1"), where="test", strict=True, out=None)
    assert accept(wide_program("loihi1"), where="test", strict=False, out=None)
    assert accept(wide_program("loihi1", 128), where="test", strict=True, out=None)
    assert accept(wide_program("loihi2"), where="test", strict=True, out=None)  # of which nothing is known


def test_inspect_shows_whether_sums_fit_the_accumulator(tmp_path, capsys) -> None:  # type: ignore[no-untyped-def]
    for inputs, word in ((200, "NO"), (128, "yes")):
        save_program(wide_program("loihi1", inputs), tmp_path / "p.safetensors")
        assert invoke(["inspect", str(tmp_path / "p.safetensors")]) == 0
        row = next(line for line in capsys.readouterr().out.splitlines() if "│ w " in line and " .. " in line)
        assert row.split("│")[-2].strip() == word
