"""lavatube lower"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lavatube.cli.options import Json


def lower(
    model: Annotated[Path, typer.Argument(metavar="FILE.nir", help="A quantized NIR file (or a run folder with one).")],
    out: Annotated[
        Path | None, typer.Option("--out", help="Program file; default program.safetensors beside it.")
    ] = None,
    target: Annotated[str, typer.Option("--target", help="loihi1 or loihi2.")] = "loihi2",
    overflow: Annotated[
        str,
        typer.Option("--overflow", help="strict: prove that nothing overflows; hardware: wrap and saturate, counted."),
    ] = "strict",
    strict: Annotated[bool, typer.Option("--strict", help="Refuse every lossy step of the lowering.")] = False,
    json: Json = False,
) -> int:
    """Lower NIR to a Loihi program: integers only, proven to fit every register."""
    from lavatube.bounds import bound_program
    from lavatube.cli.output import console, print_json
    from lavatube.cli.program_tables import bounds_table
    from lavatube.deploy.lower import lower as lower_model
    from lavatube.errors import LavatubeError

    if overflow not in ("strict", "hardware"):
        raise LavatubeError("--overflow", expected="strict or hardware", got=overflow)
    source = model / "model.nir" if model.is_dir() else model
    path = out or source.parent / "program.safetensors"
    program = lower_model(source, out=path, target=target, overflow=overflow, strict=strict)  # type: ignore[arg-type]
    bounds = bound_program(program)
    if json:
        rows = [{"synapse": b.synapse, "activation": b.activation, "u": b.u, "v": b.v} for b in bounds]
        print_json({"program": str(path), "target": target, "bounds": rows, "lossy": [dict(r) for r in program.lossy]})
        return 0
    console().print(bounds_table(bounds))
    print(f"wrote {path}; {len(program.lossy)} lossy steps, all before lowering")
    return 0
