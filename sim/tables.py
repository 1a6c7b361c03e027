"""Results as terminal tables, from the JSON of the artifacts, at most 100 columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from lavatube.sim.explain.tables import render_explanation

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
        joules = "" if engine["energy"] is None else _joules(engine["energy"])
        line = f"{engine['engine']}: {counts}{joules}; {engine['seconds']:.1f} s; {engine['independence']}"
        line += f"; {engine['sampled']}" if engine.get("sampled") else ""
        parts.append(Text(line))
        if engine["first"] is not None:
            first = engine["first"]
            step = "" if first["step"] < 0 else f"step {first['step']}, "
            place = f"{first['layer']} ({first['quantity']}), {step}sample {first['sample']}, neuron {first['neuron']}"
            values = f"{report['reference']} {first['a']}, {engine['engine']} {first['b']}"
            parts.append(Text(f"first mismatch: {place}: {values}", style="bold red"))
        if engine.get("explanation") is not None:
            parts.append(render_explanation(engine["explanation"]))
    verdict = "EQUAL: every spike of every neuron at every timestep" if report["equal"] else "DIFFERENT"
    accuracy = "" if report["accuracy"] is None else f"; accuracy {report['accuracy']:.2f} %"
    size = (
        f"{report['samples']} samples x {report['num_steps']} steps, {report['neuron_steps']:,} neuron-steps an engine"
    )
    parts.append(Text(f"{verdict} ({size}{accuracy})", style="bold green" if report["equal"] else "bold red"))
    return Group(*parts)


def _joules(energy: Json) -> str:
    """Level 0 of energy in a few words."""
    if energy["equal"]:
        return f", energy equal to the femtojoule ({len(energy['tables'])} price tables)"
    return ", ENERGY DIFFERS (" + ", ".join(name for name, row in energy["tables"].items() if not row["equal"]) + ")"
