"""LoihiProgram -> CoreMap: the same program always gives the same map."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from lavatube.deploy.mapping.bundles import Bundle, bundles_into
from lavatube.deploy.mapping.core_map import Core, CoreMap
from lavatube.deploy.mapping.limits import ChipLimits, load_limits
from lavatube.deploy.mapping.place import Excess, Piece, place, too_much
from lavatube.deploy.mapping.routes import find_routes, output_axons
from lavatube.errors import UnsupportedError
from lavatube.node_checks import Shape
from lavatube.program import Conv2dNode, LoihiProgram, ReadoutNode, Target
from lavatube.program_file import program_sha256
from lavatube.targets import refuse_what_target_lacks


def map_program(program: LoihiProgram, *, target: str | Path | None = None, chips: int | None = None) -> CoreMap:
    """Place every population, and every read-out that sums currents, on cores of its own, chip after chip.

    target: limits by name (`list_limits`) or a file of limits; default is the program's target.
    chips:  chips that there are; default is the largest system built.
    raises: UnsupportedError, with the actual load, the limit and the remedy, for what does not fit.
    """
    limits = load_limits(target or program.target)
    if limits.target != program.target:
        refuse_what_target_lacks(replace(program, target=limits.target))
    targets = [node for node in program.nodes if isinstance(node, Target) and _has_place(program, node)]
    grids = {node.name: grid_of(program, node) for node in targets}
    bundles = {node.name: bundles_into(program, node, limits) for node in targets}
    sizes = {node.name: int(np.prod(node.shape)) for node in (*program.inputs, *program.targets)}
    pieces = {name: place(name, grid, bundles[name], limits) for name, grid in grids.items()}
    while True:  # a source of too many output axons is cut further, which takes more of them elsewhere; it only grows
        names = [name for name, found in pieces.items() for _ in found]
        flat = [piece for found in pieces.values() for piece in found]
        routes = find_routes(flat, sizes)
        axons = output_axons(names, flat, routes, sizes, limits.output_axon_per)
        crowded = {name: load for name, load in zip(names, axons, strict=True) if load > limits["output_axons"]}
        if not crowded:
            break
        for name, load in crowded.items():
            pieces[name] = _cut_further(name, load, grids[name], bundles[name], limits, len(pieces[name]))
    held = enumerate(zip(names, flat, axons, strict=True))
    cores = tuple(_core(index, name, piece, load) for index, (name, piece, load) in held)
    found = CoreMap(limits, program_sha256(program), cores, routes, sizes)
    _check_chips(found, limits["chips"] if chips is None else chips)
    return found


def _has_place(program: LoihiProgram, node: Target) -> bool:
    """A read-out that reads spikes or voltages is the host's work alone."""
    return not isinstance(node, ReadoutNode) or node.reads == "current"


def grid_of(program: LoihiProgram, node: Target) -> Shape:
    """(C, H, W) of a population that a convolution reads or drives, where that is an image; else (neurons,).

    Shapes are only ways to count, so it is the convolution that says which neurons are neighbours.
    """
    driven = [synapse.out_shape for synapse in program.inbound(node) if isinstance(synapse, Conv2dNode)]
    read = [
        synapse.in_shape
        for synapse in program.synapses
        if isinstance(synapse, Conv2dNode) and program.source_of(synapse).name == node.name
    ]
    images = [shape for shape in (*driven, *read) if shape[1] * shape[2] > 1]
    return images[0] if images else (int(np.prod(node.shape)),)


def _cut_further(
    name: str, load: int, grid: Shape, bundles: tuple[Bundle, ...], limits: ChipLimits, now: int
) -> list[Piece]:
    limit = limits.limits["output_axons"]
    if now == int(np.prod(grid)):
        raise too_much(name, Excess(limit, load), "a single neuron")
    return place(name, grid, bundles, limits, min(max(now + 1, now * load // limit.value), int(np.prod(grid))))


def _core(index: int, name: str, piece: Piece, output_axons: int) -> Core:
    formats = {synapse.name: packed.form for bundle, packed in piece.packed for synapse in bundle.synapses}
    return Core(index, name, piece.region, {**piece.loads, "output_axons": output_axons}, formats)


def _check_chips(found: CoreMap, chips: int) -> None:
    if found.chips <= chips:
        return
    counts = {name: 0 for name in found.populations}
    for core in found.cores:
        counts[core.population] += 1
    largest = max(counts, key=counts.__getitem__)
    limit = found.limits.limits["cores"]
    raise UnsupportedError(
        "the program needs more cores than there are",
        where=f"{chips} chip{'s' * (chips != 1)} {found.limits.chip}",
        expected=f"at most {chips * limit.value:,} cores ({limit.value} per chip: limit {limit.number}, {limit.grade})",
        got=f"{len(found.cores):,} cores, {counts[largest]:,} of them for {largest}",
        remedy=f"prune channels, use fewer weight bits or smaller layers (first {largest}), or give more --chips",
    )
