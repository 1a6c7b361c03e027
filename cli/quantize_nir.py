"""lavatube quantize FILE.nir"""

from __future__ import annotations

from pathlib import Path
from typing import Any


def quantize_nir(source: Path, out: Path | None, overwrite: bool, json: bool, **settings: Any) -> int:
    """Post-training quantization of another platform's NIR file."""
    from lavatube.bounds import bound_program, never_spiking
    from lavatube.cli.lossy_table import print_lossy
    from lavatube.cli.output import console, print_json, say
    from lavatube.cli.program_tables import bounds_table, notes
    from lavatube.deploy.lower_float import REPORT, is_float_nir, quantize_float
    from lavatube.errors import LavatubeError
    from lavatube.files import read_json

    if settings["overflow"] not in ("strict", "hardware"):
        raise LavatubeError("--overflow", expected="strict or hardware", got=settings["overflow"])
    if out is None:
        raise LavatubeError("a folder for the program", where=str(source), expected="--out DIR", got="none")
    if not is_float_nir(source):
        raise LavatubeError("this file is quantized already", where=str(source), remedy="lavatube lower takes it")
    if (out / "program.safetensors").exists() and not overwrite:
        raise LavatubeError("a finished folder", where=str(out), remedy="choose another, or --overwrite")
    program = quantize_float(source, out=out, **settings)
    bounds = bound_program(program)
    silent = {"never_spiking": never_spiking(program, bounds)}
    if json:
        print_json({"folder": str(out), **read_json(out / REPORT, kind=REPORT), **silent})
        return 0
    console().print(bounds_table(bounds))
    for node in program.inputs:
        kind = "binary spikes" if node.message_bits == 1 else f"integers of {node.message_bits} bits"
        print(f"input {node.name}: {kind}, each worth {program.scales[node.name]:g}")
    print_lossy(program.lossy)
    for line in notes(program, bounds):
        print(line)
    made = read_json(out / REPORT, kind=REPORT)
    if made["no_model_nir"]:
        print(f"no model.nir: {made['no_model_nir']}")
    for text in made["unsaid_in_model_nir"]:
        print(f"model.nir: only its integers have this, for `lavatube lower`: {text}")
    say(f"wrote {out / 'program.safetensors'}" + ("" if made["no_model_nir"] else " and model.nir"))
    return 0
