"""lavatube report"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lavatube.cli.options import DataDir, Json


def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A run folder, or any folder with artifacts.")],
    out: Annotated[Path | None, typer.Option("--out", help="The page; default report.html in the folder.")] = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> int:
    """Write report.html: one page, of whatever artifacts are there, that needs no network."""
    from lavatube.cli.output import print_json
    from lavatube.sim.report.page import report as write_report

    path = write_report(folder, out=out, data_dir=data_dir)
    if json:
        print_json({"report": str(path), "bytes": path.stat().st_size})
    else:
        print(f"{path}: {path.stat().st_size / 1e3:,.0f} kB")
    return 0
