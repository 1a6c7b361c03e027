"""The last step of every lowering: the target offers it, nothing overflows, lossy steps are allowed, it is written."""

from __future__ import annotations

from pathlib import Path

from lavatube.bounds import prove_no_overflow
from lavatube.errors import LavatubeError
from lavatube.fixed_point import DENDRITE_MAX
from lavatube.lossy_text import record_lines
from lavatube.program import LoihiProgram
from lavatube.program_file import save_program
from lavatube.targets import refuse_what_target_lacks


def accept(program: LoihiProgram, *, where: str, strict: bool, out: Path | str | None) -> LoihiProgram:
    """Check a lowered program and write it to `out` if given.

    where:  its source, for errors; strict: refuse what this lowering itself made lossy, and for Loihi 1 what may leave
            the chip's dendritic accumulator.
    raises: LavatubeError for a capability that the target lacks, a possible overflow, or a lossy step.
    """
    refuse_what_target_lacks(program)
    bounds = prove_no_overflow(program)
    made_here = [dict(record) for record in program.lossy if record.get("stage") == "lower"]
    if strict and made_here:
        raise LavatubeError(
            "lossy steps", where=where, got="; ".join(record_lines(made_here)), remedy="leave out --strict"
        )
    wide = next((bound for bound in bounds if bound.fits_dendrite is False), None)
    if strict and wide is not None and program.target == "loihi1":
        raise LavatubeError(
            "sums may leave the chip's dendritic accumulator, which Lava does not have",
            where=f"{wide.synapse} -> {wide.target}",
            expected=f"64 a within {-DENDRITE_MAX}..{DENDRITE_MAX} (21 bits and sign)",
            got=f"a in {wide.activation[0]}..{wide.activation[1]}",
            remedy="quantize with a smaller --headroom, or lower without --strict",
        )
    if out is not None:
        save_program(program, Path(out))
    return program
