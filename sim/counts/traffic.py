"""Messages between cores: what a placement makes of the events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Protocol

import numpy as np

from lavatube.errors import LavatubeError
from lavatube.node_checks import frozen
from lavatube.program import LoihiProgram, Target


class Placed(Protocol):
    """Where the neurons lie: what a mapper offers.

    core_of: {population: [neurons] int64 core, in C order}; a read-out whose synapses lie on cores may be in it.
    tile:    [cores, 2] int64, x and y of the core's router.  chip: [cores] int64.
    reach:   {source: {core: [neurons] bool, whose events go there}}; where a source is not in it, an event goes to
             every core with a stored connection.
    """

    @property
    def core_of(self) -> Mapping[str, np.ndarray]: ...
    @property
    def tile(self) -> np.ndarray: ...
    @property
    def chip(self) -> np.ndarray: ...
    @property
    def reach(self) -> Mapping[str, Mapping[int, np.ndarray]]: ...


@dataclass(frozen=True)
class Placement:
    """A `Placed` of plain arrays."""

    core_of: Mapping[str, np.ndarray]
    tile: np.ndarray
    chip: np.ndarray
    reach: Mapping[str, Mapping[int, np.ndarray]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("tile", "chip"):
            object.__setattr__(self, name, frozen(getattr(self, name)))


@dataclass(frozen=True)
class Traffic:
    """Sums over timesteps and samples; integers.

    messages:       one for each event and core that it reaches (synapses on one core share an axon), host's included.
    messages_local: of these, between cores of one tile, a core to itself included.
    hops_x, hops_y: tiles crossed east-west and north-south, within a chip.
    messages_host:  of the messages, those of input events, whose way to the first tile is not known.
    messages_chips: of the messages, those between chips, whose way is not known either.
    cores, tiles, chips: in use.
    """

    messages: int = 0
    messages_local: int = 0
    hops_x: int = 0
    hops_y: int = 0
    messages_host: int = 0
    messages_chips: int = 0
    cores: int = 0
    tiles: int = 0
    chips: int = 0

    def __add__(self, other: Traffic) -> Traffic:
        """Of both runs on the same placement. raises: LavatubeError for two placements."""
        places = ("cores", "tiles", "chips")
        if any(getattr(self, name) != getattr(other, name) for name in places):
            raise LavatubeError("counts on two placements do not add", where="counts")
        names = [each.name for each in fields(Traffic) if each.name not in places]
        sums = {name: getattr(self, name) + getattr(other, name) for name in names}
        return Traffic(**sums, **{name: getattr(self, name) for name in places})


def check_placement(program: LoihiProgram, placement: Placed) -> None:
    """raises: LavatubeError for a population without cores, or a core that is not there."""
    cores = len(placement.tile)
    if placement.tile.shape != (cores, 2) or placement.chip.shape != (cores,):
        got = f"{placement.tile.shape} and {placement.chip.shape}"
        raise LavatubeError("placement", expected="tile [cores, 2] and chip [cores]", got=got)
    targets: list[Target] = [*program.neurons]
    targets += [node for node in program.readouts if node.name in placement.core_of]
    for node in targets:
        core = placement.core_of.get(node.name)
        if core is None or core.shape != (int(np.prod(node.shape)),):
            got = "nothing" if core is None else str(core.shape)
            raise LavatubeError("placement", where=node.name, expected="a core for each neuron", got=got)
        if core.dtype.kind not in "iu" or core.min() < 0 or core.max() >= cores:
            raise LavatubeError("placement", where=node.name, expected=f"cores 0..{cores - 1}", got=str(core.dtype))
