"""Counts and energy as terminal tables, from the JSON of the artifacts, at most 100 columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

Json = Mapping[str, Any]
BOUNDS = ("low", "nominal", "high")


def render_counts(counts: Json) -> RenderableType:
    """Integer counts per layer, then what crosses between cores and to the host."""
    title = f"counts over {counts['samples']} samples, {counts['sample_steps']:,} timesteps of samples"
    keys = ("events_in", "synops_stored", "synops_nonzero", "neuron_accesses", "updates", "spikes_out")
    table = _table(title, 1, "layer", "events in", "synops", "non-zero", "accesses", "updates", "spikes")
    for row in counts["layers"]:
        table.add_row(row["layer"], *(f"{row[key]:,}" for key in keys))
    table.add_section()
    total = counts["total"]
    table.add_row("total", *(f"{total[key]:,}" for key in keys))
    rest = [
        f"barriers {counts['barriers']:,}",
        f"neuron resets {total['resets']:,}",
        f"graded synops {total['graded_stored']:,}, {total['synop_bits']:,} bits of payload in all synops",
        f"host bytes in {counts['host_bytes_in']:,}, out {counts['host_bytes_out']:,}",
        f"weights {-(-sum(counts['weight_bits'].values()) // 8):,} bytes",
    ]
    traffic = counts["traffic"]
    if traffic is None:
        rest.append("messages and hops: not counted without a placement on cores")
    else:
        rest += [
            f"messages {traffic['messages']:,}, of these {traffic['messages_host']:,} from the host, "
            f"{traffic['messages_local']:,} within a tile, {traffic['messages_chips']:,} between chips",
            f"hops {traffic['hops_x']:,} east-west, {traffic['hops_y']:,} north-south",
            f"{traffic['cores']} cores, {traffic['tiles']} tiles, {traffic['chips']} chips",
        ]
    return Group(table, Text("; ".join(rest)))


def render_energy(estimate: Json) -> RenderableType:
    """Joules per sample as intervals, with provenance; time and totals apart; what is unpriced is named."""
    parts: list[RenderableType] = []
    samples, spiking = estimate["samples"], [row for row in estimate["tables"] if row["dynamic"]]
    if spiking:
        table = _table("estimated dynamic energy per sample", 3, "price table", "grade", "SHA-256", *BOUNDS)
        for row in spiking:
            bounds = (joules(row["dynamic"][bound], samples) for bound in BOUNDS)
            table.add_row(row["name"], row["grade"], row["sha256"][:8], *bounds)
        table.add_section()
        ends = estimate["interval"]
        of = ends["of"].rsplit(" ", 1)[1]
        table.add_row(f"interval ({of})", "", "", joules(ends["low"], samples), "", joules(ends["high"], samples))
        parts += [table, _sampling(spiking[0], samples), _terms(spiking[0], samples)]
    timed = [row for row in spiking if row["latency"]]
    if timed:
        parts.append(_time(timed, samples))
        parts.append(Text(_busiest(timed[0])))
    parts += _baselines(estimate["tables"], samples)
    parts.append(Text(_definitions(estimate)))
    parts += [Text(f"note: {label}") for label in estimate["labels"]]
    parts += [Text(f"unpriced{line}") for line in _unpriced(estimate)]
    return Group(*parts)


def _unpriced(estimate: Json) -> list[str]:
    """What each table leaves out, tables that leave out the same together, then what none can price."""
    tables: dict[tuple[str, ...], list[str]] = {}
    for row in estimate["tables"]:
        tables.setdefault(tuple(row["unpriced"]), []).append(row["name"])
    said = {item for items in tables for item in items}
    rows = [(f" in {', '.join(names)}", items) for items, names in tables.items() if items]
    rows.append((" in every table", tuple(item for item in estimate["unpriced"] if item not in said)))
    return [f"{where}: " + "; ".join(_grouped(items)) for where, items in rows if items]


def _grouped(items: Sequence[str]) -> list[str]:
    """Items of one reason together: `a, b (reason)`."""
    found: dict[str, list[str]] = {}
    for item in items:
        head, bracket, reason = item.partition(" (")
        found.setdefault(bracket + reason or item, []).append(head)
    return [", ".join(heads) + (reason if reason.startswith(" (") else "") for reason, heads in found.items()]


def _terms(row: Json, samples: int) -> RenderableType:
    table = _table(f"terms of {row['name']}, per sample", 1, "term", "events", *BOUNDS, "share")
    for name, term in row["terms"].items():
        share = "" if term["share"] is None else f"{100 * term['share']:.1f} %"
        bounds = (joules(term["energy"][bound], samples) for bound in BOUNDS)
        table.add_row(name, f"{term['events'] / samples:,.1f}", *bounds, share)
    return table


def _sampling(row: Json, samples: int) -> RenderableType:
    """The spread over samples, which is not the spread of prices."""
    bands = row["mean_dynamic_per_sample"]
    if samples < 2:
        return Text("the spread over samples needs at least two of them")
    if not bands and all(value is None for value in row["dynamic"].values()):
        return Text(f"the spread over samples is unknown: {row['name']} has no bound of their sum")
    if not bands:
        return Text(f"the spread over samples is unknown: the counts do not say by sample what {row['name']} prices")
    texts = [
        f"{bound} {_number(band['mean'] * 1e-15, 'J')} ({_number(band['low'] * 1e-15, 'J')} to "
        f"{_number(band['high'] * 1e-15, 'J')})"
        for bound, band in bands.items()
    ]
    return Text(
        f"mean of the layers over samples and its 95 % interval, {row['name']}: {', '.join(texts)}: this is the spread "
        "of the samples, beside that of the prices"
    )


def _time(rows: Sequence[Json], samples: int) -> RenderableType:
    table = _table("with time: per sample, static power of the chips in use included", 2, "table", "of", *BOUNDS)
    for row in rows:
        time, name = row["latency"], row["name"]
        table.add_row(name, "time", *(_picoseconds(time["total"][bound], samples) for bound in BOUNDS))
        for what, key in (
            ("static, chips", "static_chips"),
            ("static, cores' share", "static_cores"),
            ("dynamic + static chips", "total_with_static"),
        ):
            if row[key] is not None:
                table.add_row("", what, *(joules(row[key][bound], samples) for bound in BOUNDS))
        product = row["energy_delay_product_js"]
        if product is not None:
            table.add_row("", "energy x delay", *(_number(product[bound], "Js") for bound in BOUNDS))
        table.add_section()
    return table


def _busiest(row: Json) -> str:
    time = row["latency"]
    cores = ", ".join(f"{core} in {steps:,} timesteps" for core, steps in list(time["busiest_cores"].items())[:3])
    shares = ", ".join(f"{name} {100 * share:.0f} %" for name, share in time["shares"].items() if share >= 0.005)
    link = f"; a link set the time of {time['limit']['link']:,} timesteps" if time["limit"]["link"] else ""
    return f"{row['name']}: busiest core {cores}; its time is {shares}{link}"


def _baselines(rows: Sequence[Json], samples: int) -> list[RenderableType]:
    known = [row for row in rows if row["baseline_dense_pass"]]
    if not known:
        return []
    table = _table(
        "baseline: one dense pass of the same network per sample", 2, "table", "grade", *BOUNDS, "break-even"
    )
    for row in known:
        even = row["break_even_rate"].get("nominal")
        bounds = (joules(row["baseline_dense_pass"][bound], samples) for bound in BOUNDS)
        table.add_row(row["name"], row["grade"], *bounds, "" if even is None else f"{100 * even:.2f} %")
    rate = f"share of connections that carried an event in a timestep: {100 * known[0]['rate']:.2f} %"
    return [table, Text(rate + "; operations compare with operations only, measured devices with measured chips only")]


def _definitions(estimate: Json) -> str:
    bench, proxy = estimate["definitions"]["neurobench"], estimate["definitions"]["ndns_proxy"]
    return (
        f"by NeuroBench's definitions, per sample: {bench['effective_acs']:,.1f} effective ACs, "
        f"{bench['effective_macs']:,.1f} effective MACs, {bench['dense']:,.1f} dense, activation sparsity "
        f"{bench['activation_sparsity']:.4f}; N-DNS proxy: "
        f"{proxy['operations_per_timestep']:,.1f} operations a timestep"
    )


def _table(title: str, left: int, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number < left else "right")
    return table


def joules(femtojoules: int | None, samples: int) -> str:
    """Per sample, with a unit that suits."""
    return "not published" if femtojoules is None else _number(femtojoules / samples * 1e-15, "J")


def _picoseconds(value: int | None, samples: int) -> str:
    return "not published" if value is None else _number(value / samples * 1e-12, "s")


def _number(value: float | None, unit: str) -> str:
    if value is None:
        return "not published"
    prefixes = (("", 1e0), ("m", 1e-3), ("u", 1e-6), ("n", 1e-9), ("p", 1e-12), ("f", 1e-15))
    for prefix, factor in prefixes:
        if abs(value) >= factor:
            return f"{value / factor:.3f} {prefix}{unit}"
    return f"{value:.3g} {unit}" if value else f"0 {unit}"


def render_steps(steps: Json) -> RenderableType:
    """Counts of every timestep, summed over layers and samples."""
    keys = ("events_in", "synops_stored", "synops_nonzero", "neuron_accesses", "updates", "spikes_out")
    table = _table("counts of every timestep, all layers", 0, "step", *(key.replace("_", " ") for key in keys))
    sums = {key: [sum(values) for values in zip(*(rows[key] for rows in steps.values()), strict=True)] for key in keys}
    for step, row in enumerate(zip(*sums.values(), strict=True)):
        table.add_row(str(step), *(f"{value:,}" for value in row))
    return table


def render_measured(row: Json) -> RenderableType:
    """What a meter said; no estimate stands beside it in one table."""
    return Text(
        f"MEASURED on {row['device']} ({row['meter']}), batch {row['batch']}, {row['num_steps']} timesteps: "
        f"{_number(row['joules_per_sample'], 'J')} a sample above idle, {_number(row['total_joules_per_sample'], 'J')} "
        f"with idle; {row['running_watts']:.1f} W running, {row['idle_watts']:.1f} W idle, {row['runs']} runs in "
        f"{row['seconds']:.1f} s, {_number(row['seconds_per_sample'], 's')} a sample"
    )
