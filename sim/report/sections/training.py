"""Training curves, with time and memory where they were measured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from lavatube.sim.report.artifacts import Artifacts
from lavatube.sim.report.parts import Folded, Missing, Part, Picture, Section, Table
from lavatube.sim.report.pictures import Plot

UNITS = {"validation_accuracy": "%", "seconds": "s since the start", "loss": "mean loss"}
FACTS = ("device", "seconds", "peak_memory_mb", "peak_memory_bytes", "torch", "test_accuracy", "validation_accuracy")


def training(found: Artifacts) -> Section:
    parts: list[Part] = []
    metrics = (found.config or {}).get("metrics") or {}
    facts = [(name.replace("_", " "), _told(metrics[name])) for name in FACTS if name in metrics]
    if facts:
        parts.append(Table("The training run", ("what", "value"), facts, left=2))
    if not found.history:
        parts.append(Missing("history.csv", f"lavatube train RECIPE --out {found.folder}"))
        return Section("training", "Training", parts)
    columns = [name for name in found.history[0] if name != "epoch"]
    for name in columns:
        points = list(_points(found.history, name))
        if len(points) > 1:
            parts.append(_curve(name, points))
    rows = [tuple(row.get(name, "") for name in ("epoch", *columns)) for row in found.history]
    parts.append(Folded("All epochs", [Table("All epochs", ("epoch", *columns), rows, left=0)]))
    return Section("training", "Training", parts)


def _told(value: object) -> object:
    return f"{value:.6g}" if isinstance(value, float) else value


def _points(history: Sequence[Mapping[str, str]], name: str) -> list[tuple[float, float]]:
    """(epoch, value), where the value is a number."""
    found = []
    for row in history:
        try:
            point = float(row.get("epoch", "")), float(row.get(name, ""))
        except ValueError:
            continue
        if all(map(math.isfinite, point)):
            found.append(point)
    return found


def _curve(name: str, points: list[tuple[float, float]]) -> Picture:
    values = [y for _, y in points]
    low, high = min(values), max(values)
    low = 0.0 if 0 <= low < high / 2 else low
    title = name.replace("_", " ")
    says = f"from {values[0]:g} to {values[-1]:g} in {points[-1][0]:g} epochs"
    plot = Plot(title, says, (points[0][0], points[-1][0]), (low, high or 1), "epoch", UNITS.get(name, title), 180)
    plot.line(points, 0, dots=len(points) <= 40)
    return Picture(f"{title}: {says}", plot.svg(whole_x=True))
