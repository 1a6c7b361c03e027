"""What needs no torch imports, and computes, in a bare Python 3.10 with NumPy, SciPy, h5py, nir and pydantic."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

import lavatube
from lavatube.errors import WorkerError
from lavatube.program_file import save_program
from lavatube.sim.lava_worker import REMOVED, find_uv

STAGES = ("convert", "deploy", "sim")
SCRIPT = """
import importlib, sys
from pathlib import Path
import numpy as np
for name in sys.argv[2].split(","):
    importlib.import_module(name)
from lavatube.inputs import make_inputs
from lavatube.program_file import load_program
from lavatube.sim.counts import count
from lavatube.sim.reference import run_reference
program = load_program(Path(sys.argv[1]))
trace = run_reference(program, make_inputs(np.ones((2, 2, 6, 5)), program.input, default_steps=6))
assert sys.version_info[:2] == (3, 10) and "torch" not in sys.modules
print(int(count(program, trace).total.synops_stored))
"""


@pytest.mark.slow
def test_core_nir_lowering_and_the_reference_work_in_a_bare_python_310(tmp_path, small_program):
    try:
        uv = find_uv()
    except WorkerError:
        pytest.skip("uv is not here")
    package = tmp_path / "lavatube"
    package.mkdir()
    for path in Path(lavatube.__path__[0]).glob("*.py"):
        (package / path.name).symlink_to(path)
    for stage in STAGES:
        (package / stage).symlink_to(getattr(__import__(f"lavatube.{stage}"), stage).__path__[0])
    save_program(small_program(1), tmp_path / "p.safetensors")
    core = [f"lavatube.{path.stem}" for path in package.glob("*.py") if path.stem not in ("__main__", "__init__")]
    others = [
        "convert.to_nir", "convert.float_graph.read", "convert.from_nir", "convert.safe_hdf5", "deploy.lower",
        "targets", "deploy.lava_backend.choose", "deploy.mapping.map_program", "deploy.mapping.draw",
        "sim.reference", "sim.counts", "sim.energy", "sim.compare", "sim.float_run", "sim.parity_report",
    ]  # fmt: skip
    names = ",".join([*core, *(f"lavatube.{name}" for name in others)])
    environment = {name: value for name, value in os.environ.items() if name not in REMOVED}
    environment |= {"PYTHONPATH": str(tmp_path), "PYENV_VERSION": "3.10", "PYTHONNOUSERSITE": "1"}
    packages = [
        part for name in ("numpy", "scipy", "h5py", "nir", "pydantic", "safetensors") for part in ("--with", name)
    ]
    run = subprocess.run(
        [uv, "run", "--quiet", "--no-project", "--python", "3.10", *packages, "python", "-c", SCRIPT,
         str(tmp_path / "p.safetensors"), names],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-2000:]
    assert int(run.stdout) > 0
