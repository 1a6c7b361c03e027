"""Counts on the cores that the mapper chose."""

from __future__ import annotations

import numpy as np

from lavatube.deploy.mapping.core_map import CoreMap
from lavatube.deploy.mapping.map_program import map_program
from lavatube.errors import UnsupportedError
from lavatube.program import LoihiProgram
from lavatube.sim.counts import Placement


def placement_of(found: CoreMap) -> Placement:
    """A mapper's cores, tiles, chips and routes, as the counts need them."""
    place = np.array([found.position(core.index) for core in found.cores], np.int64)  # chip, x, y
    reach = {}
    for source, routes in found.routes.items():
        neuron = np.repeat(np.arange(len(routes.indptr) - 1), routes.fan_out)
        there = {}
        for core in np.unique(routes.cores).tolist():
            there[core] = np.zeros(len(routes.indptr) - 1, bool)
            there[core][neuron[routes.cores == core]] = True
        reach[source] = there
    core_of = {name: found.cores_of(name).astype(np.int64) for name in found.populations}
    return Placement(core_of, place[:, 1:], place[:, 0], reach)


def place(program: LoihiProgram, target: str | None = None) -> tuple[Placement | None, str]:
    """The placement, or None and the reason why the program does not fit the target's chips."""
    try:
        return placement_of(map_program(program, target=target)), ""
    except UnsupportedError as error:
        return None, str(error)
