"""lavatube map"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lavatube.cli.options import Json


def map(
    program: Annotated[Path, typer.Argument(metavar="PROGRAM|DIR", help="A program file or a run folder.")],
    target: Annotated[
        str | None,
        typer.Option("--target", help="loihi1, loihi2 or loihi2-2022, or a file of limits; default: its own."),
    ] = None,
    chips: Annotated[
        int | None, typer.Option("--chips", min=1, help="Chips that there are; default: the largest system built.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Write mapping.json here.")] = None,
    svg: Annotated[Path | None, typer.Option("--svg", help="Draw the chips here.")] = None,
    each: Annotated[bool, typer.Option("--cores", help="List every core, too.")] = False,
    json: Json = False,
) -> int:
    """Place a program on cores: what each holds, what limits it, and what does not fit."""
    from lavatube.cli.map_tables import cores_table, limits_table, populations_table, routes_table, total_line
    from lavatube.cli.output import console, print_json
    from lavatube.deploy.mapping.core_map import save_map
    from lavatube.deploy.mapping.draw import save_drawing
    from lavatube.deploy.mapping.map_program import map_program
    from lavatube.files import refuse_same_file, require_writable_file
    from lavatube.program_file import load_program
    from lavatube.sim.run import program_path

    refuse_same_file(**{"--out": out, "--svg": svg})
    for path in (out, svg):
        if path is not None:
            require_writable_file(path)
    found = map_program(load_program(program_path(program)), target=target, chips=chips)
    if out is not None:
        save_map(found, out)
    if svg is not None:
        save_drawing(found, svg)
    if json:
        print_json(found.to_json())
        return 0
    console().print(populations_table(found))
    if each:
        console().print(cores_table(found))
    console().print(routes_table(found))
    console().print(limits_table(found.limits))
    print(total_line(found))
    return 0
