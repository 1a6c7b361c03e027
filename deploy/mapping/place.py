"""Cut one population into the fewest regions that each fit a core."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lavatube.deploy.mapping.bundles import Bundle, Packed, pack
from lavatube.deploy.mapping.limits import ChipLimits, Limit
from lavatube.deploy.mapping.regions import Region, count_tiles, image_tiles, tiles
from lavatube.errors import UnsupportedError
from lavatube.node_checks import Shape

REMEDIES = {
    "neurons": "split the population",
    "synapse_words": "prune, use fewer weight bits, or split its inputs between two populations",
    "input_axons": "prune whole inputs, or split its inputs between two populations",
    "output_axons": "prune, or make the populations that it drives smaller, so that they take fewer cores",
    "formats": "give its synapses the same weight exponent, bits and sign",
    "delay_slots": "use shorter delays",
}
SLOTS_LEAST = 8  # timesteps that a neuron's ring of delayed input always has; two of them are no delay


@dataclass(frozen=True)
class Piece:
    """A region of a population for a core. loads: by key of the limits, all but the output axons."""

    region: Region
    packed: tuple[tuple[Bundle, Packed], ...]
    loads: Mapping[str, int]


@dataclass(frozen=True)
class Excess:
    """The first limit that a region exceeds."""

    limit: Limit
    actual: int


def place(name: str, grid: Shape, bundles: tuple[Bundle, ...], limits: ChipLimits, at_least: int = 1) -> list[Piece]:
    """The fewest pieces found, but `at_least` so many; in C order of the grid.

    grid: (neurons,), cut into runs of one length (but the last), or (C, H, W), cut into boxes (`image_tiles`).
    raises: UnsupportedError naming the limit, the actual load and the remedy where even a single neuron does not fit.
    """
    found = _runs(grid[0], bundles, limits, at_least) if len(grid) == 1 else _boxes(grid, bundles, limits, at_least)
    if isinstance(found, Excess):
        raise too_much(name, found, "a single neuron")
    return found


def too_much(name: str, excess: Excess, holder: str) -> UnsupportedError:
    """The refusal of what does not fit, with the numbers and the remedy."""
    limit = excess.limit
    return UnsupportedError(
        f"{holder} needs more than a core has",
        where=f"population {name}",
        expected=f"at most {limit.value:,} {limit.unit} (limit {limit.number}, {limit.grade})",
        got=f"{excess.actual:,}",
        remedy=REMEDIES[limit.key],
    )


def _runs(size: int, bundles: tuple[Bundle, ...], limits: ChipLimits, at_least: int) -> list[Piece] | Excess:
    """Bisection on the length of a run, then as even as the same number of runs allows."""
    longest = min(size, limits["neurons"], size if at_least == 1 else max((size - 1) // (at_least - 1), 1))
    best = _cut((size,), (longest,), bundles, limits)
    fits, fails = (0, longest) if isinstance(best, Excess) else (longest, longest)
    while fails - fits > 1:
        middle = (fits + fails) // 2
        found = _cut((size,), (middle,), bundles, limits)
        if not isinstance(found, Excess):
            fits, best = middle, found
        else:
            fails, best = middle, best if fits else found
    if isinstance(best, Excess):
        return best
    even = _cut((size,), (-(-size // len(best)),), bundles, limits)
    return best if isinstance(even, Excess) else even


def _boxes(grid: Shape, bundles: tuple[Bundle, ...], limits: ChipLimits, at_least: int) -> list[Piece] | Excess:
    """The first of `image_tiles` that fits; none is tried where the neuron in the middle alone is too much."""
    middle = Region(grid, tuple((size // 2, size // 2 + 1) for size in grid))
    excess = _excess(_load(middle, bundles, limits), limits)
    if excess is not None:
        return excess
    found: list[Piece] | Excess = []
    for tile in image_tiles(grid):
        if count_tiles(grid, tile) >= at_least and not isinstance(found := _cut(grid, tile, bundles, limits), Excess):
            break
    return found


def _cut(grid: Shape, tile: Shape, bundles: tuple[Bundle, ...], limits: ChipLimits) -> list[Piece] | Excess:
    if np.prod(tile) > limits["neurons"]:
        return Excess(limits.limits["neurons"], int(np.prod(tile)))
    pieces = []
    for region in tiles(grid, tile):
        pieces.append(_load(region, bundles, limits))
        if (excess := _excess(pieces[-1], limits)) is not None:
            return excess
    return pieces


def _excess(piece: Piece, limits: ChipLimits) -> Excess | None:
    for limit in limits.per_core:
        if (actual := piece.loads.get(limit.key, 0)) > limit.value:
            return Excess(limit, actual)
    return None


def _load(region: Region, bundles: tuple[Bundle, ...], limits: ChipLimits) -> Piece:
    packed = tuple((bundle, pack(bundle, region)) for bundle in bundles)
    lists: dict[str, list[np.ndarray]] = {}
    for bundle, found in packed:
        if not bundle.is_shared:
            lists.setdefault(bundle.source, []).append(found.sources)
    shared = sum(bundle.is_shared and found.sources.size > 0 for bundle, found in packed)
    loads = {
        "neurons": region.size,
        "synapse_words": sum(found.words for _, found in packed),
        "input_axons": shared + sum(np.unique(np.concatenate(parts)).size for parts in lists.values()),
        "formats": len({(found.form, b.synapses[0].weight_exp, b.synapses[0].sign) for b, found in packed}),
        "delay_slots": region.size * _slots(max((bundle.delay for bundle in bundles), default=0)),
    }
    return Piece(region, packed, {key: value for key, value in loads.items() if key in limits.limits})


def _slots(delay: int) -> int:
    return int(max(SLOTS_LEAST, 1 << (delay + 1).bit_length()))
