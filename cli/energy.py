"""lavatube energy"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lavatube.cli.options import Json


def energy(
    program: Annotated[
        Path | None, typer.Argument(metavar="PROGRAM|DIR", help="A program file or a run folder.")
    ] = None,
    inputs: Annotated[Path | None, typer.Option("--input", help="X.npz to run and count.")] = None,
    counts: Annotated[Path | None, typer.Option("--counts", help="counts.json to price instead of running.")] = None,
    trace: Annotated[
        Path | None, typer.Option("--trace", help="A trace of any engine to count instead of running.")
    ] = None,
    prices: Annotated[list[str] | None, typer.Option("--prices", help="Price set or file; repeat for several.")] = None,
    target: Annotated[str | None, typer.Option("--target", help="loihi1 or loihi2; default: the program's.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for counts.json and energy.json.")] = None,
    json: Json = False,
) -> int:
    """Exact counts of a run, and joules as an interval over cited price tables, with what is unpriced."""
    from lavatube.cli.output import console, print_json
    from lavatube.errors import LavatubeError
    from lavatube.files import require_writable
    from lavatube.program_file import load_program, program_sha256
    from lavatube.sim.counts import count, load_counts, save_counts
    from lavatube.sim.energy import energy as estimate_energy
    from lavatube.sim.energy import save_energy
    from lavatube.sim.price_table import DEFAULT_PRICES
    from lavatube.sim.run import program_path, run
    from lavatube.sim.tables import render_counts, render_energy
    from lavatube.trace import load_trace

    if (counts is not None) + (inputs is not None) + (trace is not None) != 1:
        raise LavatubeError(
            "what to count", expected="exactly one of --input, --trace and --counts", got="none or several"
        )
    if out is not None:
        require_writable(out)
    loaded = load_program(program_path(program)) if program is not None else None
    if counts is not None:
        counted = load_counts(counts)
        if loaded is not None and counted.program_sha256 != program_sha256(loaded):
            raise LavatubeError("these are the counts of another program", where=str(counts))
    elif loaded is None:
        raise LavatubeError("no program", expected="PROGRAM or DIR beside --input or --trace")
    else:
        counted = count(loaded, load_trace(trace) if trace is not None else run(loaded, str(inputs), backend="fast"))
    estimate = estimate_energy(
        counted, tuple(prices or DEFAULT_PRICES), target=target or (loaded.target if loaded else "loihi2")
    )
    if out is not None:
        save_counts(counted, out / "counts.json")
        save_energy(estimate, out / "energy.json")
    if json:
        print_json({"counts": counted.to_json(), "energy": estimate.to_json()})
    else:
        console().print(render_counts(counted.to_json()))
        console().print(render_energy(estimate.to_json()))
    return 0
