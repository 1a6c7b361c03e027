"""Options that several commands share, each written once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a finished result.")]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1, ...")]
DataDir = Annotated[
    Path | None, typer.Option("--data-dir", envvar="LAVATUBE_DATA", help="Folder with data sets (also LAVATUBE_DATA).")
]
Timeout = Annotated[float | None, typer.Option("--timeout", help="Seconds before the Lava worker is stopped.")]
Workers = Annotated[
    int | None,
    typer.Option("--workers", help="Lava workers side by side, at most; default: as cores and free memory allow."),
]
Conv = Annotated[
    str, typer.Option("--conv", help="Lava process for convolutions: auto, conv, sparse (both stock), or own.")
]
StockOnly = Annotated[
    bool,
    typer.Option("--stock-only", help="Refuse by name what stock Lava has no process for."),
]
