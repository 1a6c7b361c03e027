"""Stages import only leftwards, and what the Lava worker needs imports no torch."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

import lavatube

ORDER = ("core", "train", "convert", "deploy", "sim", "cli")
EXEMPT = {"lavatube/__init__.py", "lavatube/__main__.py"}  # the lazy facade and `python -m lavatube`
NO_TORCH = {"torch", "brevitas", "sklearn", "lavatube.train"}
NUMPY_ONLY = {"nir", "h5py", "lavatube.convert"} | NO_TORCH
ROOT = Path(lavatube.__file__).parent


def module_files() -> dict[str, Path]:
    """{path as lavatube/...: file} of every module of the package, wherever its folder lies."""
    found = {f"lavatube/{path.name}": path for path in ROOT.glob("*.py")}
    for stage in ORDER[1:]:
        folder = Path(importlib.import_module(f"lavatube.{stage}").__file__).parent
        found |= {f"lavatube/{stage}/{path.relative_to(folder).as_posix()}": path for path in folder.rglob("*.py")}
    return found


def imports(path: Path) -> set[str]:
    """Every module that a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            names |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def stage_of(name: str) -> str:
    parts = name.replace("/", ".").split(".")
    return parts[1] if len(parts) > 1 and parts[1] in ORDER else "core"


FILES = module_files()


@pytest.mark.parametrize("name", sorted(set(FILES) - EXEMPT))
def test_a_stage_imports_only_leftwards(name):
    here = ORDER.index(stage_of(name))
    too_far = [n for n in imports(FILES[name]) if n.startswith("lavatube.") and ORDER.index(stage_of(n)) > here]
    assert not too_far


@pytest.mark.parametrize(
    "name",
    [n for n in sorted(FILES) if stage_of(n) in ("core", "deploy") and n not in EXEMPT]
    + [f"lavatube/convert/{n}.py" for n in ("to_nir", "from_nir", "safe_hdf5", "hdf5_chunks", "hdf5_heap")]
    + [n for n in sorted(FILES) if n.startswith(("lavatube/convert/float_graph/", "lavatube/convert/post_training/"))]
    + [f"lavatube/sim/{n}.py" for n in ("engine", "reference", "price_table", "price_rules", "interval", "compare")]
    + ["lavatube/sim/float_run.py", "lavatube/sim/float_parity.py"]
    + [n for n in sorted(FILES) if n.startswith(("lavatube/sim/counts/", "lavatube/sim/energy/"))],
)
def test_core_nir_deploy_and_the_integer_reference_import_no_torch(name):
    barred = NO_TORCH if stage_of(name) != "core" else NUMPY_ONLY
    found = {n for n in imports(FILES[name]) for b in barred if n == b or n.startswith(f"{b}.")}
    assert not found


def test_the_walk_sees_every_stage():
    assert {stage_of(name) for name in FILES} == set(ORDER)
    assert len(FILES) > 40
