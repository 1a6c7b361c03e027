"""What `lavatube inspect` says of a program, or of a .net file, which becomes one."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def summarize_program(program: Any) -> dict[str, Any]:
    from lavatube.bounds import bound_program, never_spiking
    from lavatube.deploy.program_picture import program_memory
    from lavatube.program_file import program_sha256

    return {
        "program": program_sha256(program),
        "nodes": [f"{node.name} ({node.kind})" for node in program.nodes],
        "overflow": program.overflow,
        "source": dict(program.source),
        "lossy": [dict(record) for record in program.lossy],
        "never_spiking": never_spiking(program, bound_program(program)),
        "memory": program_memory(program),
        "targets": targets(program),
    }


def targets(program: Any) -> dict[str, str]:
    """{target: whether it accepts a program, and why not}"""
    from dataclasses import replace

    from lavatube.errors import LavatubeError
    from lavatube.targets import OFFERS, refuse_what_target_lacks

    verdicts = {}
    for target in OFFERS:
        try:
            refuse_what_target_lacks(replace(program, target=target))
            verdicts[target] = "accepts it"
        except LavatubeError as error:
            verdicts[target] = f"refuses it: {error}"
    return verdicts


def summarize_net(file: Path) -> dict[str, Any]:
    from lavatube.deploy.net_file.blocks import read_blocks
    from lavatube.deploy.net_file.read import lower_net
    from lavatube.deploy.program_picture import program_memory
    from lavatube.errors import LavatubeError

    net = read_blocks(file)
    summary: dict[str, Any] = {"net": str(file), "steps": net.num_steps, "ignored": list(net.ignored)}
    summary["blocks"] = {block.name: f"{block.kind} {block.shape}" for block in net.blocks}
    try:
        program = lower_net(file, num_steps=net.num_steps or 1)
        summary["lossy"] = [dict(record) for record in program.lossy]
        summary["memory"] = program_memory(program)
        unknown = "not known without the timesteps: lavatube lower --num-steps T"
        summary["targets"] = unknown if net.num_steps is None else targets(program)
    except LavatubeError as error:
        summary["targets"] = f"refused: {error}"
    return summary


def picture_of(file: Path) -> Any:
    """A Picture of a .nir, .net, .onnx or program file. raises: UnsupportedError for another kind of file."""
    from lavatube.deploy.program_picture import program_picture
    from lavatube.errors import UnsupportedError
    from lavatube.program_file import load_program

    if file.suffix == ".nir":
        from lavatube.cli.inspect_nir import nir_picture

        return nir_picture(file)
    if file.suffix == ".onnx":
        from lavatube.cli.inspect_onnx import onnx_picture

        return onnx_picture(file)
    if file.suffix == ".net":
        from lavatube.deploy.net_file.read import lower_net

        return program_picture(lower_net(file, num_steps=1), file.name)
    if file.suffix == ".safetensors":
        return program_picture(load_program(file), file.name)
    expected = ".nir, .net, .onnx or program.safetensors"
    raise UnsupportedError("--svg", where=str(file), expected=expected, got=file.suffix or "no suffix")
