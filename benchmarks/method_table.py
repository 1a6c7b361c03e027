"""What `benchmarks/methods.py` measured: a CSV of points, and the table and the scatter that are made of it."""

from __future__ import annotations

import csv
import statistics
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from method_arms import ARMS

Row = dict[str, str]
COLUMNS: dict[str, tuple[str, ...]] = {  # heading -> what it shows of a point
    "float %": ("float_accuracy",),
    "program %": ("program_accuracy",),
    "spikes": ("spikes",),
    "synops": ("synops",),
    "bits per weight": ("bits_per_weight",),
    "energy, uJ": ("energy_low", "energy_high"),
}
FIELDS = ["data", "method", "seed", *(name for names in COLUMNS.values() for name in names), "equal", "refused"]
COST_FIELDS = ["method", "milliseconds_per_step", "peak_mb"]


def read(path: Path) -> list[Row]:
    """Its rows; none if there is no such file."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def append(path: Path, fields: Iterable[str], point: dict[str, Any]) -> None:
    """One row more; numbers with six digits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    begins = not path.is_file()
    with path.open("a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(fields), lineterminator="\n")
        if begins:
            writer.writeheader()
        writer.writerow({name: f"{value:.6g}" if isinstance(value, float) else value for name, value in point.items()})


def values(rows: Iterable[Row], name: str) -> list[float]:
    return [float(row[name]) for row in rows if row[name]]


def cell(rows: list[Row], names: tuple[str, ...]) -> str:
    """Mean and sample standard deviation over seeds, of an interval the means of its ends."""
    found = [values(rows, name) for name in names]
    if not found[0]:
        return "-"
    if len(found) > 1:
        return " to ".join(_number(statistics.mean(each)) for each in found)
    spread = f" ± {statistics.stdev(found[0]):.2f}" if len(found[0]) > 1 and names[0].endswith("accuracy") else ""
    return _number(statistics.mean(found[0])) + spread


def _number(value: float) -> str:
    return f"{value / 1e6:.2f} M" if value >= 1e6 else f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def table(points: list[Row], costs: list[Row]) -> str:
    """In Markdown, a row for each data set and method; below it why networks were refused."""
    cost = {row["method"]: row for row in costs}
    headings = ("data", "method", "seeds", *COLUMNS, "every spike equal", *(("ms a step", "peak MB") if cost else ()))
    lines = ["| " + " | ".join(headings) + " |", "|---" * len(headings) + "|"]
    for data in sorted({row["data"] for row in points}):
        for method in ARMS:
            if rows := _of(points, data, method):
                verdicts = {row["equal"] for row in rows} - {""}
                equal = "yes" if verdicts == {"True"} else "NO" if verdicts else "-"
                cells = [data, method, str(len(rows)), *(cell(rows, names) for names in COLUMNS.values()), equal]
                if cost:
                    took = cost.get(method, {"milliseconds_per_step": "-", "peak_mb": "-"})
                    cells += [took["milliseconds_per_step"], took["peak_mb"]]
                lines.append("| " + " | ".join(cells) + " |")
    refused = {row["method"]: row["refused"] for row in points if row["refused"]}
    lines += ["", *(f"- {method}: not deployed, {why}" for method, why in refused.items())] if refused else []
    return "\n".join(lines) + "\n"


def _of(points: list[Row], data: str, method: str) -> list[Row]:
    return [row for row in points if (row["data"], row["method"]) == (data, method)]


def plot(points: list[Row], path: Path) -> None:
    """Accuracy of the program against its energy, one panel per data set. raises: ImportError without matplotlib."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    mean: Callable[[Iterable[float]], float] = statistics.mean
    sets = sorted({row["data"] for row in points})
    figure, axes = pyplot.subplots(1, len(sets), figsize=(7 * len(sets), 5), layout="constrained", squeeze=False)
    for axis, data in zip(axes[0], sets, strict=True):
        for method in ARMS:
            rows = [row for row in _of(points, data, method) if row["energy_low"]]
            if rows:
                x = mean([*values(rows, "energy_low"), *values(rows, "energy_high")])
                y = mean(values(rows, "program_accuracy"))
                axis.scatter(x, y)
                axis.annotate(method, (x, y), fontsize=7, xytext=(3, 3), textcoords="offset points")
        axis.set(xlabel="dynamic energy a sample, middle of the interval (uJ)", ylabel="accuracy of the program (%)")
        axis.set(title=data, xscale="log")
        axis.grid(alpha=0.3)
    figure.savefig(path)
