"""Counts of every core at every timestep, and the messages between cores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from lavatube.program import LoihiProgram, NeuronNode, Source, Synapse
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
    for source in program.sources:
        fired = (events_of(source, trace) != 0).reshape(*within.shape, -1)
        reach: dict[int, np.ndarray] = {}
        for here, per_core, lag in _into_cores(program, source.name, placement):
            rows["synops"][..., here] += delayed(_dot(fired, per_core), lag)
            for core, connections in zip(here.tolist(), per_core, strict=True):
                reach[core] = reach.get(core, False) | (connections > 0)
        reach = dict(placement.reach.get(source.name, reach))
        if reach:
            fired = fired & within[..., None]
            _send(source, fired, np.array(list(reach)), np.stack(list(reach.values())), placement, rows, loads, sums)
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


def _into_cores(program: LoihiProgram, source: str, placement: Placed) -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
    """Of every synapse of a source that lies on cores: (cores, [cores, neurons] stored connections into them, lag)."""
    targets = dict(edge for edge in program.edges if isinstance(program.by_name[edge[0]], Synapse))
    for synapse in program.synapses:
        core = placement.core_of.get(targets[synapse.name])
        if program.source_of(synapse).name == source and core is not None:
            here, group = np.unique(core, return_inverse=True)
            yield here, fan_out_to(synapse, group.reshape(-1), len(here)), program.lag(synapse)


def _send(
    source: Source,
    fired: np.ndarray,
    there: np.ndarray,
    destinations: np.ndarray,
    placement: Placed,
    rows: Mapping[str, np.ndarray],
    loads: dict[Link, np.ndarray],
    sums: Counter[str],
) -> None:
    """One message for each event and core that it reaches. fired: [T, B, neurons]; destinations: [there, neurons]."""
    if not isinstance(source, NeuronNode):
        sent = _dot(fired, destinations)
        rows["messages_in"][..., there] += sent
        sums["messages_host"] += int(sent.sum())
        return
    home = placement.core_of[source.name]
    for here in np.unique(home):
        sent = _dot(fired[..., home == here], destinations[:, home == here])
        rows["messages_in"][..., there] += sent
        rows["messages_out"][..., here] += sent.sum(-1)
        for number in np.flatnonzero(sent.any((0, 1))):
            _travel(placement, int(here), int(there[number]), sent[..., number], loads, sums)


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
