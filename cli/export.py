"""lavatube export"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lavatube.cli.options import Json


def export(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="DIR|PROGRAM",
            help="A run folder with quantized.safetensors, a folder of `quantize FILE.nir`, or a program.",
        ),
    ],
    nir: Annotated[Path | None, typer.Option("--nir", help="File to write; default DIR/model.nir.")] = None,
    net: Annotated[
        Path | None, typer.Option("--net", help="Write the program (or DIR's) as a lava-dl .net file instead.")
    ] = None,
    onnx: Annotated[
        Path | None, typer.Option("--onnx", help="Write one timestep of the program (or DIR's) as ONNX instead.")
    ] = None,
    lava_script: Annotated[
        Path | None,
        typer.Option(
            "--lava-script", help="Write a Python script of stock Lava processes (and its .arrays.npz) instead."
        ),
    ] = None,
    json: Json = False,
) -> int:
    """Write the quantized network as plain NIR, with its integers in the metadata; or as another kind of file."""
    from lavatube.cli.output import print_json
    from lavatube.convert.export import export as export_network
    from lavatube.convert.program_to_nir import program_to_nir
    from lavatube.deploy.net_file.write import write_net
    from lavatube.errors import LavatubeError
    from lavatube.program_file import load_program
    from lavatube.sim.run import program_path

    kinds = {"--nir": nir, "--net": net, "--onnx": onnx, "--lava-script": lava_script}
    given = [name for name, value in kinds.items() if value is not None]
    if len(given) > 1:
        raise LavatubeError(" and ".join(given), expected="one of them", got=f"{len(given)}")
    if lava_script is not None:
        _lava_script(source, lava_script, json)
        return 0
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
            raise LavatubeError("no file to write to", where="export", remedy=f"give {', '.join(kinds)} FILE")
        written = program_to_nir(load_program(source), nir)
        graph, unsaid = written.graph, written.unsaid
    elif (source / "float.nir").is_file() and not (source / "quantized.safetensors").is_file():
        written = program_to_nir(load_program(program_path(source)), nir or source / "model.nir", partly=True)
        graph, unsaid = written.graph, written.unsaid
    else:
        graph, unsaid = export_network(source, nir_path=nir), ()
    path = nir or source / "model.nir"
    nodes = {name: type(node).__name__ for name, node in graph.nodes.items()}
    if json:
        print_json({"nir": str(path), "nodes": nodes, "unsaid": list(unsaid)})
    else:
        print(f"wrote {path}: " + ", ".join(f"{name} ({kind})" for name, kind in nodes.items()))
        for text in unsaid:
            print(f"only its integers have this, for `lavatube lower`: {text}")
    return 0


def _lava_script(source: Path, path: Path, json: bool) -> None:
    from lavatube.cli.output import print_json
    from lavatube.deploy.lava_script.write import write_lava_script
    from lavatube.program_file import load_program
    from lavatube.sim.run import program_path

    arrays = write_lava_script(load_program(program_path(source)), path)
    if json:
        print_json({"lava_script": str(path), "arrays": str(arrays)})
    else:
        print(f"wrote {path} and {arrays}; in a Python 3.10 with lava-nc 0.10.0: python {path} X.npz TRACE.npz")


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
