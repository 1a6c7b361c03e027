"""Results as terminal tables, from the JSON of the artifacts, at most 100 columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

Json = Mapping[str, Any]


def render_parity(report: Json) -> RenderableType:
    """Per engine and layer: how much was compared, spikes on each side, and the first mismatch."""
    table = Table(title=f"level 0 parity with the {report['reference']}, tolerance 0", title_justify="left")
    for column in ("engine", "layer", "compared", "sum there", "sum here", "different"):
        table.add_column(column, justify="left" if column in ("engine", "layer") else "right")
    parts: list[RenderableType] = [table]
    for engine in report["engines"]:
        for index, row in enumerate(engine["rows"]):
            name = engine["engine"] if index == 0 else ""
            what = row["layer"] if row["quantity"] in ("spikes", "readout") else f"{row['layer']} {row['quantity']}"
            numbers = (row["compared"], row["total_a"], row["total_b"], row["mismatches"])
            style = "bold red" if row["mismatches"] else None
            table.add_row(name, what, *(f"{number:,}" for number in numbers), style=style)
        table.add_section()
        counts = {True: "counts equal", False: "COUNTS DIFFER", None: "not counted"}[engine["counts_equal"]]
        line = f"{engine['engine']}: {counts}; {engine['seconds']:.1f} s; {engine['independence']}"
        parts.append(Text(line))
        if engine["first"] is not None:
            first = engine["first"]
            step = "" if first["step"] < 0 else f"step {first['step']}, "
            place = f"{first['layer']} ({first['quantity']}), {step}sample {first['sample']}, neuron {first['neuron']}"
            values = f"{report['reference']} {first['a']}, {engine['engine']} {first['b']}"
            parts.append(Text(f"first mismatch: {place}: {values}", style="bold red"))
    verdict = "EQUAL: every spike of every neuron at every timestep" if report["equal"] else "DIFFERENT"
    accuracy = "" if report["accuracy"] is None else f"; accuracy {report['accuracy']:.2f} %"
    size = (
        f"{report['samples']} samples x {report['num_steps']} steps, {report['neuron_steps']:,} neuron-steps an engine"
    )
    parts.append(Text(f"{verdict} ({size}{accuracy})", style="bold green" if report["equal"] else "bold red"))
    return Group(*parts)


def render_counts(counts: Json) -> RenderableType:
    """Integer counts per layer."""
    title = f"counts over {counts['samples']} samples, {counts['sample_steps']:,} timesteps of samples"
    table = Table(title=title, title_justify="left")
    for column in ("layer", "events in", "synops", "non-zero", "accesses", "updates", "spikes"):
        table.add_column(column, justify="left" if column == "layer" else "right")
    keys = ("events_in", "synops_stored", "synops_nonzero", "neuron_accesses", "updates", "spikes_out")
    for row in counts["layers"]:
        table.add_row(row["layer"], *(f"{row[key]:,}" for key in keys))
    table.add_section()
    table.add_row("total", *(f"{counts['total'][key]:,}" for key in keys))
    return table


def render_energy(estimate: Json) -> RenderableType:
    """Joules per sample and table, as intervals; what is unpriced is named."""
    samples = estimate["samples"]
    table = Table(title="estimated dynamic energy per sample", title_justify="left")
    for column in ("price table", "grade", "low", "nominal", "high"):
        table.add_column(column, justify="left" if column in ("price table", "grade") else "right")
    for row in estimate["tables"]:
        table.add_row(
            row["name"], row["grade"], *(_joules(row["total"][b], samples) for b in ("low", "nominal", "high"))
        )
    interval = estimate["interval"]
    table.add_section()
    table.add_row(
        "interval over the tables", "", _joules(interval["low"], samples), "", _joules(interval["high"], samples)
    )
    parts: list[RenderableType] = [table]
    parts += [Text(f"note: {label}") for label in estimate["labels"]]
    parts.append(Text("unpriced: " + "; ".join(estimate["unpriced"])))
    return Group(*parts)


def _joules(femtojoules: int | None, samples: int) -> str:
    if femtojoules is None:
        return "not published"
    value = femtojoules / samples * 1e-15
    for unit, factor in (("mJ", 1e3), ("uJ", 1e6), ("nJ", 1e9), ("pJ", 1e12)):
        if value * factor >= 1:
            return f"{value * factor:.3f} {unit}"
    return f"{value * 1e15:.0f} fJ"
