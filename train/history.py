"""The training curve of a run: one row of CSV per epoch, and on request the same in TensorBoard."""

from __future__ import annotations

import csv
import reprlib
import shutil
from pathlib import Path

from lavatube.errors import LavatubeError
from lavatube.files import whole_file

HISTORY = "history.csv"
COLUMNS = ("epoch", "loss", "validation_accuracy", "seconds")


def append_history(folder: Path, epoch: int, loss: float, accuracy: float | None, seconds: float) -> None:
    """Add an epoch (from 1); rows of later epochs, of a run that was killed before its checkpoint, are replaced."""
    rows = [row for row in read_history(folder) if int(row["epoch"]) < epoch]
    validated = "" if accuracy is None else f"{accuracy:.4f}"
    rows.append(dict(zip(COLUMNS, (str(epoch), f"{loss:.6f}", validated, f"{seconds:.2f}"), strict=True)))
    with whole_file(folder / HISTORY) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def read_history(folder: Path) -> list[dict[str, str]]:
    """Rows by column name; empty if there is no history yet. raises: LavatubeError for a file that is not one."""
    path = folder / HISTORY
    if not path.is_file():
        return []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file, strict=True))
        for row in rows:
            if (
                tuple(row) != COLUMNS
                or None in row.values()
                or int(row["epoch"]) < 1
                or not all(float(row[key] or 0) >= 0 for key in COLUMNS)
            ):
                raise ValueError(f"row {reprlib.repr(row)}")
    except (OSError, ValueError, TypeError, csv.Error) as error:
        remedy = "remove it, or --restart"
        raise LavatubeError("damaged history", where=str(path), got=str(error), remedy=remedy) from error
    return rows


def require_tensorboard() -> None:
    """raises: LavatubeError if tensorboard is not installed."""
    try:
        import torch.utils.tensorboard  # noqa: F401
    except ImportError as error:
        raise LavatubeError("no tensorboard", where="train", remedy="pip install 'lavatube[train]'") from error


def write_tensorboard(folder: Path) -> None:
    """The whole history as TensorBoard scalars in folder/tensorboard, replacing what was there.

    raises: LavatubeError if tensorboard is not installed.
    """
    require_tensorboard()
    from torch.utils.tensorboard import SummaryWriter

    log = folder / "tensorboard"
    shutil.rmtree(log, ignore_errors=True)
    with SummaryWriter(str(log)) as writer:
        for row in read_history(folder):
            for name in COLUMNS[1:]:
                if row[name]:
                    writer.add_scalar(name, float(row[name]), int(row["epoch"]))
