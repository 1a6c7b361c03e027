"""lavatube inspect"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from lavatube.cli.options import Json

SAMPLES = 64  # of a trace, held at once


def inspect(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="program.safetensors, model.nir, a lava-dl .net file, an .onnx file, a trace, or another artifact.",
        ),
    ],
    svg: Annotated[Path | None, typer.Option("--svg", help="Draw the graph to this file too.")] = None,
    contract: Annotated[
        str | None, typer.Option("--contract", help="Of a float .nir file: under which it would be lowered.")
    ] = None,
    dt: Annotated[float | None, typer.Option("--dt", help="Of a float .nir file: the timestep.")] = None,
    json: Json = False,
) -> int:
    """Say what is in a file, what each target would refuse, and why."""
    from lavatube.cli.output import console, print_json
    from lavatube.errors import LavatubeError
    from lavatube.files import require_file

    if file.is_dir():
        raise LavatubeError("a folder", where=str(file), expected="one of its files")
    require_file(file, kind="an artifact of lavatube or a .nir file")
    if file.suffix == ".nir":
        from lavatube.cli.inspect_nir import summarize_nir

        summary = summarize_nir(file, contract, dt)
    elif file.suffix == ".net":
        from lavatube.cli.inspect_program import summarize_net

        summary = summarize_net(file)
    elif file.suffix == ".onnx":
        from lavatube.cli.inspect_onnx import summarize_onnx

        summary = summarize_onnx(file)
    elif file.suffix in (".npz", ".h5", ".hdf5"):
        summary = _trace(file)
    elif file.suffix == ".json":
        from lavatube.files import read_json

        summary = read_json(file, kind="a JSON artifact")
    else:
        summary = _tensors(file)
        if "program" in summary and not json:
            from lavatube.bounds import bound_program
            from lavatube.cli.program_tables import bounds_table, nodes_table
            from lavatube.program_file import load_program

            program = load_program(file)
            console().print(nodes_table(program), bounds_table(bound_program(program)))
            del summary["nodes"]
    if svg is not None:
        from lavatube.cli.inspect_program import picture_of
        from lavatube.deploy.draw_graph import write_picture

        write_picture(picture_of(file), svg)
    if json:
        print_json(summary)
    else:
        for key, value in summary.items():
            _print_topic(key, value)
    return 0


def _print_topic(key: str, value: Any) -> None:
    from lavatube.cli.lossy_table import print_lossy

    key = {"never_spiking": "never spikes"}.get(key, key)
    if key == "lossy" and value and isinstance(value, list) and all(isinstance(each, dict) for each in value):
        print_lossy(value)
        return
    if not isinstance(value, (list, dict)):
        print(f"{key}: {value}")
        return
    print(f"{key}:" if value else f"{key}: none")
    for item in value.items() if isinstance(value, dict) else value:
        print("  " + _line(item))


def _line(item: Any) -> str:
    if isinstance(item, dict):
        return ", ".join(f"{name} {part}" for name, part in item.items())
    if isinstance(item, tuple):
        return f"{item[0]} {_line(item[1])}"
    return " -> ".join(item) if isinstance(item, list) and all(isinstance(each, str) for each in item) else str(item)


def _tensors(file: Path) -> dict[str, Any]:
    from safetensors import SafetensorError, safe_open

    from lavatube.cli.inspect_program import summarize_program
    from lavatube.errors import LavatubeError
    from lavatube.files import read_tensors
    from lavatube.program_file import KIND, load_program

    try:
        import json

        with safe_open(str(file), framework="np") as opened:
            kind = json.loads((opened.metadata() or {}).get("lavatube", "{}")).get("kind")
    except (SafetensorError, OSError, ValueError, AttributeError) as error:
        raise LavatubeError(
            "damaged or foreign file", where=str(file), expected="safetensors", got=str(error)
        ) from error
    if kind == KIND:
        return summarize_program(load_program(file))
    if not isinstance(kind, str):
        raise LavatubeError("not written by lavatube", where=str(file), got="foreign safetensors file")
    tensors, header = read_tensors(file, kind=kind)
    return {**header, "tensors": {name: f"{value.dtype} {value.shape}" for name, value in tensors.items()}}


def _trace(file: Path) -> dict[str, Any]:
    from lavatube.float_trace import is_float_trace
    from lavatube.sim.trace_file import open_trace

    if file.suffix == ".npz" and is_float_trace(file):
        return _float_trace(file)
    with open_trace(file) as opened:
        return {
            **opened.meta,
            "steps": opened.num_steps,
            "samples": opened.batch,
            **_totals(opened.part(slice(start, start + SAMPLES)) for start in range(0, max(opened.batch, 1), SAMPLES)),
        }


def _totals(parts: Any) -> dict[str, Any]:
    """Of a trace, some samples at a time."""
    spikes: dict[str, int] = {}
    shapes: dict[str, dict[str, list[int]]] = {"inputs": {}, "readouts": {}}
    recorded: set[str] = set()
    for part in parts:
        recorded |= {kind for kind in ("u", "v") if getattr(part, kind)}
        for name, value in part.spikes.items():
            spikes[name] = spikes.get(name, 0) + int((value != 0).sum())
        for kind, axis in (("inputs", 1), ("readouts", 0)):
            for name, value in getattr(part, kind).items():
                shape = shapes[kind].setdefault(name, [*value.shape[:axis], 0, *value.shape[axis + 1 :]])
                shape[axis] += value.shape[axis]
    silent = [name for name, count in spikes.items() if not count]
    return {**shapes, "spikes": spikes, "never_spiking": silent, "recorded": sorted(recorded)}


def _float_trace(file: Path) -> dict[str, Any]:
    from lavatube.float_trace import load_float_trace

    trace = load_float_trace(file)
    return {
        **trace.meta,
        "steps": trace.num_steps,
        "samples": trace.batch,
        "inputs": {name: list(value.shape) for name, value in trace.input.items()},
        "outputs": {name: list(value.shape) for name, value in trace.output.items()},
        "spikes": {name: int(value.sum()) for name, value in trace.spikes.items()},
        "never_spiking": [name for name, value in trace.spikes.items() if not value.any()],
        "recorded": ["v"] if trace.v else [],
    }
