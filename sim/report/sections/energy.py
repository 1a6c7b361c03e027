"""Counts and energy per layer: intervals, shares, what is unpriced, and which term moves the total most."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lavatube.sim.energy_tables import joules
from lavatube.sim.report.artifacts import Artifacts
from lavatube.sim.report.parts import Folded, Missing, Part, Picture, Section, Table, Words
from lavatube.sim.report.pictures import interval_bars

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
    ends = f"{joules(interval['low'], samples)} to {joules(interval['high'], samples)}"
    parts.append(Words(f"Estimated dynamic energy: {ends} a sample, over the price tables."))
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


def _by_table(tables: list[Json], samples: int) -> Picture:
    rows, bars = [], []
    for table in tables:
        low, nominal, high = (table["dynamic"][bound] for bound in ("low", "nominal", "high"))
        known = [value for value in (low, nominal, high) if value is not None]
        texts = [joules(value, samples) for value in (low, nominal, high)]
        rows.append((table["name"], table["grade"], table["sha256"][:12], *texts))
        told = f"{table['name']}: low {texts[0]}, nominal {texts[1]}, high {texts[2]}"
        scale = NANO / samples
        mark = None if nominal is None else nominal * scale
        bars.append((table["name"], min(known) * scale, max(known) * scale, mark, told))
    title = "Dynamic energy of a sample by price table"
    says = "; ".join(bar[4] for bar in bars)
    head = ("price table", "grade", "SHA-256", "low", "nominal", "high")
    return Picture(title, interval_bars(title, says, bars, "nJ a sample"), Table(title, head, rows, left=3))


def _by_layer(table: Json, samples: int) -> Picture:
    rows, bars = [], []
    whole = max((table["dynamic"]["high"] or table["dynamic"]["low"] or 0), 1)
    for name, value in table["layers"].items():
        known = [each for each in value.values() if each is not None]
        low, high = min(known, default=0), max(known, default=0)
        share = f"{100 * high / whole:.1f} %"
        rows.append((name, joules(low, samples), joules(high, samples), share))
        scale = NANO / samples
        bars.append((name, low * scale, high * scale, None, f"{name}: {rows[-1][1]} to {rows[-1][2]}, {share}"))
    title = f"Dynamic energy of a sample by layer ({table['name']})"
    says = "; ".join(bar[4] for bar in bars)
    head = ("layer", "low", "high", "share of the high end")
    return Picture(title, interval_bars(title, says, bars, "nJ a sample"), Table(title, head, rows))


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
