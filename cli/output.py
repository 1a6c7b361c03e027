"""What commands print: results on stdout (a table or JSON), progress on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from lavatube.lossy_text import said

WIDTH = 100


def console() -> Console:
    """stdout, at most 100 columns."""
    found = Console()
    return Console(width=min(found.width, WIDTH)) if found.is_terminal else Console(width=WIDTH)


def print_json(value: Any) -> None:
    """The result as JSON."""
    print(json.dumps(value, indent=2, sort_keys=True))


def print_metrics(metrics: Mapping[str, Any]) -> None:
    """A line each."""
    for name, value in metrics.items():
        print(f"{name}: {said(value)}")


def say(line: str) -> None:
    """A word about what is going on, on stderr."""
    print(line, file=sys.stderr, flush=True)


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[..., None]]:
    """A bar on stderr; call the yielded function with (done, total[, note])."""
    columns = (
        TextColumn("  {task.description}"),
        BarColumn(30),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None, note="")

        def update(done: int, total: int, note: str = "") -> None:
            bar.update(task, completed=done, total=total, note=note or f"{done}/{total}")

        yield update
