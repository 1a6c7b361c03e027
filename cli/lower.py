"""lavatube lower"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from lavatube.cli.options import Json


def lower(
    model: Annotated[
        Path,
        typer.Argument(
            metavar="FILE.nir|NET.net|DIR",
            help="A NIR file of lavatube or another platform, a run folder with one, or a lava-dl network.",
        ),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="Program file; default program.safetensors beside it.")
    ] = None,
    target: Annotated[str, typer.Option("--target", help="loihi1 or loihi2.")] = "loihi2",
    overflow: Annotated[
        str,
        typer.Option("--overflow", help="strict: prove that nothing overflows; hardware: wrap and saturate, counted."),
    ] = "strict",
    contract: Annotated[
        str | None,
        typer.Option("--contract", metavar="NAME[,FIELD=VALUE]", help="How another platform's file is stepped."),
    ] = None,
    dt: Annotated[
        float | None, typer.Option("--dt", help="Its timestep in seconds, instead of the contract's.")
    ] = None,
    num_steps: Annotated[
        int | None, typer.Option("--num-steps", min=1, help="Timesteps of a .net file, or of another platform's.")
    ] = None,
    input_bits: Annotated[
        int | None,
        typer.Option(
            "--input-bits",
            min=1,
            help="Message bits of the input of a .net file or another platform's; default 1, spikes.",
        ),
    ] = None,
    input_shape: Annotated[
        str, typer.Option("--input-shape", metavar="C,H,W", help="Of a .net file that starts with a convolution.")
    ] = "",
    reset_interval: Annotated[
        int, typer.Option("--reset-interval", help="Timesteps after which a .net file's neurons start anew.")
    ] = 0,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse every lossy step of the lowering.")] = False,
    json: Json = False,
) -> int:
    """Lower NIR, or a lava-dl .net file, to a Loihi program: integers only, proven to fit every register."""
    from lavatube.bounds import bound_program, never_spiking
    from lavatube.cli.lossy_table import print_lossy
    from lavatube.cli.output import console, print_json
    from lavatube.cli.program_tables import bounds_table, notes
    from lavatube.deploy.lower import lower as lower_model
    from lavatube.errors import LavatubeError
    from lavatube.lossy_text import lasting

    if overflow not in ("strict", "hardware"):
        raise LavatubeError("--overflow", expected="strict or hardware", got=overflow)
    source = model / "model.nir" if model.is_dir() else model
    path = out or source.parent / "program.safetensors"
    net: dict[str, Any] = {"num_steps": num_steps, "input_bits": input_bits}
    net |= {"input_shape": _sizes(input_shape) or None, "reset_interval": reset_interval or None}
    given = {name: value for name, value in net.items() if value is not None}
    settings: dict[str, Any] = {"target": target, "overflow": overflow, "strict": strict}
    program = lower_model(source, out=path, contract=contract, dt=dt, **settings, **given)
    bounds = bound_program(program)
    if json:
        rows = [
            {"synapse": b.synapse, "activation": b.activation, "u": b.u, "v": b.v, "fits_21_bits": b.fits_dendrite}
            for b in bounds
        ]
        said = {"lossy": [dict(r) for r in program.lossy], "never_spiking": never_spiking(program, bounds)}
        print_json({"program": str(path), "target": target, "bounds": rows, **said})
        return 0
    console().print(bounds_table(bounds))
    if wide := [bound.target for bound in bounds if bound.fits_dendrite is False]:
        print(f"note: {', '.join(wide)}: sums may leave Loihi 1's 21-bit accumulator, which Lava does not have")
    here = [record for record in program.lossy if record.get("stage") in ("read", "lower")]
    print_lossy(here)
    for line in notes(program, bounds):
        print(line)
    lossy = sum(record.get("stage") != "read" for record in lasting(program.lossy))
    made_here = sum(record.get("stage") == "lower" for record in program.lossy)
    print(f"wrote {path}; {lossy or 'no'} lossy steps, {made_here or 'none'} of them made by lowering")
    return 0


def _sizes(text: str) -> tuple[int, ...]:
    from lavatube.errors import LavatubeError

    try:
        return tuple(int(part) for part in text.split(",")) if text else ()
    except ValueError:
        raise LavatubeError("--input-shape", expected="sizes such as 3,32,32", got=text) from None
