"""What was rounded, clamped, dropped or substituted, as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from lavatube.cli.output import console
from lavatube.lossy_text import lasting, record_rows


def print_lossy(records: Sequence[Mapping[str, Any]]) -> None:
    """What is in the artifact; what fine-tuning has replaced is counted."""
    last = lasting(records)
    if rows := record_rows(last):
        table = Table(title="rounded, clamped, dropped or substituted on the way", title_justify="left")
        for column in ("stage", "where", "what", "numbers"):
            table.add_column(column, overflow="fold")
        for row in rows:
            table.add_row(*row)
        console().print(table, markup=False)
    if gone := len(records) - len(last):
        print(f"and {gone} of before fine-tuning, which replaced them: --json lists them too")
