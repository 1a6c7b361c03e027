"""Accuracy at each stage with its confidence interval, and the confusion matrix where labels are known."""

from __future__ import annotations

import numpy as np
from markupsafe import Markup, escape

from lavatube.sim.report.artifacts import Artifacts
from lavatube.sim.report.parts import Folded, Missing, Part, Picture, Section, Table, Words
from lavatube.sim.report.pictures import framed, interval_bars
from lavatube.sim.report.watched import Watched
from lavatube.sim.shares import wilson

CLASSES_DRAWN = 30


def accuracy(found: Artifacts, watched: Watched | None) -> Section:
    stages = _stages(found, watched)
    parts: list[Part] = []
    if stages:
        rows, bars = [], []
        for name, percent, of in stages:
            low, high = _interval(percent, of)
            band = f"{low:.2f} to {high:.2f} %" if of else "number of samples unknown"
            rows.append((name, f"{percent:.2f} %", band, of or ""))
            bars.append((name, low, high, percent, f"{name}: {percent:.2f} %, {band}"))
        table = Table("Accuracy and its 95 % interval (Wilson)", ("stage", "accuracy", "interval", "samples"), rows)
        says = "; ".join(f"{row[0]} {row[1]}, {row[2]}" for row in rows)
        parts.append(
            Picture("Accuracy by stage", interval_bars("Accuracy by stage", says, bars, "%", zero=False), table)
        )
    else:
        parts.append(Missing("accuracies", f"lavatube parity {found.folder} (with labels in its data)"))
    if watched is not None and watched.foreign:
        left_out = (
            f"{watched.foreign:,} of the samples run here: their labels are no classes of the read-out. Left out."
        )
        parts.append(Words(left_out, "bad"))
    if watched is not None and watched.label is not None and watched.predicted is not None:
        parts += _confusion(watched.label, watched.predicted)
    elif stages:
        parts.append(Missing("the confusion matrix", f"put samples with labels at {found.folder}/input.npz"))
    return Section("accuracy", "Accuracy", parts)


def _interval(percent: float, of: int) -> tuple[float, float]:
    """In %; the percentage alone where the number of samples is unknown."""
    share = wilson(round(percent / 100 * of), of) if of else None
    ends = (None, None) if share is None else (share.low, share.high)
    return percent if ends[0] is None else 100 * ends[0], percent if ends[1] is None else 100 * ends[1]


def _stages(found: Artifacts, watched: Watched | None) -> list[tuple[str, float, int]]:
    """(stage, accuracy in %, samples or 0): parity may have run other samples than those of the test split."""
    stages: list[tuple[str, object, int]] = []
    if found.config is not None:
        metrics = found.config.get("metrics") or {}
        stages.append(("float network", metrics.get("test_accuracy"), metrics.get("test_samples") or 0))
    if found.quantized is not None:
        of = found.quantized.metrics.get("test_samples") or 0
        stages.append(("quantized checkpoint", found.quantized.metrics.get("test_accuracy"), of))
    if found.parity is not None:
        size = found.parity["samples"]
        stages.append(("program, reference engine", found.parity.get("accuracy"), size))
        for engine in found.parity.get("engines", ()):
            if all(row["mismatches"] == 0 for row in engine["rows"] if row["quantity"] == "readout"):
                stages.append((f"program, {engine['engine']}", found.parity.get("accuracy"), size))
    elif watched is not None and watched.label is not None and watched.predicted is not None:
        right = int((watched.label == watched.predicted).sum())
        stages.append(("program, fast engine", 100.0 * right / len(watched.label), len(watched.label)))
    return [(name, float(value), of) for name, value, of in stages if isinstance(value, int | float)]


def _confusion(label: np.ndarray, predicted: np.ndarray) -> list[Part]:
    classes = int(max(label.max(), predicted.max())) + 1
    matrix = np.zeros((classes, classes), np.int64)
    np.add.at(matrix, (label, predicted), 1)
    wrong = int(len(label) - np.trace(matrix))
    head = ["labelled", *map(str, range(classes))]
    table = Table("Predictions by label", head, [(row, *map(int, matrix[row])) for row in range(classes)])
    words = Words(f"Confusion matrix of {len(label)} samples on the fast engine, {wrong} of them wrong.")
    if classes > CLASSES_DRAWN:
        return [words, Folded("Confusion matrix", [table])]
    return [words, Picture("Confusion matrix", _matrix(matrix), table)]


def _matrix(matrix: np.ndarray) -> Markup:
    classes, cell, left, top = len(matrix), max(18, 340 // len(matrix)), 60, 34
    most = max(int(matrix.max()), 1)
    parts = [f'<text x="{left + classes * cell / 2}" y="12" text-anchor="middle">predicted</text>']
    middle = top + classes * cell / 2
    parts.append(f'<text x="12" y="{middle}" text-anchor="middle" transform="rotate(-90 12 {middle})">label</text>')
    for row in range(classes):
        y = top + row * cell
        parts.append(f'<text class="small" x="{left - 6}" y="{y + cell / 2 + 3}" text-anchor="end">{row}</text>')
        parts.append(
            f'<text class="small" x="{left + row * cell + cell / 2}" y="{top - 6}" text-anchor="middle">{row}</text>'
        )
        for column in range(classes):
            number, x = int(matrix[row, column]), left + column * cell
            kind = "right" if row == column else "wrong"
            strength = 0.12 + 0.88 * number / most if number else 0
            told = escape(f"label {row}, predicted {column}: {number}")
            parts.append(
                f'<rect class="cell {kind}" x="{x}" y="{y}" width="{cell - 1}" height="{cell - 1}" '
                f'fill-opacity="{strength:.2f}"><title>{told}</title></rect>'
            )
            if number:
                at = f'x="{x + cell / 2}" y="{y + cell / 2 + 3}" text-anchor="middle"'
                parts.append(f'<text class="small{" on-dark" * (strength > 0.5)}" {at}>{number}</text>')
    right = int(np.trace(matrix))
    says = f"{right} of {int(matrix.sum())} on the diagonal"
    size = left + classes * cell + 4
    return framed("Confusion matrix", says, size, top + classes * cell + 4, "".join(parts), css="square")
