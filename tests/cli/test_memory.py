"""The command line keeps the memory that it frees."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from lavatube import cli

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
    plain = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}

    def faults(how: str, **said: str) -> int:
        command = [sys.executable, "-c", LARGE_BLOCKS_AGAIN_AND_AGAIN, how]
        return int(subprocess.check_output(command, env=plain | said))

    assert faults("keep") < 100 < faults("give back")
    assert faults("keep", MALLOC_MMAP_MAX_="65536") > 100  # as the user says


def test_every_command_keeps_what_it_frees(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[bool] = []
    monkeypatch.setattr("lavatube.cli.memory.keep_freed_memory", lambda: called.append(True))
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert called
