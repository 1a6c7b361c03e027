"""Every lossy step on the way to the program."""

from __future__ import annotations

from lavatube.sim.report.artifacts import Artifacts
from lavatube.sim.report.parts import Missing, Section, Table, Words

FIXED = ("stage", "layer", "what", "when")


def lossy(found: Artifacts) -> Section:
    if found.program is None and found.quantized is None:
        return Section("lossy", "Lossy steps", [Missing("quantized.safetensors", f"lavatube quantize {found.folder}")])
    records = found.program.lossy if found.program is not None else found.quantized.lossy if found.quantized else ()
    if not records:
        return Section("lossy", "Lossy steps", [Words("None: nothing was rounded, clamped or substituted.", "good")])
    rows = [
        (*(str(record.get(key, "")) for key in FIXED), _rest({k: v for k, v in record.items() if k not in FIXED}))
        for record in records
    ]
    return Section(
        "lossy", "Lossy steps", [Table("Every rounding, clamp and substitution", (*FIXED, "size"), rows, left=5)]
    )


def _rest(values: dict[str, object]) -> str:
    return ", ".join(
        f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}" for key, value in values.items()
    )
