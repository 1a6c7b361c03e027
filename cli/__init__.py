"""The command line: one small file per command, imported only when it runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point. Exit codes: 0 done and gates hold, 1 a gate failed, 2 bad input or refusal, 130 interrupted."""
    from lavatube.cli.app import invoke

    sys.exit(invoke(arguments))
