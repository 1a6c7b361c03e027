"""A reader of the output that stops early must not look like a failed gate, nor hide one."""

from __future__ import annotations

import os
import sys

import numpy as np
import pytest

from lavatube.cli import main
from lavatube.cli.app import UNREAD
from lavatube.program_file import save_program
from lavatube.sim.run import run


@pytest.mark.parametrize(
    "command", ["parity t.npz t.npz", "inspect t.npz", "energy p.safetensors --trace t.npz --json"]
)
def test_a_closed_pipe_is_neither_a_failed_gate_nor_a_traceback(tmp_path, small_program, monkeypatch, command):
    program = small_program(1)
    save_program(program, tmp_path / "p.safetensors")
    run(program, np.zeros((3, 2, 6, 5), int), out=tmp_path / "t.npz")
    monkeypatch.chdir(tmp_path)
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as pipe, monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", pipe)
        with pytest.raises(SystemExit) as ended:
            main(command.split())
        os.dup2(os.open(os.devnull, os.O_WRONLY), writer)  # for what is left to flush
    assert ended.value.code == UNREAD
