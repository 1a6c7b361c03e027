"""Counts of every core at every timestep, and the messages between cores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lavatube.program import LoihiProgram, NeuronNode
from lavatube.sim.connectivity import fan_out_to
from lavatube.sim.counts.events import alive, check_fits, delayed, events_of
from lavatube.sim.counts.steps import updates
from lavatube.sim.counts.traffic import Placed, Traffic, check_placement
from lavatube.trace import SpikeTrace

Link = tuple[int, int, int, int, int]  # chip, from tile (x, y) to the next tile (x, y)


@dataclass(frozen=True)
class CoreActivity:
    """What the time of a timestep depends on. [T, B, cores] int64, except:

    link:   [T, B] messages over the busiest link between two tiles (x first, then y).
    within: [T, B] bool, the timesteps that count; elsewhere all is zero.
    """

    synops: np.ndarray
    accesses: np.ndarray
    updates: np.ndarray
    spikes: np.ndarray
    messages_in: np.ndarray
    messages_out: np.ndarray
    link: np.ndarray
    within: np.ndarray
    traffic: Traffic


PER_CORE = ("synops", "accesses", "updates", "spikes", "messages_in", "messages_out")


def count_cores(program: LoihiProgram, trace: SpikeTrace, placement: Placed) -> CoreActivity:
    """Counts per core and timestep. What the host does (a read-out without neurons) is on no core.

    raises: LavatubeError if trace or placement do not fit the program.
    """
    check_fits(program, trace)
    check_placement(program, placement)
    cores, within = len(placement.tile), alive(trace)
    placed = [target for target in program.targets if target.name in placement.core_of]
    rows = {name: np.zeros((*within.shape, cores), np.int64) for name in PER_CORE}
    loads: dict[Link, np.ndarray] = {}
    sums: Counter[str] = Counter()
    for node in program.neurons:
        core = placement.core_of[node.name]
        spikes = events_of(node, trace) != 0
        rows["accesses"] += np.bincount(core, minlength=cores)
        rows["spikes"] += _by_core(spikes.reshape(*within.shape, -1), core, cores)
        done = updates(program, node, trace, core)
        rows["updates"][..., : done.shape[-1]] += done
    for source, reach in _reaches(program, placement):
        fired = (events_of(program.by_name[source], trace) != 0).reshape(*within.shape, -1)  # type: ignore[arg-type]
        home = placement.core_of.get(source)
        for lag, per_core in reach.items():
            rows["synops"] += delayed(_dot(fired, per_core), lag)
        destinations = np.any([per_core > 0 for per_core in reach.values()], axis=0)  # [cores, neurons]
        fired = fired & within[..., None]
        if not isinstance(program.by_name[source], NeuronNode):
            sent = _dot(fired, destinations)
            rows["messages_in"] += sent
            sums["messages_host"] += int(sent.sum())
            continue
        assert home is not None
        for here in np.unique(home):
            mine = home == here
            sent = _dot(fired[..., mine], destinations[:, mine])
            rows["messages_in"] += sent
            rows["messages_out"][..., here] += sent.sum(-1)
            for there in np.flatnonzero(sent.any((0, 1))):
                _travel(placement, int(here), int(there), sent[..., there], loads, sums)
    zeros = np.zeros(within.shape, np.int64)
    link = np.max([zeros, *loads.values()], axis=0)
    used = np.unique(np.concatenate([placement.core_of[target.name] for target in placed]))
    tiles = {(int(placement.chip[core]), *map(int, placement.tile[core])) for core in used}
    traffic = Traffic(
        messages=int((rows["messages_in"] * within[..., None]).sum()),
        cores=len(used), tiles=len(tiles), chips=len({tile[0] for tile in tiles}), **sums,
    )  # fmt: skip
    masked = {name: values * within[..., None] for name, values in rows.items()}
    return CoreActivity(**masked, link=link, within=within, traffic=traffic)


def _reaches(program: LoihiProgram, placement: Placed) -> Iterator[tuple[str, dict[int, np.ndarray]]]:
    """(source, {lag: [cores, neurons] stored connections into each core}) of every source that reaches a core."""
    for source in program.sources:
        found: dict[int, np.ndarray] = {}
        for synapse in program.synapses:
            target = next(b for a, b in program.edges if a == synapse.name)
            core = placement.core_of.get(target)
            if program.source_of(synapse).name != source.name or core is None:
                continue
            lag, part = program.lag(synapse), fan_out_to(synapse, core, len(placement.tile))
            found[lag] = found[lag] + part if lag in found else part
        if found:
            yield source.name, found


def _by_core(active: np.ndarray, core: np.ndarray, cores: int) -> np.ndarray:
    """active: [T, B, neurons] bool; returns [T, B, cores] int64."""
    return _dot(active, core == np.arange(cores)[:, None])


def _dot(active: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Sum over the neurons that fired. active: [T, B, neurons] bool; weights: [cores, neurons]; exact, int64."""
    from scipy.sparse import csr_array

    flat = csr_array(active.reshape(-1, active.shape[-1])).astype(np.int64)
    return np.asarray(flat @ weights.T.astype(np.int64)).reshape(*active.shape[:2], -1)


def _travel(
    placement: Placed, here: int, there: int, sent: np.ndarray, loads: dict[Link, np.ndarray], sums: Counter[str]
) -> None:
    """Add the way of messages between two cores to the links and the sums. sent: [T, B]."""
    total = int(sent.sum())
    if placement.chip[here] != placement.chip[there]:
        sums["messages_chips"] += total
        return
    (x, y), (to_x, to_y) = placement.tile[here].tolist(), placement.tile[there].tolist()
    if (x, y) == (to_x, to_y):
        sums["messages_local"] += total
        return
    sums["hops_x"] += total * abs(to_x - x)
    sums["hops_y"] += total * abs(to_y - y)
    chip = int(placement.chip[here])
    for link in _way(x, y, to_x, to_y):
        key = (chip, *link)
        loads[key] = loads[key] + sent if key in loads else sent


def _way(x: int, y: int, to_x: int, to_y: int) -> Iterator[tuple[int, int, int, int]]:
    """Links of the route, x first, then y."""
    while x != to_x:
        step = 1 if to_x > x else -1
        yield x, y, x + step, y
        x += step
    while y != to_y:
        step = 1 if to_y > y else -1
        yield x, y, x, y + step
        y += step
