"""One price table on the counts: dynamic energy, time, static energy, totals, and what is left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from lavatube.sim.counts import Counts, proxy_operations
from lavatube.sim.energy.bootstrap import mean_energy
from lavatube.sim.energy.dynamic import Dynamic, price
from lavatube.sim.energy.step_time import Latency, StepTimes
from lavatube.sim.interval import BOUNDS, Interval
from lavatube.sim.price_table import PriceTable

RATE_FREE = ("neuron_access",)  # costs that do not go with the activity


@dataclass(frozen=True)
class PricedCounts:
    """Femtojoules and picoseconds of the whole run.

    static_chips: power of the chips in use x time; static_cores: the share of the cores in use. None: not known.
    baseline:     one dense pass a sample of the same network, as multiply-accumulates.
    break_even:   mean share of connections that carry an event at which dynamic energy equals the baseline's.
    mean_energy:  {bound: mean of one sample with its interval over samples}.
    """

    prices: PriceTable
    dynamic: Dynamic
    latency: Latency | None
    static_chips: Interval | None
    static_cores: Interval | None
    baseline: Interval | None
    break_even: Mapping[str, Fraction]
    rate: Fraction
    proxy_per_second: Mapping[str, float]
    mean_energy: Mapping[str, Mapping[str, float]]
    unpriced: tuple[str, ...]

    @property
    def total(self) -> Interval | None:
        """Dynamic energy and static power of whole chips; None without the second."""
        return None if self.static_chips is None else self.dynamic.total + self.static_chips

    def to_json(self, samples: int) -> dict[str, Any]:
        def plain(value: Interval | None) -> dict[str, int | None] | None:
            return None if value is None else value.to_json()

        table, time = self.prices, self.latency
        return {
            "name": table.name,
            "chip": table.chip,
            "basis": table.basis,
            "sha256": table.sha256,
            "source": table.source,
            "domain": table.domain,
            "grade": table.worst_grade,
            "unpriced": list(self.unpriced),
            "dynamic": self.dynamic.total.to_json() if table.terms else None,
            "terms": {name: self._term(name) for name in self.dynamic.terms},
            "layers": {name: value.to_json() for name, value in self.dynamic.layers.items()} if table.terms else {},
            "mean_dynamic_per_sample": {bound: dict(band) for bound, band in self.mean_energy.items()},
            "latency": None
            if time is None
            else {
                "unit": "ps",
                "total": time.total.to_json(),
                "longest_timestep": time.longest.to_json(),
                "barrier": time.barrier.to_json(),
                "busiest_cores": {str(core): steps for core, steps in list(time.busiest.items())[:8]},
                "limit": dict(time.limit),
                "shares": dict(time.shares),
            },
            "static_chips": plain(self.static_chips),
            "static_cores": plain(self.static_cores),
            "total_with_static": plain(self.total),
            "energy_delay_product_js": self._delay_product(samples),
            "baseline_dense_pass": plain(self.baseline),
            "break_even_rate": {bound: float(rate) for bound, rate in self.break_even.items()},
            "rate": float(self.rate),
            "ndns_proxy_operations_per_second": dict(self.proxy_per_second),
        }

    def _term(self, name: str) -> dict[str, Any]:
        term, price = self.dynamic.terms[name], self.prices.terms[name]
        return {
            "events": term.events,
            "price": price.interval.to_json(),
            "energy": term.energy.to_json(),
            "share": _share(term.energy, self.dynamic.total),
            "grade": price.grade,
            "source": price.source,
        }

    def _delay_product(self, samples: int) -> dict[str, float | None] | None:
        """Mean energy x mean time of a sample, J s: bound by bound."""
        if self.total is None or self.latency is None:
            return None
        product = self.total.product(self.latency.total)
        return {
            bound: None if value is None else float(Fraction(value, samples**2)) * 1e-27
            for bound, value in product.to_json().items()
        }


def apply(counts: Counts, table: PriceTable, times: StepTimes | None, *, seed: int) -> PricedCounts:
    """Price the counts, and the time where there are times of its steps."""
    dynamic = price(counts, table)
    time = times.latency(table) if times is not None else None
    traffic = times.traffic if times is not None else None
    chips = cores = None
    if time is not None and traffic is not None and table.static is not None:
        chips = time.total.product(table.static.interval).times(traffic.chips)  # mW x ps = fJ
        if table.cores_per_chip is not None:
            one = time.total.product(table.static.interval)
            cores = one.share(traffic.cores, table.cores_per_chip)
    baseline = table.baseline.interval.times(_dense_pass(counts)) if table.baseline is not None else None
    rate = Fraction(counts.total.synops_stored, max(counts.total.synops_dense, 1))
    seconds = {} if time is None else time.total.to_json()
    return PricedCounts(
        table,
        dynamic,
        time,
        chips,
        cores,
        baseline,
        _break_even(dynamic, baseline, rate) if table.terms else {},
        rate,
        {bound: proxy_operations(counts) / (ps * 1e-12) for bound, ps in seconds.items() if ps},
        mean_energy(counts, table, seed=seed) if table.terms else {},
        _unpriced(table, dynamic, time, chips),
    )


def _dense_pass(counts: Counts) -> int:
    """Connections x samples: synops_dense has them once a timestep."""
    return counts.total.synops_dense * counts.samples // max(counts.sample_steps, 1)


def _break_even(dynamic: Dynamic, baseline: Interval | None, rate: Fraction) -> dict[str, Fraction]:
    """Bound by bound, so that both sides are priced alike; only where a rate is known to go up from."""
    found = {}
    for bound in BOUNDS:
        whole = getattr(dynamic.total, bound)
        other = None if baseline is None else getattr(baseline, bound)
        fixed = [getattr(dynamic.terms[name].energy, bound) for name in RATE_FREE if name in dynamic.terms]
        if whole is None or other is None or None in fixed or whole == sum(fixed) or not rate:
            continue
        found[bound] = max(Fraction(other - sum(fixed), whole - sum(fixed)) * rate, Fraction(0))
    return found


def _share(part: Interval, whole: Interval) -> float | None:
    """Of the total, at the nominal where it is known, else at another bound."""
    for bound in ("nominal", "low", "high"):
        a, b = getattr(part, bound), getattr(whole, bound)
        if a is not None and b:
            return float(a / b)
    return None


def _unpriced(table: PriceTable, dynamic: Dynamic, time: Latency | None, static: Interval | None) -> tuple[str, ...]:
    found = [*table.unpriced, *dynamic.unpriced]
    if table.basis == "events":
        if time is None:
            found.append("time (needs a run on placed cores)" if table.step_time else "time (none in this table)")
        else:
            found += time.unpriced
        if static is None:
            found.append("static power (needs time)" if table.static else "static power (none in this table)")
    return tuple(dict.fromkeys(found))
