"""Time of a timestep: that of the busiest core or link, and the barrier; in integer picoseconds.

It is summed part by part of the samples, so that counts of every core and timestep need not be held together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from lavatube.sim.counts import CoreActivity, Traffic
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


class StepTimes:
    """Times of the samples that were added, under some tables; nothing here grows with their number."""

    def __init__(self, tables: Sequence[PriceTable]) -> None:
        self.traffic: Traffic | None = None
        self.of = {table.sha256: TableTimes(table) for table in tables}

    def add(self, activity: CoreActivity) -> None:
        """Of some more samples. raises: LavatubeError for those of another placement."""
        self.traffic = activity.traffic if self.traffic is None else self.traffic + activity.traffic
        for times in self.of.values():
            times.add(activity)

    def latency(self, table: PriceTable) -> Latency | None:
        """Under one of the tables; None where it has no times."""
        return self.of[table.sha256].latency()


def latency(activity: CoreActivity, table: PriceTable) -> Latency | None:
    """Step times summed; None where the table has no times. Terms that it does not have are in no sum."""
    times = StepTimes([table])
    times.add(activity)
    return times.latency(table)


@dataclass
class BoundTimes:
    """Sums at one bound of the prices. known: whether every price that was needed has it; total, longest: ps;
    by_link: timesteps that a link set; numbers: {term: events of the busiest cores}."""

    known: bool = True
    total: int = 0
    longest: int = 0
    by_link: int = 0
    busiest: Counter[int] = field(default_factory=Counter)
    numbers: Counter[str] = field(default_factory=Counter)


class TableTimes:
    """See `StepTimes`."""

    def __init__(self, table: PriceTable) -> None:
        self.table, self.steps = table, 0
        self.terms = {name: field for name, field in FIELDS.items() if name in table.step_time}
        self.bounds = {bound: BoundTimes() for bound in BOUNDS} if self.terms and table.barrier else {}
        self.barrier = Interval(None, None, None)

    def add(self, activity: CoreActivity) -> None:
        """See `StepTimes.add`."""
        if not self.bounds:
            return
        self.barrier = barrier_time(self.table.barrier, activity.traffic.tiles)
        self.steps += int(activity.within.sum())
        exact = _exact(activity, self.table, self.terms)
        for bound, sums in self.bounds.items():
            if sums.known:
                self._add(exact, bound, sums)

    def _add(self, activity: CoreActivity, bound: str, sums: BoundTimes) -> None:
        cores, link = _core_time(activity, self.table, bound, self.terms), _link_time(activity, self.table, bound)
        wait = getattr(self.barrier, bound)
        if cores is None or link is None or wait is None:
            sums.known = False
            return
        within, longest = activity.within, cores.max(-1)
        steps = (np.maximum(longest, link) + wait)[within]
        sums.total += int(steps.sum())
        sums.longest = max(sums.longest, int(steps.max(initial=0)))
        sums.by_link += int((link > longest)[within].sum())
        core = cores.argmax(-1)
        sums.busiest.update(
            dict(zip(*map(np.ndarray.tolist, np.unique(core[within], return_counts=True)), strict=True))
        )
        for name, of in self.terms.items():
            mine = np.take_along_axis(getattr(activity, of), core[..., None], -1)[..., 0]
            sums.numbers[name] += int(mine[within].sum())

    def latency(self) -> Latency | None:
        """See `StepTimes.latency`."""
        if not self.bounds:
            return None
        which = next((bound for bound in ("high", "nominal", "low") if self.bounds[bound].known), None)
        known = BoundTimes() if which is None else self.bounds[which]
        times = self.table.step_time
        parts = {
            name: known.numbers[name] * (getattr(times[name].interval, which or "low") or 0) for name in self.terms
        }
        whole = max(sum(parts.values()), 1)
        missing = [f"time of {name}" for name in (*FIELDS, "link") if name not in times]
        return Latency(
            Interval(*(sums.total if sums.known else None for sums in self.bounds.values())),
            Interval(*(sums.longest if sums.known else None for sums in self.bounds.values())),
            self.barrier,
            dict(sorted(known.busiest.items(), key=lambda row: (-row[1], row[0]))),
            {} if which is None else {"core": self.steps - known.by_link, "link": known.by_link},
            {} if which is None else {name: part / whole for name, part in parts.items()},
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
    for name, of in terms.items():
        number, price = getattr(activity, of), getattr(table.step_time[name].interval, bound)
        if price is None and number.any():
            return None
        sums += number * (price or 0)
    return sums


def _link_time(activity: CoreActivity, table: PriceTable, bound: str) -> np.ndarray | None:
    if "link" not in table.step_time or not activity.link.any():
        return np.zeros(activity.link.shape, activity.link.dtype)
    price = getattr(table.step_time["link"].interval, bound)
    return None if price is None else activity.link * price
