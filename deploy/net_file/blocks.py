"""A .net file as a list of blocks of integers, checked; what they mean is `read`'s matter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from lavatube.convert.safe_hdf5 import check_hdf5
from lavatube.errors import LavatubeError, UnsupportedError
from lavatube.program import Shape

KINDS = ("input", "dense", "dense_rec", "conv", "flatten", "average")
REFUSED: Mapping[
    str, str
] = {  # what lava-dl exports and no integer program does exactly, or lava-dl itself cannot load
    "pool": "lava-dl's pooling weighs spikes by a float and its own loader has no pooling; use a strided convolution",
    "convT": "lava-dl's own loader has no transposed convolution; train without it",
    "unpool": "lava-dl's own loader has no unpooling; train without it",
    "concat": "lava-dl's own loader has no concatenation; train a chain of blocks",
    "dense_comp": "complex weights drive resonate-and-fire neurons, which are not Loihi's leaky integrators",
}
VALUES = {
    "input": {"shape", "weight", "bias"},
    "dense": {"shape", "weight", "bias", "delay", "inFeatures", "outFeatures"},
    "dense_rec": {"shape", "weight", "weight_rec", "bias", "delay", "inFeatures", "outFeatures"},
    "conv": {
        "shape", "weight", "bias", "delay", "inChannels", "outChannels", "kernelSize", "stride", "padding", "dilation",
        "groups",
    },
    "flatten": {"shape"},
    "average": {"shape"},
}  # fmt: skip
NEURON_TYPES = ("CUBA", "LOIHI")
NEURON_VALUES = {"iDecay", "vDecay", "vThMant", "refDelay", "wgtExp", "weight_exp", "gradedSpike", "messageBits"}
TRAINING_ONLY = {"theta", "scaleRho", "tauRho"}  # of the surrogate gradient; theta repeats vThMant
BLOCKS_MAX = 1000
NEURONS_MAX = 1 << 26
INTEGER_MAX = 1 << 31


@dataclass(frozen=True)
class Block:
    """One group `layer/N`. where: file and group, for errors.

    shape: of its output, (neurons,) or (C, H, W), () where unsaid.
    values: {field: integers as stored}; neuron: {field: integer}, None for a block without neurons.
    """

    where: str
    name: str
    kind: str
    shape: Shape
    values: Mapping[str, np.ndarray]
    neuron: Mapping[str, int] | None


@dataclass(frozen=True)
class NetFile:
    """blocks: in order; num_steps: `simulation/tSample` over `Ts`, None where unsaid; ignored: top-level names."""

    blocks: tuple[Block, ...]
    num_steps: int | None
    ignored: tuple[str, ...]


def read_blocks(path: Path) -> NetFile:
    """Read a .net file from anywhere.

    raises: LavatubeError if it is unsafe, damaged, or holds what no integer network does; UnsupportedError for a block
    or neuron that is refused, by name.
    """
    check_hdf5(path, kind="a .net file (HDF5)")
    try:
        with h5py.File(path, "r") as opened:
            if not isinstance(opened.get("layer"), h5py.Group):
                raise LavatubeError(
                    "not a .net file", where=str(path), expected="a group `layer`", got=str(list(opened))
                )
            layers = opened["layer"]
            names = sorted(layers, key=lambda name: (len(name), name))
            if names != [str(n) for n in range(len(names))] or not 0 < len(names) <= BLOCKS_MAX:
                expected = f"groups 0, 1, ... (at most {BLOCKS_MAX})"
                raise LavatubeError("layers", where=str(path), expected=expected, got=", ".join(names[:9]) or "none")
            blocks = tuple(_block(layers[name], f"{path}:layer/{name}", name) for name in names)
            ignored = tuple(sorted(set(opened) - {"layer", "simulation"}))
            return NetFile(blocks, _num_steps(opened, str(path)), ignored)
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise LavatubeError(
            "damaged .net file", where=str(path), expected="lava-dl's layout", got=str(error)
        ) from error


def _block(group: Any, where: str, number: str) -> Block:
    if not isinstance(group, h5py.Group) or not isinstance(group.get("type"), h5py.Dataset):
        raise LavatubeError("not a block", where=where, expected="a group with a `type`", got=type(group).__name__)
    if "type" not in group:
        raise LavatubeError("a neuron without type", where=where, expected=" or ".join(NEURON_TYPES))
    kind = _text(group["type"], f"{where}/type")
    if kind not in KINDS:
        known = ", ".join(KINDS)
        raise UnsupportedError(f"block type {kind!r}", where=where, expected=known, remedy=REFUSED.get(kind, ""))
    values, neuron = {}, None
    for name, item in group.items():
        at = f"{where}/{name}"
        if name == "neuron" and isinstance(item, h5py.Group):
            neuron = _neuron(item, at)
        elif isinstance(item, h5py.Group) and name in ("weight", "weight_rec"):
            raise UnsupportedError("complex weights", where=at, remedy=REFUSED["dense_comp"])
        elif name != "type":
            if name not in VALUES[kind] or isinstance(item, h5py.Group):
                expected = ", ".join(sorted(VALUES[kind]))
                raise UnsupportedError(f"unknown field of a {kind} block", where=at, expected=expected, got=name)
            values[name] = integers(item, at)
    return Block(where, f"layer{number}", kind, _shape(values.pop("shape", None), where), values, neuron)


def _neuron(group: h5py.Group, where: str) -> dict[str, int]:
    """Registers, one integer each."""
    if "type" not in group:
        raise LavatubeError("a neuron without type", where=where, expected=" or ".join(NEURON_TYPES))
    kind = _text(group["type"], f"{where}/type")
    if kind not in NEURON_TYPES:
        remedy = "only current-based leaky integrate-and-fire neurons are lowered: train with slayer.block.cuba"
        raise UnsupportedError(f"neuron type {kind!r}", where=where, expected=" or ".join(NEURON_TYPES), remedy=remedy)
    found: dict[str, int] = {}
    for name, item in group.items():
        at = f"{where}/{name}"
        if name in TRAINING_ONLY or name == "type":
            continue
        if name not in NEURON_VALUES or not isinstance(item, h5py.Dataset):
            expected = ", ".join(sorted(NEURON_VALUES | TRAINING_ONLY))
            raise UnsupportedError("unknown field of a neuron", where=at, expected=expected, got=name)
        value = integers(item, at)
        if value.size == 0 or (value != value.flat[0]).any():
            raise UnsupportedError("differs between neurons", where=at, remedy="train with shared_param=True")
        found[name] = int(value.flat[0])
    for name in ("iDecay", "vDecay", "vThMant"):
        if name not in found:
            raise LavatubeError("missing", where=f"{where}/{name}", expected="an integer", got="nothing")
    return found


def integers(item: h5py.Dataset, where: str) -> np.ndarray:
    """A data set as int64, refused unless every number is one."""
    value = np.asarray(item[()])
    if value.dtype.kind not in "iufb":
        raise LavatubeError("dtype", where=where, expected="integers", got=str(value.dtype))
    if value.dtype.kind == "f" and not (np.isfinite(value).all() and (value == np.rint(value)).all()):
        raise LavatubeError(
            "not integers", where=where, expected="whole numbers, as lava-dl's quantization makes them",
            got=f"{value.min()}..{value.max()}", remedy="export with the block's pre_hook_fx left at its default",
        )  # fmt: skip
    if value.size and max(-float(value.min()), float(value.max())) >= INTEGER_MAX:
        raise LavatubeError("too large", where=where, expected="below 2^31", got=f"{value.min()}..{value.max()}")
    return value.astype(np.int64)


def _shape(value: np.ndarray | None, where: str) -> Shape:
    """Sizes as stored: channels first, (n,) or (n, 1, 1) for a population without places."""
    if value is None:
        return ()
    sizes = tuple(int(n) for n in value.reshape(-1))
    if len(sizes) not in (1, 3) or min(sizes) < 1 or prod(sizes) > NEURONS_MAX:
        expected = f"1 or 3 positive sizes, at most {NEURONS_MAX} neurons"
        raise LavatubeError("shape", where=where, expected=expected, got=str(sizes))
    return sizes


def _text(item: Any, where: str) -> str:
    value = np.asarray(item[()]).reshape(-1) if isinstance(item, h5py.Dataset) else np.zeros(0)
    text = value[0] if value.size else None
    if isinstance(text, bytes):
        return text.decode("ascii", "replace")
    raise LavatubeError("type", where=where, expected="a string", got=repr(text))


def _num_steps(opened: h5py.File, path: str) -> int | None:
    names = ("tSample", "Ts")
    if not all(isinstance(opened.get(f"simulation/{name}"), h5py.Dataset) for name in names):
        return None
    sample, step = (integers(opened[f"simulation/{name}"], f"{path}:simulation/{name}") for name in names)
    if sample.size != 1 or step.size != 1 or int(step.reshape(-1)[0]) < 1:
        raise LavatubeError("simulation", where=path, expected="tSample and a positive Ts", got=f"{sample} and {step}")
    return int(sample.reshape(-1)[0]) // int(step.reshape(-1)[0])


def pair_of(block: Block, name: str, default: int) -> tuple[int, int]:
    value = block.values.get(name, np.array(default)).reshape(-1)
    require(value.size in (1, 2), block, name, "one or two sizes", str(value.shape))
    return int(value[0]), int(value[-1])


def require_sizes(block: Block, **sizes: int) -> None:
    for name, size in sizes.items():
        said = block.values.get(name, np.array(size))
        require(said.size == 1 and int(said.reshape(-1)[0]) == size, block, name, str(size), str(said))


def require(ok: bool, block: Block, what: str, expected: str, got: str) -> None:
    if not ok:
        raise LavatubeError(what, where=block.where, expected=expected, got=got)
