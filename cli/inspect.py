"""lavatube inspect"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from lavatube.cli.options import Json


def inspect(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="program.safetensors, model.nir, a lava-dl .net file, an .onnx file, a trace, or another artifact.",
        ),
    ],
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
        summary = _nir(file)
    elif file.suffix == ".net":
        summary = _net(file)
    elif file.suffix == ".onnx":
        from lavatube.cli.inspect_onnx import summarize_onnx

        summary = summarize_onnx(file)
    elif file.suffix == ".npz":
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
    if json:
        print_json(summary)
    else:
        for key, value in summary.items():
            _print_topic(key, value)
    return 0


def _print_topic(key: str, value: Any) -> None:
    if not isinstance(value, (list, dict)):
        print(f"{key}: {value}")
        return
    print(f"{key}:" if value else f"{key}: none")
    for item in value.items() if isinstance(value, dict) else value:
        parts = item.items() if isinstance(item, dict) else [item] if isinstance(item, tuple) else None
        print("  " + (str(item) if parts is None else ", ".join(f"{name} {part}" for name, part in parts)))


def _targets(program: Any) -> dict[str, str]:
    from dataclasses import replace

    from lavatube.deploy.targets import OFFERS, refuse_what_target_lacks
    from lavatube.errors import LavatubeError

    verdicts = {}
    for target in OFFERS:
        try:
            refuse_what_target_lacks(replace(program, target=target))
            verdicts[target] = "accepts it"
        except LavatubeError as error:
            verdicts[target] = f"refuses it: {error}"
    return verdicts


def _program(program: Any) -> dict[str, Any]:
    from lavatube.program_file import program_sha256

    return {
        "program": program_sha256(program),
        "nodes": [f"{node.name} ({node.kind})" for node in program.nodes],
        "overflow": program.overflow,
        "source": dict(program.source),
        "lossy": [dict(record) for record in program.lossy],
        "targets": _targets(program),
    }


def _tensors(file: Path) -> dict[str, Any]:
    from safetensors import SafetensorError, safe_open

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
        return _program(load_program(file))
    if not isinstance(kind, str):
        raise LavatubeError("not written by lavatube", where=str(file), got="foreign safetensors file")
    tensors, header = read_tensors(file, kind=kind)
    return {**header, "tensors": {name: f"{value.dtype} {value.shape}" for name, value in tensors.items()}}


def _nir(file: Path) -> dict[str, Any]:
    from lavatube.convert.float_graph.read import read_nested_graph
    from lavatube.convert.from_nir import read_quantized_nir
    from lavatube.deploy.lower import lower
    from lavatube.errors import LavatubeError

    graph = read_nested_graph(file)
    summary: dict[str, Any] = {
        "nir": str(file),
        "nodes": {name: type(node).__name__ for name, node in graph.nodes.items()},
        "edges": [list(edge) for edge in graph.edges],
    }
    try:
        summary["targets"] = _targets(lower(read_quantized_nir(file)))
    except LavatubeError as error:
        summary["targets"] = f"refused: {error}"
    return summary


def _net(file: Path) -> dict[str, Any]:
    from lavatube.deploy.net_file.blocks import read_blocks
    from lavatube.deploy.net_file.read import lower_net
    from lavatube.errors import LavatubeError

    net = read_blocks(file)
    summary: dict[str, Any] = {"net": str(file), "steps": net.num_steps, "ignored": list(net.ignored)}
    summary["blocks"] = {block.name: f"{block.kind} {block.shape}" for block in net.blocks}
    try:
        program = lower_net(file, num_steps=net.num_steps or 1)
        summary["lossy"] = [dict(record) for record in program.lossy]
        unknown = "not known without the timesteps: lavatube lower --num-steps T"
        summary["targets"] = unknown if net.num_steps is None else _targets(program)
    except LavatubeError as error:
        summary["targets"] = f"refused: {error}"
    return summary


def _trace(file: Path) -> dict[str, Any]:
    from lavatube.trace import load_trace

    trace = load_trace(file)
    return {
        **trace.meta,
        "steps": trace.num_steps,
        "samples": trace.batch,
        "inputs": {name: list(value.shape) for name, value in trace.inputs.items()},
        "readouts": {name: list(value.shape) for name, value in trace.readouts.items()},
        "spikes": {name: int(value.sum()) for name, value in trace.spikes.items()},
        "recorded": sorted(kind for kind in ("u", "v") if getattr(trace, kind)),
    }
