"""CoreMap: which core holds which neurons, how full each core is, and which cores a neuron's spike goes to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from lavatube.deploy.mapping.limits import PER_CORE, ChipLimits
from lavatube.deploy.mapping.regions import Region
from lavatube.files import write_json

KIND = "core-map"
OFF_CHIP = -1  # the core of what the host does: an input's events, a read-out of spikes or voltages


@dataclass(frozen=True)
class Core:
    """One core and what it holds.

    population: the node whose neurons it holds (of a read-out that sums currents: its accumulators); region: which.
    loads:      by key of the limits; formats: how each of its synapses is packed, by name.
    """

    index: int
    population: str
    region: Region
    loads: Mapping[str, int]
    formats: Mapping[str, str]

    def fill(self, limits: ChipLimits) -> dict[str, float]:
        """Each load as a fraction of its limit, 0..1, in order of the limits' numbers."""
        return {limit.key: self.loads[limit.key] / limit.value for limit in limits.per_core}

    def closest(self, limits: ChipLimits) -> tuple[str, float]:
        """(key, fraction of it) of the limit that is closest and that more neurons would reach, the first of equals."""
        fill = {key: full for key, full in self.fill(limits).items() if key != "formats"}
        key = max(fill, key=fill.__getitem__)
        return key, fill[key]


@dataclass(frozen=True)
class Routes:
    """Of neuron n, its spikes go to `cores[indptr[n]:indptr[n + 1]]`, each once, rising. indptr int64, cores int32."""

    indptr: np.ndarray
    cores: np.ndarray

    @property
    def fan_out(self) -> np.ndarray:
        """Messages that one spike of each neuron makes: one for each core that it goes to. [neurons] int64."""
        return np.diff(self.indptr)


@dataclass(frozen=True)
class CoreMap:
    """A program on the cores of one or more chips. Cores are numbered from 0, chip after chip.

    routes: by source (input or population) that drives something.
    sizes:  neurons (or values) of every input, population and read-out.
    """

    limits: ChipLimits
    program_sha256: str
    cores: tuple[Core, ...]
    routes: Mapping[str, Routes] = field(repr=False)
    sizes: Mapping[str, int]

    @property
    def chips(self) -> int:
        return -(-len(self.cores) // self.limits["cores"])

    @property
    def total(self) -> dict[str, int]:
        """Each load, summed over the cores."""
        return {key: sum(core.loads[key] for core in self.cores) for key in PER_CORE if key in self.limits.limits}

    @property
    def populations(self) -> tuple[str, ...]:
        """Those that have cores, in order of the program."""
        return tuple(dict.fromkeys(core.population for core in self.cores))

    @cached_property
    def _cores_by_population(self) -> Mapping[str, np.ndarray]:
        found = {name: np.full(size, OFF_CHIP, np.int32) for name, size in self.sizes.items()}
        for core in self.cores:
            found[core.population][core.region.flat()] = core.index
        for array in found.values():
            array.flags.writeable = False
        return found

    def cores_of(self, population: str) -> np.ndarray:
        """[neurons] int32: the core of each neuron, flat in C order; -1 for what the host does (inputs, and
        read-outs of spikes or voltages)."""
        return self._cores_by_population[population]

    def destinations(self, population: str) -> Routes:
        """For each neuron (or input value) the cores that its spikes go to. Nothing for one that drives nothing."""
        nothing = Routes(np.zeros(self.sizes[population] + 1, np.int64), np.zeros(0, np.int32))
        return self.routes.get(population, nothing)

    def position(self, core: int) -> tuple[int, int, int]:
        """(chip, x, y) of the tile that holds a core: cores fill a tile, tiles follow a snake from row to row."""
        chip, place = divmod(core, self.limits["cores"])
        tile = place // self.limits["cores_per_tile"]
        y, x = divmod(tile, self.limits["tile_columns"])
        return chip, (self.limits["tile_columns"] - 1 - x if y % 2 else x), y

    @cached_property
    def positions(self) -> np.ndarray:
        """[cores, 3] int64: chip, x and y of every core."""
        return np.array([self.position(core.index) for core in self.cores], np.int64).reshape(-1, 3)

    def hops(self, population: str) -> np.ndarray:
        """[routes, 2] int64: tiles in x and y from a neuron's core to each of its destinations, in their order.

        -1, -1 where the way is not known: from the host, or to another chip.
        """
        routes = self.destinations(population)
        origin = np.repeat(self.cores_of(population), routes.fan_out)
        away = self.positions[routes.cores] - self.positions[origin]
        known = (origin != OFF_CHIP) & (away[:, 0] == 0)
        return np.where(known[:, None], np.abs(away[:, 1:]), -1)

    def to_json(self) -> dict[str, Any]:
        """What `lavatube map --out` writes; the routes follow from the program and are not in it."""
        rows = []
        for core in self.cores:
            chip, x, y = self.position(core.index)
            region = {"grid": list(core.region.grid), "spans": [list(span) for span in core.region.spans]}
            place = {"core": core.index, "chip": chip, "x": x, "y": y}
            what = {"population": core.population, **region, "loads": dict(core.loads), "formats": dict(core.formats)}
            rows.append({**place, **what, "binds": core.closest(self.limits)[0]})
        limits = [vars(limit) for limit in sorted(self.limits.limits.values(), key=lambda limit: limit.number)]
        return {
            "kind": KIND,
            "target": self.limits.name,
            "chip": self.limits.chip,
            "program_sha256": self.program_sha256,
            "chips": self.chips,
            "limits": limits,
            "total": {
                key: sum(core.loads[key] for core in self.cores) for key in PER_CORE if key in self.limits.limits
            },
            "cores": rows,
        }


def save_map(mapping: CoreMap, path: Path) -> None:
    """Write mapping.json."""
    write_json(path, mapping.to_json())
