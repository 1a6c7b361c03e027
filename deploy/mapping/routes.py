"""Which cores each neuron's spikes go to, and the output axons that this takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from lavatube.deploy.mapping.bundles import Bundle
from lavatube.deploy.mapping.core_map import Routes
from lavatube.deploy.mapping.place import Piece


def find_routes(pieces: Sequence[Piece], sizes: Mapping[str, int]) -> dict[str, Routes]:
    """By source, for pieces in order of their cores. One route for each neuron and core, whatever leads there."""
    reached: dict[str, list[np.ndarray]] = {}
    for core, piece in enumerate(pieces):
        for bundle, packed in piece.packed:
            reached.setdefault(bundle.source, []).append(packed.sources * np.int64(len(pieces)) + core)
    routes = {}
    for source, keys in reached.items():
        neuron, core_index = np.divmod(np.unique(np.concatenate(keys)), len(pieces))
        fan_out = np.bincount(neuron, minlength=sizes[source])
        routes[source] = Routes(np.concatenate([[0], fan_out.cumsum()]), core_index.astype(np.int32))
    return routes


def output_axons(
    names: Sequence[str], pieces: Sequence[Piece], routes: Mapping[str, Routes], sizes: Mapping[str, int], per: str
) -> list[int]:
    """Output axons of every core. names: populations of the pieces.

    per: "core": one for each of its neurons and each core that this reaches; "target": one for each of its neurons that
    reaches a population, or, through weights that are shared, for each position of the image in the core.
    """
    if per == "core":
        fan_out = {name: found.fan_out for name, found in routes.items()}
        return [
            int(fan_out[name][piece.region.flat()].sum()) if name in fan_out else 0
            for name, piece in zip(names, pieces, strict=True)
        ]
    leaves = _leaves(names, pieces, sizes)
    return [
        sum(_entries(bundle, sends, piece.region.flat()) for bundle, sends in leaves.get(name, []))
        for name, piece in zip(names, pieces, strict=True)
    ]


def _leaves(
    names: Sequence[str], pieces: Sequence[Piece], sizes: Mapping[str, int]
) -> dict[str, list[tuple[Bundle, np.ndarray]]]:
    """By source: each bundle that leaves it, and which of its neurons reach any core through it. [neurons] bool."""
    sends: dict[tuple[str, int], tuple[Bundle, np.ndarray]] = {}
    for name, piece in zip(names, pieces, strict=True):
        for number, (bundle, packed) in enumerate(piece.packed):
            nobody = np.zeros(sizes[bundle.source], bool)
            sends.setdefault((name, number), (bundle, nobody))[1][packed.sources] = True
    found: dict[str, list[tuple[Bundle, np.ndarray]]] = {}
    for bundle, mask in sends.values():
        found.setdefault(bundle.source, []).append((bundle, mask))
    return found


def _entries(bundle: Bundle, sends: np.ndarray, own: np.ndarray) -> int:
    mine = own[sends[own]]
    if bundle.is_shared:
        mine = np.unique(mine % int(np.prod(bundle.synapses[0].in_shape[1:])))
    return int(mine.size)
