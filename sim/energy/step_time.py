"""Time of a timestep: that of the busiest core or link, and the barrier; in integer picoseconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from lavatube.sim.counts import CoreActivity
from lavatube.sim.interval import BOUNDS, Interval
from lavatube.sim.price_table import PriceTable

FIELDS = {
    "synop": "synops",
    "neuron_access": "accesses",
    "neuron_update": "updates",
    "spike": "spikes",
    "message_out": "messages_out",
    "message_in": "messages_in",
}


@dataclass(frozen=True)
class Latency:
    """Of all samples, one after the other.

    total:    ps.  longest: ps, of the longest timestep.  barrier: ps each.
    busiest:  {core: timesteps in which it was the busiest}, most first (at the highest known prices).
    limit:    {"core": timesteps, "link": timesteps}: which of the two set the time.
    shares:   {term: its part of the busiest cores' time}, at the same prices.
    unpriced: terms without a time in this table.
    """

    total: Interval
    longest: Interval
    barrier: Interval
    busiest: Mapping[int, int]
    limit: Mapping[str, int]
    shares: Mapping[str, float]
    unpriced: tuple[str, ...]


def latency(activity: CoreActivity, table: PriceTable) -> Latency | None:
    """Step times summed; None where the table has no times. Terms that it does not have are in no sum."""
    terms = {name: field for name, field in FIELDS.items() if name in table.step_time}
    if not terms or not table.barrier:
        return None
    barrier = barrier_time(table.barrier, activity.traffic.tiles)
    exact = _exact(activity, table, terms)
    times = {bound: _step_time(exact, table, bound, terms, barrier) for bound in BOUNDS}
    steps = {bound: None if value is None else value * activity.within for bound, value in times.items()}
    which = next((bound for bound in ("high", "nominal", "low") if times[bound] is not None), None)
    busiest, limit, shares = ({}, {}, {}) if which is None else _who(exact, table, which, terms)
    missing = [f"time of {name}" for name in (*FIELDS, "link") if name not in table.step_time]
    return Latency(
        Interval(*(None if value is None else int(value.sum()) for value in steps.values())),
        Interval(*(None if value is None else int(value.max(initial=0)) for value in steps.values())),
        barrier,
        busiest,
        limit,
        shares,
        tuple(missing),
    )


def barrier_time(points: Mapping[int, tuple[int, int]], tiles: int) -> Interval:
    """Between two published numbers of tiles the time lies between theirs, and no nominal is known."""
    low = max((n for n in points if n <= tiles), default=None)
    high = min((n for n in points if n >= tiles), default=None)
    ends = None if low is None else points[low][0], None if high is None else points[high][1]
    return Interval(ends[0], ends[0] if ends[0] == ends[1] else None, ends[1])


def _exact(activity: CoreActivity, table: PriceTable, terms: Mapping[str, str]) -> CoreActivity:
    """The activity as int64 where no sum can leave that, else as Python's integers: prices go up to 10^18."""
    used = {**terms, "link": "link"} if "link" in table.step_time else dict(terms)
    step = sum(
        int(getattr(activity, field).max(initial=0)) * max(table.step_time[name].interval.known)
        for name, field in used.items()
    )
    wait = max(high for _, high in table.barrier.values())
    if (step + wait) * activity.within.size < 1 << 63:
        return activity
    fields = {field: getattr(activity, field).astype(object) for field in (*FIELDS.values(), "link")}
    return replace(activity, **fields)


def _core_time(activity: CoreActivity, table: PriceTable, bound: str, terms: Mapping[str, str]) -> np.ndarray | None:
    """[T, B, cores] ps; None if a price that is needed has no such bound."""
    sums = np.zeros(activity.synops.shape, activity.synops.dtype)
    for name, field in terms.items():
        number, price = getattr(activity, field), getattr(table.step_time[name].interval, bound)
        if price is None and number.any():
            return None
        sums += number * (price or 0)
    return sums


def _link_time(activity: CoreActivity, table: PriceTable, bound: str) -> np.ndarray | None:
    if "link" not in table.step_time or not activity.link.any():
        return np.zeros(activity.link.shape, activity.link.dtype)
    price = getattr(table.step_time["link"].interval, bound)
    return None if price is None else activity.link * price


def _step_time(
    activity: CoreActivity, table: PriceTable, bound: str, terms: Mapping[str, str], barrier: Interval
) -> np.ndarray | None:
    cores, link = _core_time(activity, table, bound, terms), _link_time(activity, table, bound)
    wait = getattr(barrier, bound)
    if cores is None or link is None or wait is None:
        return None
    return np.asarray(np.maximum(cores.max(-1), link) + wait)


def _who(
    activity: CoreActivity, table: PriceTable, bound: str, terms: Mapping[str, str]
) -> tuple[dict[int, int], dict[str, int], dict[str, float]]:
    cores, link = _core_time(activity, table, bound, terms), _link_time(activity, table, bound)
    assert cores is not None
    assert link is not None
    within = activity.within
    core = cores.argmax(-1)
    number, steps = np.unique(core[within], return_counts=True)
    busiest = dict(sorted(zip(number.tolist(), steps.tolist(), strict=True), key=lambda row: -row[1]))
    by_link = int((link > cores.max(-1))[within].sum())
    parts = {}
    for name, field in terms.items():
        mine = np.take_along_axis(getattr(activity, field), core[..., None], -1)[..., 0]
        parts[name] = int(mine[within].sum()) * (getattr(table.step_time[name].interval, bound) or 0)
    whole = max(sum(parts.values()), 1)
    limit = {"core": int(within.sum()) - by_link, "link": by_link}
    return busiest, limit, {name: part / whole for name, part in parts.items()}
