"""Event-camera recordings: from events (t, x, y, p) to frames, and the files they come in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lavatube.errors import LavatubeError
from lavatube.trace import read_npz

COUNT_MAX = 255


@contextmanager
def code_of_others(where: str, *, expected: str = "") -> Iterator[None]:
    """Whatever a reader of someone else's raises on a damaged file becomes one LavatubeError that names it."""
    try:
        yield
    except (LavatubeError, KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:  # on some damaged files a decoder in Rust panics, which is no Exception
        raise LavatubeError("not readable", where=where, expected=expected, got=str(error)) from error


def events_to_frames(
    events: Mapping[str, Any],
    size: tuple[int, int],
    num_steps: int,
    *,
    by: Literal["time", "count"] = "time",
    window: int | None = None,
    resize: tuple[int, int] | None = None,
    where: str = "frames",
) -> tuple[NDArray[np.uint8], int]:
    """Count events per bin, place and polarity: frames [T, 2, H, W], negative polarity first.

    events: "t", "x", "y", "p" (0 or 1), in order of time; size: (H, W). Bins are equally long ("time") or hold equally
    many events ("count"). window: what the time bins divide, from t = 0; default: from the first event to the last.
    resize: (H, W) of the frames, where that is another: each event counts where its pixel begins, none is lost.
    returns: (frames, how many events were lost because a count stops at 255).
    where: what the events are of, for errors.
    raises: LavatubeError for no events, events that are no integers, out of order, outside the frame or the window.
    """
    t, x, y, p = (whole_numbers(events, key, where) for key in ("t", "x", "y", "p"))
    height, width = size
    if not len(t) or not len(t) == len(x) == len(y) == len(p) or (np.diff(t) < 0).any():
        expected, got = "at least one, in order of time, with x, y and p", f"{len(t)} events"
        raise LavatubeError("events", where=where, expected=expected, got=got)
    for name, value, limit in (("x", x, width), ("y", y, height), ("p", p, 2)):
        if value.min() < 0 or value.max() >= limit:
            got = f"{value.min()}..{value.max()}"
            raise LavatubeError(f"events outside the frame, {name}", where=where, expected=f"0..{limit - 1}", got=got)
    if window is not None and not 0 <= t[0] <= t[-1] < window:
        got = f"{t[0]}..{t[-1]}"
        raise LavatubeError("events outside the window", where=where, expected=f"0..{window - 1}", got=got)
    if by == "time" and window is not None:
        step = t * num_steps // window
    elif by == "time":
        span = max(int(t[-1] - t[0]) + 1, 1)
        step = (t - t[0]) * num_steps // span
    else:
        step = np.arange(len(t)) * num_steps // len(t)
    if resize is not None:
        y, x, (height, width) = y * resize[0] // height, x * resize[1] // width, resize
    flat = ((step * 2 + p) * height + y) * width + x
    counts = np.bincount(flat, minlength=num_steps * 2 * height * width).reshape(num_steps, 2, height, width)
    kept = np.minimum(counts, COUNT_MAX)
    return kept.astype(np.uint8), int((counts - kept).sum())


def whole_numbers(arrays: Mapping[str, Any], key: str, where: str) -> NDArray[np.int64]:
    """arrays[key] as [N] int64. raises: LavatubeError for another shape, text, NaN or fractions."""
    value = np.asarray(arrays[key])
    fits = value.ndim == 1 and value.dtype.kind in "iubf"
    if not fits or (value.dtype.kind == "f" and not ((abs(value) <= 2**53) & (value == np.trunc(value))).all()):
        got = f"{value.dtype} {value.shape}"
        raise LavatubeError(f"{key} are no whole numbers", where=where, expected="[N] integers", got=got)
    return value.astype(np.int64)


def read_event_npz(path: Path) -> dict[str, NDArray]:
    """Arrays t (microseconds), x, y, p of an .npz file. raises: LavatubeError."""
    arrays = read_npz(path, kind="events t, x, y, p")
    if missing := [key for key in ("t", "x", "y", "p") if key not in arrays]:
        raise LavatubeError("not a recording", where=str(path), expected="t, x, y, p", got=f"no {missing[0]}")
    return {key: arrays[key] for key in ("t", "x", "y", "p")}


def read_aedat4(path: Path) -> dict[str, NDArray]:
    """Events of an .aedat4 recording, by the package aedat. raises: LavatubeError if it is absent or cannot read it."""
    try:
        import aedat
    except ImportError as error:
        raise LavatubeError("reading aedat4 needs a package", where=str(path), remedy="pip install aedat") from error
    with code_of_others(str(path), expected="an aedat4 file"):
        parts = [packet["events"] for packet in aedat.Decoder(str(path)) if "events" in packet]
    if not parts:
        raise LavatubeError("no events", where=str(path), expected="an aedat4 file with events")
    whole = np.concatenate(parts)
    return {"t": whole["t"], "x": whole["x"], "y": whole["y"], "p": whole["on"].astype(np.int64)}
