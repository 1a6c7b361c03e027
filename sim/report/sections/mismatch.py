"""Why engines differ: the page opens on it when parity failed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lavatube.sim.report.artifacts import Artifacts
from lavatube.sim.report.parts import Missing, Part, Picture, Section, Table, Words
from lavatube.sim.report.pictures import Plot

Json = Mapping[str, Any]


def mismatch(found: Artifacts) -> Section | None:
    """None where nothing differs."""
    report = found.parity
    if report is None or report["equal"]:
        return None
    parts: list[Part] = []
    for engine in report["engines"]:
        if engine["first"] is not None:
            first, name = engine["first"], engine["engine"]
            step = "" if first["step"] < 0 else f", step {first['step']}"
            place = f"{first['layer']} ({first['quantity']}), neuron {first['neuron']}, sample {first['sample']}{step}"
            values = f"{report['reference']} {first['a']}, {name} {first['b']}"
            parts.append(Words(f"{name}: first difference at {place}: {values}.", "bad"))
            parts += _explanation(found, engine.get("explanation"))
        elif not engine["equal"] or engine.get("counts_equal") is False:
            parts.append(Words(f"{engine['engine']}: the traces are equal, but counts or joules differ.", "bad"))
    return Section("mismatch", "Where and why engines differ", parts)


def _explanation(found: Artifacts, said: Json | None) -> list[Part]:
    if said is None:
        return [Missing("the explanation", f"lavatube parity {found.folder} --explain")]
    parts: list[Part] = [Words(said["verdict"], "note")]
    if "layer" not in said:
        return parts
    step = "" if said["step"] < 0 else f", step {said['step']}"
    place = f"{said['layer']} ({said['quantity']}), neuron {list(said['neuron'])}, sample {said['sample']}{step}"
    names, values = [side["engine"] for side in said["sides"]], said["values"]
    parts.append(Words(f"Explained where u and v part first: {place}: {names[0]} {values[0]}, {names[1]} {values[1]}."))
    upstream = [
        (up["layer"], up["synapse"], "agrees" if up["equal"] else "DIFFERS", f"{up['events']:,}")
        for up in said["upstream"]
    ]
    bad = frozenset(number for number, up in enumerate(said["upstream"]) if not up["equal"])
    if upstream:
        head = ("source", "through", "up to the difference", "events")
        parts.append(Table("What the layer saw before", head, upstream, left=3, bad=bad))
    parts += [_causes(said, side) for side in said["sides"] if side["causes"]]
    parts.append(_picture(said))
    if said["active"]:
        rows = [(one["layer"], str(list(one["index"])), one["event"], one["weight"]) for one in said["active"]]
        parts.append(
            Table(
                f"Events that reach the neuron in step {said['step']}",
                ("source", "neuron", "event", "weight"),
                rows,
                left=2,
            )
        )
    facts = [(name, str(value)) for name, value in said["facts"].items() if name != "synapses"]
    for name, settings in said["facts"]["synapses"].items():
        facts += [(f"{name} {what}", str(value)) for what, value in settings.items()]
    parts.append(Table("Settings of the neuron", ("setting", "value"), facts, left=2))
    return parts


def _causes(said: Json, side: Json) -> Table:
    rows = [(c["rule"], f"{side['engine']} {c['says']}", f"{c['neurons']:,}") for c in side["causes"]]
    if side.get("more"):
        rows.append(("", f"and {side['more']:,} more that give this neuron", ""))
    rows.append(("definition", "follows the program's definition", f"{side['neurons_by_definition']:,}"))
    caption = f"Rules that give what {side['engine']} recorded, the likeliest first ({side['tried']} tried)"
    return Table(caption, ("rule", "what it means", f"neurons reproduced, of {said['neurons']:,}"), rows, left=2)


def _picture(said: Json) -> Part:
    """u, v and events of both sides around the difference; a picture of v where it is known."""
    head, rows = ["step"], []
    sides = said["sides"]
    for side in sides:
        head += [f"{side['engine']} {what}" for what in ("activation", "u", "v", "event")]
    for moments in zip(*(side["moments"] for side in sides), strict=True):
        cells = [moment[what] for moment in moments for what in ("activation", "u", "v", "event")]
        rows.append((moments[0]["step"], *("-" if cell is None else f"{cell:,}" for cell in cells)))
    bad = frozenset(number for number, row in enumerate(rows) if row[0] == said["step"])
    states = ", ".join(f"of {side['engine']} {side['state']}" for side in sides)
    table = Table(f"Around the difference; u and v in 1/64 of a weight unit, {states}", head, rows, bad=bad)
    lines = [[(m["step"], m["v"]) for m in side["moments"] if m["v"] is not None] for side in sides]
    values = [v for line in lines for _, v in line]
    if not values:
        return table
    low, high = min([0, *values]), max([1, *values])
    if "vth" in said["facts"]:
        high = max(high, said["facts"]["vth"] * 64)
    steps = [row[0] for row in rows]
    says = f"v of neuron {said['neuron']} of {said['layer']} on both sides; they part at step {said['step']}"
    title = "Membrane voltage around the difference"
    plot = Plot(title, says, (min(steps), max(max(steps), min(steps) + 1)), (low, high * 1.08), "timestep", "v")
    if "vth" in said["facts"]:
        plot.level(said["facts"]["vth"] * 64, "threshold")
    for number, line in enumerate(lines):
        plot.line(line, number, key=f"k{number}", dots=True)
    names = [(f"k{number}", side["engine"]) for number, side in enumerate(sides)]
    return Picture(title, plot.svg(whole_x=True), table, names)
