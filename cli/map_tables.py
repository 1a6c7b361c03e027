"""Tables about the cores that hold a program."""

from __future__ import annotations

import numpy as np
from rich.table import Table

from lavatube.deploy.mapping.core_map import Core, CoreMap
from lavatube.deploy.mapping.limits import PER_CORE, ChipLimits

NARROW = {"neurons": "neurons", "synapse_words": "words", "input_axons": "ax. in", "output_axons": "ax. out"}


def populations_table(found: CoreMap) -> Table:
    """A row for each population: its fullest core, and which limit is closest."""
    table = Table(title=f"fullest core of each population, {found.limits.name}", title_justify="left")
    _columns(table, "population", "cores", "a core holds")
    for name in found.populations:
        cores = [core for core in found.cores if core.population == name]
        fullest = max(cores, key=lambda core: core.closest(found.limits)[1])
        table.add_row(name, str(len(cores)), _box(fullest), *_loads(found, fullest))
    return table


def cores_table(found: CoreMap) -> Table:
    """A row for each core."""
    table = Table(title="cores", title_justify="left")
    _columns(table, "population", "core", "holds")
    for core in found.cores:
        table.add_row(core.population, str(core.index), _spans(core), *_loads(found, core))
    return table


def routes_table(found: CoreMap) -> Table:
    """A row for each source: messages that a spike makes, one for each core that it goes to, and how far they go."""
    table = Table(title="messages of one spike", title_justify="left")
    table.add_column("from", overflow="fold")
    for column in ("cores", "mean", "most", "hops x", "hops y", "other chip"):
        table.add_column(column, justify="right")
    for name in found.routes:
        routes, hops = found.destinations(name), found.hops(name)
        on_chip = bool((found.cores_of(name) >= 0).all())
        near = hops[hops[:, 0] >= 0]
        far = f"{1 - len(near) / max(len(hops), 1):.0%}" if on_chip else "host"
        means = [f"{mean:.1f}" for mean in near.mean(0)] if len(near) else ["-", "-"]
        reached = str(len(np.unique(routes.cores)))
        table.add_row(name, reached, f"{routes.fan_out.mean():.1f}", str(routes.fan_out.max()), *means, far)
    return table


def limits_table(limits: ChipLimits) -> Table:
    """The numbered limits; docs/mapping.md has their sources."""
    table = Table(title=f"limits of {limits.chip}", title_justify="left")
    for column in ("no.", "limit", "value", "unit", "grade"):
        table.add_column(column, justify="right" if column in ("no.", "value") else "left")
    for limit in sorted(limits.limits.values(), key=lambda limit: limit.number):
        name = PER_CORE.get(limit.key, limit.key.replace("_", " "))
        table.add_row(str(limit.number), name, f"{limit.value:,}", limit.unit, limit.grade)
    return table


def total_line(found: CoreMap) -> str:
    """Cores, chips and the memory in use."""
    total, limit = found.total, found.limits
    chips = f"{found.chips} chip{'s' * (found.chips != 1)} of {limit['cores']} cores"
    words = f"{total['synapse_words']:,} words of synapse memory ({total['synapse_words'] * 8 / 1024:,.1f} KiB)"
    return f"{len(found.cores)} cores on {chips}; {total['neurons']:,} neurons, {words}"


def _columns(table: Table, first: str, second: str, third: str) -> None:
    table.add_column(first, overflow="fold")
    table.add_column(second, justify="right")
    table.add_column(third, overflow="fold")
    for title in NARROW.values():
        table.add_column(title, justify="right")
    table.add_column("binds", overflow="fold")


def _loads(found: CoreMap, core: Core) -> list[str]:
    bound, full = core.closest(found.limits)
    return [*(f"{core.loads[key]:,}" for key in NARROW), f"{PER_CORE[bound]} {full:.0%}"]


def _box(core: Core) -> str:
    return " x ".join(str(size) for size in core.region.shape)


def _spans(core: Core) -> str:
    return ", ".join(f"{start}..{stop - 1}" for start, stop in core.region.spans)
