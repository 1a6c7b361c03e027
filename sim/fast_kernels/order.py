"""How neurons lie in memory inside the fast engine: channels last, so that what an event adds to lies side by side."""

from __future__ import annotations

import numpy as np

from lavatube.node_checks import Shape


def c_order_of(shape: Shape) -> np.ndarray:
    """C-order index of each place in memory: [size] int64. (C, H, W) lies as (H, W, C), other shapes as they are."""
    index = np.arange(int(np.prod(shape)))
    return index.reshape(shape).transpose(1, 2, 0).reshape(-1) if len(shape) == 3 else index


def place_of(shape: Shape) -> np.ndarray:
    """The place in memory of each C-order index: [size] int64, the inverse of `c_order_of`."""
    return np.argsort(c_order_of(shape))


def regrouped(held: Shape, wanted: Shape) -> np.ndarray | None:
    """Index that takes values from one shape's order into that of another of the same size; None: nothing to do."""
    if held == wanted or (len(held) < 3 and len(wanted) < 3):
        return None
    return np.asarray(place_of(held)[c_order_of(wanted)])


def lay_out(value: np.ndarray, shape: Shape) -> np.ndarray:
    """[..., *shape] into memory order [..., size]; a view where possible."""
    lead = value.shape[: value.ndim - len(shape)]
    if len(shape) == 3:
        value = np.moveaxis(value, -3, -1)
    return value.reshape(*lead, -1)


def seen_as(value: np.ndarray, shape: Shape) -> np.ndarray:
    """Memory order [..., size] as [..., *shape], a view."""
    if len(shape) != 3:
        return value.reshape(*value.shape[:-1], *shape)
    channels, height, width = shape
    return np.moveaxis(value.reshape(*value.shape[:-1], height, width, channels), -1, -3)
