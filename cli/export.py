"""lavatube export"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lavatube.cli.options import Json


def export(
    source: Annotated[
        Path,
        typer.Argument(metavar="DIR|PROGRAM", help="A run folder with quantized.safetensors, or a program."),
    ],
    nir: Annotated[Path | None, typer.Option("--nir", help="File to write; default DIR/model.nir.")] = None,
    net: Annotated[
        Path | None, typer.Option("--net", help="Write the program (or DIR's) as a lava-dl .net file instead.")
    ] = None,
    onnx: Annotated[
        Path | None, typer.Option("--onnx", help="Write one timestep of the program (or DIR's) as ONNX instead.")
    ] = None,
    json: Json = False,
) -> int:
    """Write the quantized network as plain NIR, with its integers in the metadata; or as a .net file, or as ONNX."""
    from lavatube.cli.output import print_json
    from lavatube.convert.export import export as export_network
    from lavatube.convert.program_to_nir import program_to_nir
    from lavatube.convert.to_nir import METADATA_KEY
    from lavatube.deploy.net_file.write import write_net
    from lavatube.errors import LavatubeError
    from lavatube.program_file import load_program
    from lavatube.sim.run import program_path

    given = [name for name, value in (("--nir", nir), ("--net", net), ("--onnx", onnx)) if value is not None]
    if len(given) > 1:
        raise LavatubeError(" and ".join(given), expected="one of them", got="both")
    if onnx is not None:
        _onnx(source, onnx, json)
        return 0
    if net is not None:
        arguments = write_net(load_program(program_path(source)), net)
        if json:
            print_json({"net": str(net), "netx_arguments": list(arguments)})
        else:
            print(f"wrote {net}" + (f"; give netx.hdf5.Network {', '.join(arguments)}" if arguments else ""))
        return 0

    if not source.is_dir():
        if nir is None:
            raise LavatubeError("no file to write to", where="export", remedy="give --nir, --net or --onnx FILE")
        graph = program_to_nir(load_program(source), nir)
    else:
        graph = export_network(source, nir_path=nir)
    path = nir or source / "model.nir"
    kinds = {name: type(node).__name__ for name, node in graph.nodes.items()}
    integers = METADATA_KEY in graph.metadata
    if json:
        print_json({"nir": str(path), "nodes": kinds, "integers": integers})
    else:
        print(f"wrote {path}: " + ", ".join(f"{name} ({kind})" for name, kind in kinds.items()))
        if not integers:
            print("a float file under contract loihi: not all of its nodes have a form that keeps integers")
    return 0


def _onnx(source: Path, path: Path, json: bool) -> None:
    from lavatube.cli.output import print_json
    from lavatube.deploy.onnx_file.write import write_onnx
    from lavatube.program_file import load_program
    from lavatube.sim.run import program_path

    said = write_onnx(load_program(program_path(source)), path)
    if json:
        print_json({"onnx": str(path), "description": said.model_dump(mode="json")})
    else:
        print(f"wrote {path}: one timestep, {len(said.states)} states; docs/onnx.md has the loop over time")
