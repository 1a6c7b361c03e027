"""Counts and energy per layer: intervals, shares, what is unpriced, and which term moves the total most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lavatube.sim.energy_tables import joules
from lavatube.sim.report.artifacts import Artifacts
from lavatube.sim.report.parts import Folded, Missing, Part, Picture, Section, Table, Words
from lavatube.sim.report.pictures import Bar, interval_bars

Json = Mapping[str, Any]
COUNTED = {
    "events_in": "events in", "synops_stored": "synops", "synops_nonzero": "non-zero",
    "neuron_accesses": "accesses", "updates": "updates", "spikes_out": "spikes",
}  # fmt: skip
NANO = 1e-6  # fJ to nJ


def energy(found: Artifacts) -> Section:
    command = f"lavatube energy {found.folder}/program.safetensors --input {found.folder}/input.npz"
    parts: list[Part] = []
    if found.counts is None:
        parts.append(Missing("counts.json", f"{command} --out {found.folder}/counts.json"))
    else:
        parts.append(_counts(found.counts))
    if found.energy is None:
        parts.append(Missing("energy.json", f"{command}, or lavatube demo"))
        return Section("energy", "Counts and energy", parts)
    estimate, samples = found.energy, found.energy["samples"]
    interval = estimate["interval"]
    parts.append(Words(f"Estimated dynamic energy a sample, over the price tables: {_ends(interval, samples)}."))
    parts += [Words(label, "note") for label in estimate["labels"]]
    priced = [table for table in estimate["tables"] if table.get("dynamic")]
    if priced:
        parts += [_by_table(priced, samples), _by_layer(priced[0], samples), _sensitivity(priced[0])]
        parts += [Folded(f"Terms of {table['name']}", [_terms(table, samples)]) for table in priced]
    without = {
        item: [table["name"] for table in estimate["tables"] if item in table["unpriced"]]
        for item in estimate["unpriced"]
    }
    rows = [(item, ", ".join(names) or "every table") for item, names in without.items()]
    parts.append(Table("Unpriced: not zero, but no price is known", ("what", "in"), rows))
    return Section("energy", "Counts and energy", parts)


def _counts(counts: Json) -> Table:
    rows = [(row["layer"], *(f"{row[key]:,}" for key in COUNTED)) for row in counts["layers"]]
    rows.append(("total", *(f"{counts['total'][key]:,}" for key in COUNTED)))
    caption = f"Counts over {counts['samples']:,} samples, {counts['sample_steps']:,} timesteps of samples"
    return Table(caption, ("layer", *COUNTED.values()), rows)


def _ends(interval: Json, samples: int) -> str:
    low, high = (None if interval[end] is None else joules(interval[end], samples) for end in ("low", "high"))
    if low is None:
        return "no table knows an end" if high is None else f"at most {high}"
    return f"at least {low}" if high is None else f"{low} to {high}"


def _by_table(tables: list[Json], samples: int) -> Picture | Table:
    rows, bars = [], []
    for table in tables:
        low, nominal, high = (table["dynamic"][bound] for bound in ("low", "nominal", "high"))
        known = [value for value in (low, nominal, high) if value is not None]
        texts = [joules(value, samples) for value in (low, nominal, high)]
        rows.append((table["name"], table["grade"], table["sha256"][:12], *texts))
        if not known:
            continue
        told = f"{table['name']}: low {texts[0]}, nominal {texts[1]}, high {texts[2]}"
        scale = NANO / samples
        mark = None if nominal is None else nominal * scale
        bars.append((table["name"], min(known) * scale, max(known) * scale, mark, told))
    title = "Dynamic energy of a sample by price table"
    head = ("price table", "grade", "SHA-256", "low", "nominal", "high")
    return _drawn(title, bars, Table(title, head, rows, left=3))


def _drawn(title: str, bars: Sequence[Bar], table: Table) -> Picture | Table:
    """The table alone where nothing of it is known."""
    says = "; ".join(bar[4] for bar in bars)
    return Picture(title, interval_bars(title, says, bars, "nJ a sample"), table) if bars else table


def _by_layer(table: Json, samples: int) -> Picture | Table:
    rows, bars = [], []
    end = "low" if table["dynamic"]["high"] is None else "high"
    whole, scale = table["dynamic"][end], NANO / samples
    for name, value in table["layers"].items():
        share = "" if not whole or value[end] is None else f"{100 * value[end] / whole:.1f} %"
        rows.append((name, joules(value["low"], samples), joules(value["high"], samples), share))
        known = [each * scale for each in value.values() if each is not None]
        if known:
            told = f"{name}: {rows[-1][1]} to {rows[-1][2]}" + (f", {share}" if share else "")
            bars.append((name, min(known), max(known), None, told))
    title = f"Dynamic energy of a sample by layer ({table['name']})"
    head = ("layer", "low", "high", f"share of the {end} end")
    return _drawn(title, bars, Table(title, head, rows))


def _sensitivity(table: Json) -> Words:
    """The term whose price interval moves the total most."""
    widths = {}
    for name, term in table["terms"].items():
        known = [term["energy"][bound] for bound in ("low", "high") if term["energy"][bound] is not None]
        widths[name] = max(known, default=0) - min(known, default=0)
    name = max(widths, key=lambda key: widths[key], default=None)
    total = sum(widths.values())
    if name is None or not total:
        return Words("Sensitivity: the table has no intervals.", "note")
    return Words(
        f"Sensitivity: the price of {name} moves the total most, {100 * widths[name] / total:.0f} % of the width."
    )


def _terms(table: Json, samples: int) -> Table:
    rows = []
    for name, term in table["terms"].items():
        share = "" if term["share"] is None else f"{100 * term['share']:.1f} %"
        texts = (joules(term["energy"][bound], samples) for bound in ("low", "nominal", "high"))
        rows.append((name, term["grade"], f"{term['events'] / samples:,.1f}", *texts, share))
    head = ("term", "grade", "events a sample", "low", "nominal", "high", "share")
    return Table(f"Terms of {table['name']}, per sample", head, rows, left=2)
