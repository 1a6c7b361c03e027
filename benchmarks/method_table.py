"""What `benchmarks/methods.py` measured: a CSV of points, and the table and the scatter that are made of it."""

from __future__ import annotations

import csv
import statistics
from collections.abc import Iterable
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
COST_FIELDS = ["data", "method", "milliseconds_per_step", "process_peak_mb"]


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
    new = {name: _written(value) for name, value in row.items()}
    kept = [old for old in read(path) if [old[key] for key in keys] != [new[key] for key in keys]]
    with whole_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fields, lineterminator="\n")
        writer.writeheader()
        writer.writerows([*kept, new])


def _written(value: Any) -> str:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def values(rows: Iterable[Row], name: str) -> list[float]:
    return [float(row[name]) for row in rows if row[name]]


def cell(rows: list[Row], names: tuple[str, ...]) -> str:
    """Mean over seeds; of accuracies with the sample standard deviation, of an interval the mean of each end."""
    found = [values(rows, name) for name in names]
    if not all(found):
        return "-"
    fewer = f" ({len(found[0])} of {len(rows)})" if len(found[0]) < len(rows) else ""
    if names[0].endswith("accuracy"):
        spread = f" ± {statistics.stdev(found[0]):.2f}" if len(found[0]) > 1 else ""
        return f"{statistics.mean(found[0]):.2f}{spread}{fewer}"
    return " to ".join(_number(statistics.mean(each)) for each in found) + fewer


def _number(value: float) -> str:
    return f"{value / 1e6:.2f} M" if value >= 1e6 else f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def table(points: list[Row]) -> str:
    """In Markdown, a row for each data set and method; below it what was refused.

    raises: ValueError for a method that is none of `ARMS`: it would be in no row.
    """
    if unknown := {row["method"] for row in points} - set(ARMS):
        raise ValueError(f"no such methods: {', '.join(sorted(unknown))}")
    headings = ("data", "method", "seeds", *COLUMNS, "every spike equal")
    lines = ["| " + " | ".join(headings) + " |", "|---" * len(headings) + "|"]
    for data in sorted({row["data"] for row in points}):
        for method in ARMS:
            if rows := _of(points, data, method):
                verdicts = {row["equal"] for row in rows} - {""}
                equal = "yes" if verdicts == {"True"} else "NO" if verdicts else "-"
                cells = [data, method, str(len(rows)), *(cell(rows, names) for names in COLUMNS.values()), equal]
                lines.append("| " + " | ".join(cells) + " |")
    refused = dict.fromkeys((row["data"], row["method"], row["refused"]) for row in points if row["refused"])
    lines += ["", *(f"- {data}, {method}: not deployed, {why}" for data, method, why in refused)] if refused else []
    return "\n".join(lines) + "\n"


def missing(points: list[Row]) -> str:
    """One line for each data set: the methods that were not measured on it."""
    there = {(row["data"], row["method"]) for row in points}
    lines = []
    for data in sorted({row["data"] for row in points}):
        if left := [method for method in ARMS if (data, method) not in there]:
            lines.append(f"Not measured yet on {data}: {'; '.join(left)}.\n")
    return "".join(lines)


def cost_table(costs: list[Row]) -> str:
    lines = ["| data | method | ms a step | peak MB of the process |", "|---|---|---|---|"]
    return "\n".join([*lines, *("| " + " | ".join(row[name] for name in COST_FIELDS) + " |" for row in costs)]) + "\n"


def _of(points: list[Row], data: str, method: str) -> list[Row]:
    return [row for row in points if (row["data"], row["method"]) == (data, method)]


def plot(points: list[Row], path: Path) -> None:
    """Accuracy of the program against its energy, one panel per data set; bars are the standard deviation over seeds.

    raises: ImportError without matplotlib and adjustText.
    """
    import matplotlib
    from adjustText import adjust_text

    matplotlib.use("svg")
    from matplotlib import pyplot
    from matplotlib.ticker import LogLocator, NullLocator

    sets = sorted({row["data"] for row in points})
    figure, axes = pyplot.subplots(1, len(sets), figsize=(7 * len(sets), 7), layout="constrained", squeeze=False)
    for axis, data in zip(axes[0], sets, strict=True):
        labels, xs, ys = [], [], []
        for method in ARMS:
            rows = [row for row in _of(points, data, method) if row["energy_low"] and row["energy_high"]]
            if rows:
                x = statistics.mean([*values(rows, "energy_low"), *values(rows, "energy_high")])
                found = values(rows, "program_accuracy")
                y, spread = statistics.mean(found), statistics.stdev(found) if len(found) > 1 else None
                drawn = axis.errorbar(x, y, yerr=spread, marker="o", markersize=3.5, elinewidth=0.6)
                labels.append(axis.text(x, y, method, fontsize=6, color=drawn[0].get_color()))
                xs.append(x)
                ys.append(y)
        axis.set(xlabel="dynamic energy a sample, middle of the interval (uJ)", ylabel="accuracy of the program (%)")
        axis.set(title=data, xscale="log")
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter("{x:g}")
        axis.xaxis.set_minor_locator(NullLocator())
        axis.margins(x=0.15)
        axis.grid(alpha=0.3)
        adjust_text(
            labels, xs, ys, ax=axis, expand=(1.1, 1.6), force_text=(0.4, 0.8), force_static=(0.4, 0.8),
            iter_lim=3000, max_move=None, arrowprops={"arrowstyle": "-", "lw": 0.4, "color": "gray"},
        )  # fmt: skip
    pyplot.rcParams["svg.hashsalt"] = "methods"  # the same points make the same file
    figure.savefig(path, metadata={"Date": None})
