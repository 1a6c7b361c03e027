"""lavatube diff"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lavatube.cli.options import Json


def diff(
    a: Annotated[Path, typer.Argument(metavar="A", help="A run folder, a program, a trace, or a JSON report.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="Another one of the same kind.")],
    json: Json = False,
) -> int:
    """Say what changed in weights, thresholds, counts, energy and accuracy."""
    from rich.table import Table

    from lavatube.cli.output import console, print_json
    from lavatube.sim.differences.diff import diff as find

    found = find(a, b)
    if json:
        print_json({"a": str(a), "b": str(b), "differences": [each.to_json() for each in found]})
        return 0
    if not found:
        print("no difference")
        return 0
    table = Table(title=f"from {a} to {b}", title_justify="left")
    for column in ("part", "where", "what", "A", "B"):
        table.add_column(column, justify="right" if column in ("A", "B") else "left", overflow="fold")
    for each in found:
        table.add_row(each.part, each.where, each.what, *map(_told, (each.a, each.b)))
    console().print(table)
    return 0


def _told(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.6g}"
