"""The README's Python example runs as it is written, and its commands exist."""

from __future__ import annotations

import importlib.resources
import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"


def test_the_python_example_runs(tmp_path, monkeypatch, capsys):
    code = re.search(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.S).group(1)
    recipe = (importlib.resources.files("lavatube.train") / "recipes" / "digits.yaml").read_text(encoding="utf-8")
    (tmp_path / "quick.yaml").write_text(re.sub(r"epochs: \d+", "epochs: 2", recipe))
    monkeypatch.chdir(tmp_path)
    exec(compile(code.replace('"digits", out', '"quick.yaml", out'), "README.md", "exec"), {})
    assert re.search(r"\d{6,}", capsys.readouterr().out)


@pytest.mark.parametrize("command", re.findall(r"^\| `lavatube (\w+)", README.read_text(encoding="utf-8"), re.M))
def test_every_command_of_the_readme_exists(command):
    from lavatube.cli.app import COMMANDS

    assert command in [known.__name__ for known in COMMANDS]


def test_the_table_of_commands_has_both_kinds_of_runs() -> None:
    rows = [line for line in README.read_text(encoding="utf-8").splitlines() if line.startswith("| `lavatube run ")]
    assert any("FILE.nir --contract" in row and "--backend float" in row for row in rows)
    assert any("PROGRAM" in row for row in rows)
