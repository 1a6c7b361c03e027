"""What each target offers; lowering refuses the rest by name, with the remedy."""

from __future__ import annotations

from collections.abc import Mapping

from lavatube.errors import LavatubeError, UnsupportedError
from lavatube.program import LoihiProgram

OFFERS: Mapping[str, frozenset[str]] = {
    "loihi1": frozenset({"delays", "recurrence", "refractory period"}),
    # its neurons are programs: our Lava Process computes the last four
    "loihi2": frozenset({"delays", "recurrence", "graded input", "voltage read-out", "refractory period"})
    | frozenset({"sums with fractions"})
    | frozenset({"soft reset", "initial potential", "signed spikes", "graded spikes"}),
}
REMEDIES: Mapping[str, str] = {
    "graded input": "Loihi 1 spikes are binary: encode the input as spikes (message_bits 1), or use --target loihi2",
    "soft reset": "train with a reset to zero, or use --target loihi2",
    "graded spikes": "train with output: binary, or use --target loihi2",
    "signed spikes": "train with output: binary, or use --target loihi2",
    "initial potential": "start at 0, or use --target loihi2",
    "sums with fractions": "quantize with --target loihi1, or use --target loihi2",
}


def with_combined(needs: frozenset[str]) -> frozenset[str]:
    """Needs of a network, with what only some of them together ask for."""
    return needs | ({"graded spikes with feedback"} if {"graded spikes", "recurrence"} <= needs else set())


def refuse_what_target_lacks(program: LoihiProgram) -> None:
    """See `refuse_needs`."""
    refuse_needs(program.needs(), program.target)


def refuse_needs(needs: frozenset[str], target: str, *, of: str = "program") -> None:
    """raises: UnsupportedError naming the capability and the remedy; LavatubeError for an unknown target."""
    if target not in OFFERS:
        raise LavatubeError("unknown target", expected=" or ".join(sorted(OFFERS)), got=target)
    for need in sorted(needs - OFFERS[target]):
        raise UnsupportedError(
            f"the {of} needs {need}",
            where=f"target {target}",
            expected=", ".join(sorted(OFFERS[target])),
            got=need,
            remedy=REMEDIES.get(need, ""),
        )
