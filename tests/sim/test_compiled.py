"""Compiled kernels kept on disk are those of the process that asks, whoever else compiles at the same time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lavatube.sim.fast_kernels.compiled import HAS_NUMBA

KERNEL = """
from lavatube.sim.fast_kernels.compiled import compiled

@compiled
def total(values):
    found = values[0]
    for value in values:
        found += value
    return found
"""
CALL = """
import sys
from pathlib import Path
import numpy as np
from kernel_of_the_test import total
for dtype in sys.argv[1:]:
    assert total(np.arange(1, 5, dtype=dtype)) == 11, dtype
print(len(list(Path(total._cache.cache_path).glob("*.nbc"))))
"""


NO_LOCK = """
import filelock

def refuse(self):
    raise OSError(37, "No locks available")

filelock.FileLock._acquire = refuse
"""
pytestmark = pytest.mark.skipif(not HAS_NUMBA, reason="numba is not installed")


def test_processes_that_compile_at_once_keep_a_file_for_each_signature(tmp_path: Path) -> None:
    (tmp_path / "kernel_of_the_test.py").write_text(KERNEL)
    dtypes = ("int8", "int16", "int32", "int64", "float32", "float64")
    running = [
        subprocess.Popen([sys.executable, "-c", CALL, dtype, *dtypes], cwd=tmp_path, stdout=subprocess.DEVNULL)
        for dtype in dtypes[:4]
    ]
    assert [process.wait(300) for process in running] == [0] * len(running)
    kept = subprocess.check_output([sys.executable, "-c", CALL, *dtypes], cwd=tmp_path)
    assert int(kept) == len(dtypes)


def test_where_no_lock_can_be_had_nothing_is_kept(tmp_path: Path) -> None:
    (tmp_path / "kernel_of_the_test.py").write_text(KERNEL)
    kept = subprocess.check_output([sys.executable, "-c", NO_LOCK + CALL, "int8", "int16"], cwd=tmp_path)
    assert int(kept) == 0
