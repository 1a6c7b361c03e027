"""Checks that program nodes make when they are built; every failure names the node and the rule."""

from __future__ import annotations

import re

import numpy as np

from lavatube.errors import LavatubeError

Shape = tuple[int, ...]


def require(ok: bool, where: str, what: str, *, expected: str, got: object) -> None:
    if not ok:
        raise LavatubeError(what, where=where, expected=expected, got=got if isinstance(got, str) else repr(got))


def is_int(value: object, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def require_int(where: str, what: str, value: object, low: int, high: int) -> None:
    require(is_int(value, low, high), where, what, expected=f"{low}..{high}", got=value)


def check_name(name: object) -> None:
    """Names become file names and trace keys."""
    ok = isinstance(name, str) and re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}", name) is not None
    require(ok, "program", "node name", expected="letters, digits, _ . - and not a dot first", got=name)


def check_shape(where: str, what: str, shape: object, ranks: tuple[int, ...]) -> None:
    ok = isinstance(shape, tuple) and len(shape) in ranks and all(is_int(n, 1, 1 << 24) for n in shape)
    require(ok, where, f"{what} is not a shape", expected=f"{' or '.join(map(str, ranks))} positive sizes", got=shape)


def frozen(array: np.ndarray) -> np.ndarray:
    """Read-only and contiguous."""
    array = np.ascontiguousarray(array)
    array.flags.writeable = False
    return array
