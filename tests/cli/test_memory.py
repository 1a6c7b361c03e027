"""Training and fine-tuning keep the memory that they free."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

LARGE_BLOCKS_AGAIN_AND_AGAIN = """
import resource, sys
import numpy as np
from lavatube.cli.memory import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
for _ in range(5):
    np.ones(1 << 23)  # 64 MiB
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    np.ones(1 << 23)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc's allocator")
def test_large_blocks_are_not_asked_for_again() -> None:
    faults = {
        how: int(subprocess.check_output([sys.executable, "-c", LARGE_BLOCKS_AGAIN_AND_AGAIN, how]))
        for how in ("keep", "give back")
    }
    assert faults["keep"] < 100 < faults["give back"]
