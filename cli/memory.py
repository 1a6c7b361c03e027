"""Memory that a command keeps between its steps."""

from __future__ import annotations

import ctypes
import os
import sys

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of mallopt, in glibc's malloc.h


def keep_freed_memory() -> None:
    """Memory that the main thread frees stays with the process, for the next step, which needs as much again.

    glibc gives large blocks back to the system at once, and every page of them is cleared and mapped anew when asked
    for (what that takes: docs/training.md, Cost). Elsewhere than in glibc nothing changes, nor where the environment
    says what glibc shall do.
    """
    if not sys.platform.startswith("linux") or {"MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_"} & set(os.environ):
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "gnu_get_libc_version"):
        libc.mallopt(M_MMAP_MAX, 0)  # all from the heap,
        libc.mallopt(M_TRIM_THRESHOLD, -1)  # which never shrinks
