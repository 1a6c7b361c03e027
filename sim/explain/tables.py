"""An explanation in the terminal, from its JSON, at most 100 columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

Json = Mapping[str, Any]


def render_explanation(found: Json) -> RenderableType:
    """Where, what stood there on both sides, what agreed before, and which rules give the other side."""
    if "layer" not in found:
        return Text(found["verdict"])
    where = f"{found['layer']}, neuron {list(found['neuron'])}, sample {found['sample']}"
    where += f", step {found['step']}" if found["step"] >= 0 else ""
    parts: list[RenderableType] = [Text(f"why: {where}", style="bold"), Text(found["verdict"], style="bold red")]
    parts += [_upstream(one) for one in found["upstream"]]
    if found["active"]:
        events = [f"{one['layer']}{list(one['index'])}: {one['event']} x {one['weight']}" for one in found["active"]]
        shown = ", ".join(events)
        parts.append(Text(f"events that reach it in step {found['step']}, event x weight: {shown}"))
    facts = ", ".join(f"{name} {value}" for name, value in found["facts"].items() if name != "synapses")
    parts.append(Text(f"settings: {facts}"))
    parts.append(_moments(found))
    parts += [_causes(found, side) for side in found["sides"] if side["causes"]]
    return Group(*parts)


def _upstream(one: Json) -> Text:
    word = "agrees" if one["equal"] else "DIFFERS"
    return Text(f"{one['layer']} {word} up to there ({one['events']:,} events, through {one['synapse']})")


def _moments(found: Json) -> Table:
    """One row a timestep: activation, u, v and event of each side."""
    table = Table(title="around it, u and v in 1/64 of a weight unit", title_justify="left")
    table.add_column("step", justify="right")
    for side in found["sides"]:
        for what in ("activation", "u", "v", "event"):
            table.add_column(f"{side['engine']} {what}", justify="right")
    for rows in zip(*(side["moments"] for side in found["sides"]), strict=True):
        cells = [row[what] for row in rows for what in ("activation", "u", "v", "event")]
        style = "bold red" if rows[0]["step"] == found["step"] else None
        table.add_row(str(rows[0]["step"]), *("-" if cell is None else f"{cell:,}" for cell in cells), style=style)
    return table


def _causes(found: Json, side: Json) -> Table:
    title = (
        f"rules that give what {side['engine']} recorded: {side['tried']} tried on the neuron in {found['checked']:,} "
        f"samples, on its layer in samples {list(found['samples'])}"
    )
    table = Table(title=title, title_justify="left")
    table.add_column("rule")
    table.add_column(f"{side['engine']} ...")
    table.add_column(f"neurons of {found['neurons']:,}", justify="right")
    for cause in side["causes"]:
        table.add_row(cause["rule"], cause["says"], f"{cause['neurons']:,}")
    if side["more"]:
        table.add_row("", f"and {side['more']:,} more that give this neuron", "")
    table.add_row("definition", "follows the program's definition", f"{side['neurons_by_definition']:,}")
    return table
