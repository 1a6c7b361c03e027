"""The command line: one small file per command, imported only when it runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point.

    Exit codes: 0 done and gates hold, 1 a gate failed, 2 bad input or refusal, 130 interrupted, 141 output not read.
    """
    from lavatube.cli.app import UNREAD, invoke
    from lavatube.cli.memory import keep_freed_memory

    keep_freed_memory()
    code = invoke(arguments)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        code = code or UNREAD
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more on its way out
    sys.exit(code)
