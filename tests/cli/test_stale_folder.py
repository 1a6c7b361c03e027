"""A run folder whose files were not made from one another is refused by every command that would use its program."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lavatube.cli.app import invoke
from lavatube.inputs import make_inputs, save_inputs
from lavatube.program_file import save_program


@pytest.mark.parametrize(
    "command",
    [
        ("run", "DIR", "--input", "x.npz", "--out", "t.npz"),
        ("run", "DIR", "--input", "x.npz", "--out", "t.h5"),
        ("parity", "DIR", "--data", "x.npz", "--against", "fast"),
        ("energy", "DIR", "--input", "x.npz"),
        ("map", "DIR"),
        ("export", "DIR", "--net", "n.net"),
        ("export", "DIR", "--onnx", "n.onnx"),
        ("export", "DIR", "--lava-script", "n.py"),
    ],
    ids=" ".join,
)
def test_a_program_of_another_file_than_lies_beside_it_is_refused(
    command: tuple[str, ...], small_program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    program, folder = small_program(), tmp_path / "DIR"
    folder.mkdir()
    save_program(program, folder / "program.safetensors")
    (folder / "model.nir").write_bytes(b"of a later training")
    events = np.zeros((2, 1, *program.input.shape), np.uint8)
    save_inputs(make_inputs(events, program.inputs, default_steps=1), tmp_path / "x.npz")
    monkeypatch.chdir(tmp_path)
    assert invoke(list(command)) == 2
    said = capsys.readouterr().err
    assert "program.safetensors was not made from the model.nir beside it" in said
    assert "\n" not in said.strip()
    assert {path.name for path in tmp_path.iterdir()} == {"DIR", "x.npz"}
    (folder / "model.nir").unlink()
    assert invoke(["map", "DIR"]) == 0
