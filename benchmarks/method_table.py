"""What `benchmarks/methods.py` measured: a CSV of points, and the table and the scatter that are made of it."""

from __future__ import annotations

import csv
import statistics
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from method_arms import ARMS

from lavatube.files import whole_file

Row = dict[str, str]
RESULTS = Path(__file__).parents[1] / "docs" / "results" / "methods.csv"
COLUMNS: dict[str, tuple[str, ...]] = {  # heading -> what it shows of a point
    "float %": ("float_accuracy",),
    "program %": ("program_accuracy",),
    "spikes": ("spikes",),
    "synops": ("synops",),
    "bits per weight": ("bits_per_weight",),
    "energy, uJ": ("energy_low", "energy_high"),
}
FIELDS = [
    "data", "method", "seed", "settings", *(name for names in COLUMNS.values() for name in names), "equal", "refused",
]  # fmt: skip
COST_FIELDS = ["data", "method", "milliseconds_per_step", "peak_mb"]


def cost_of(results: Path) -> Path:
    """The file of what the methods of `results` cost."""
    return results.with_name(f"{results.stem}_cost.csv")


def read(path: Path) -> list[Row]:
    """Its rows; none if there is no such file."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def put(path: Path, fields: list[str], row: dict[str, Any]) -> None:
    """One row more, in place of an earlier one of the same data, method and seed; numbers with six digits."""
    keys = [name for name in fields if name in ("data", "method", "seed")]
    new = {name: f"{value:.6g}" if isinstance(value, float) else str(value) for name, value in row.items()}
    kept = [old for old in read(path) if [old[key] for key in keys] != [new[key] for key in keys]]
    with whole_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fields, lineterminator="\n")
        writer.writeheader()
        writer.writerows([*kept, new])


def values(rows: Iterable[Row], name: str) -> list[float]:
    return [float(row[name]) for row in rows if row[name]]


def cell(rows: list[Row], names: tuple[str, ...]) -> str:
    """Mean over seeds, of accuracies with the sample standard deviation, of an interval the means of its ends."""
    found = [values(rows, name) for name in names]
    if not all(found):
        return "-"
    if len(found) > 1:
        return " to ".join(_number(statistics.mean(each)) for each in found)
    spread = f" ± {statistics.stdev(found[0]):.2f}" if len(found[0]) > 1 and names[0].endswith("accuracy") else ""
    return _number(statistics.mean(found[0])) + spread


def _number(value: float) -> str:
    return f"{value / 1e6:.2f} M" if value >= 1e6 else f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def table(points: list[Row]) -> str:
    """In Markdown, a row for each data set and method; below it why networks were refused."""
    headings = ("data", "method", "seeds", *COLUMNS, "every spike equal")
    lines = ["| " + " | ".join(headings) + " |", "|---" * len(headings) + "|"]
    for data in sorted({row["data"] for row in points}):
        for method in ARMS:
            if rows := _of(points, data, method):
                verdicts = {row["equal"] for row in rows} - {""}
                equal = "yes" if verdicts == {"True"} else "NO" if verdicts else "-"
                cells = [data, method, str(len(rows)), *(cell(rows, names) for names in COLUMNS.values()), equal]
                lines.append("| " + " | ".join(cells) + " |")
    refused = dict.fromkeys((row["method"], row["refused"]) for row in points if row["refused"])
    lines += ["", *(f"- {method}: not deployed, {why}" for method, why in refused)] if refused else []
    return "\n".join(lines) + "\n"


def cost_table(costs: list[Row]) -> str:
    lines = ["| data | method | ms a step | peak MB |", "|---|---|---|---|"]
    return "\n".join([*lines, *("| " + " | ".join(row[name] for name in COST_FIELDS) + " |" for row in costs)]) + "\n"


def _of(points: list[Row], data: str, method: str) -> list[Row]:
    return [row for row in points if (row["data"], row["method"]) == (data, method)]


def plot(points: list[Row], path: Path) -> None:
    """Accuracy of the program against its energy, one panel per data set. raises: ImportError without matplotlib."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot
    from matplotlib.ticker import LogLocator, NullLocator

    mean: Callable[[Iterable[float]], float] = statistics.mean
    sets = sorted({row["data"] for row in points})
    figure, axes = pyplot.subplots(1, len(sets), figsize=(7 * len(sets), 5), layout="constrained", squeeze=False)
    for axis, data in zip(axes[0], sets, strict=True):
        for method in ARMS:
            rows = [row for row in _of(points, data, method) if row["energy_low"] and row["energy_high"]]
            if rows:
                x = mean([*values(rows, "energy_low"), *values(rows, "energy_high")])
                y = mean(values(rows, "program_accuracy"))
                axis.scatter(x, y)
                axis.annotate(method, (x, y), fontsize=7, xytext=(3, 3), textcoords="offset points")
        axis.set(xlabel="dynamic energy a sample, middle of the interval (uJ)", ylabel="accuracy of the program (%)")
        axis.set(title=data, xscale="log")
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter("{x:g}")
        axis.xaxis.set_minor_locator(NullLocator())
        axis.margins(x=0.15)
        axis.grid(alpha=0.3)
    figure.savefig(path)
