"""Damage to a .nir file: to its bytes, and to what they say (fields, edges, links, types, storage)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

INTERESTING = [0, 1, 7, 8, 255, 256, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1]
Rng = np.random.Generator


def mutate_bytes(raw: bytes, rng: Rng) -> bytes:
    """A few flips, runs, numbers at aligned places, cuts and copies."""
    data = bytearray(raw)
    for _ in range(int(rng.integers(1, 9))):
        kind, at = int(rng.integers(7)), int(rng.integers(max(1, len(data))))
        length = int(rng.integers(1, 65))
        if kind == 0:
            data[at] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            data[at] = int(rng.integers(256))
        elif kind == 2:
            data[at : at + length] = bytes(min(length, len(data) - at))
        elif kind == 3:
            value = INTERESTING[int(rng.integers(len(INTERESTING)))]
            data[at - at % 8 : at - at % 8 + 8] = struct.pack("<Q", value)
        elif kind == 4:
            source = int(rng.integers(len(data)))
            data[at : at + length] = data[source : source + min(length, len(data) - at)]
        elif kind == 5:
            data[at : at + length] = rng.bytes(min(length, len(data) - at))
        elif rng.random() < 0.2:
            del data[at:]
        if not data:
            return b"\x89HDF"
    return bytes(data)


def mutate_structure(path: Path, rng: Rng) -> None:
    """One to three changes of what an HDF5 file says; a change that HDF5 itself refuses is left out."""
    for _ in range(int(rng.integers(1, 4))):
        with h5py.File(path, "r+") as file:
            objects: list[Any] = []
            file.visititems(lambda _, x, seen=objects: seen.append(x))
            groups = [x for x in objects if isinstance(x, h5py.Group)]
            # a change of what `declared` made would write gigabytes
            fields = [x for x in objects if isinstance(x, h5py.Dataset) and (x.size or 0) < 1 << 16]
            change = CHANGES[int(rng.integers(len(CHANGES)))]
            try:
                change(file, groups, fields, rng)
            except (ValueError, KeyError, TypeError, OSError, RuntimeError, IndexError, AttributeError):
                continue


def _pick(items: list[Any], rng: Rng) -> Any:
    return items[int(rng.integers(len(items)))]


def _replace(data: h5py.Dataset, value: Any, **options: Any) -> h5py.Dataset:
    parent, name = data.parent, data.name.rsplit("/", 1)[1]
    del parent[name]
    return (
        parent.create_dataset(name, data=value, **options)
        if value is not None
        else parent.create_dataset(name, **options)
    )


def delete(file, groups, fields, rng):  # type: ignore[no-untyped-def]
    item = _pick(groups + fields, rng)
    del item.parent[item.name.rsplit("/", 1)[1]]


def value(file, groups, fields, rng):  # type: ignore[no-untyped-def]
    data = _pick([f for f in fields if f.dtype.kind in "iuf"], rng)
    new = data[()] if data.shape else np.array(data[()])
    bad = [np.nan, np.inf, -np.inf, 0, -1, 1e308, 5e-324, 2**31, -(2**31), 2**40, 7]
    if data.dtype.kind != "f":
        bad = [0, -1, 1, 2, 7, 2**31 - 1, -(2**31), 1000]
    with np.errstate(all="ignore"):
        new.reshape(-1)[int(rng.integers(new.size))] = _pick(bad, rng)
    _replace(data, new)


def dtype(file, groups, fields, rng):  # type: ignore[no-untyped-def]
    data = _pick([f for f in fields if f.dtype.kind in "iuf"], rng)
    kinds = ["c16", "f2", "f4", "i1", "u8", "i8", "?", "S3", ">f8", "f16", "V4", [("a", "f8")]]
    kind = _pick([*kinds, "vlen", "ref", "enum", "array"], rng)
    special = {
        "vlen": h5py.vlen_dtype("f8"),
        "ref": h5py.ref_dtype,
        "enum": h5py.enum_dtype({"A": 0}),
        "array": np.dtype(("f8", (2,))),
    }
    made = special.get(kind) if isinstance(kind, str) else None
    if made is not None or kind == "V4" or isinstance(kind, list):
        _replace(data, None, shape=data.shape, dtype=made or np.dtype(kind))
    else:
        _replace(data, data[()].astype(kind))


def shape(file, groups, fields, rng):  # type: ignore[no-untyped-def]
    data = _pick([f for f in fields if f.dtype.kind in "iuf"], rng)
    old = np.asarray(data[()])
    new = [
        old[None],
        old.reshape(-1),
        old.reshape(-1)[:0],
        old.reshape(-1)[0],
        np.stack([old] * 3),
        old.reshape(-1)[:1],
    ]
    _replace(data, _pick(new, rng))


def declared(file, groups, fields, rng):  # type: ignore[no-untyped-def]
    data = _pick([f for f in fields if f.dtype.kind in "iuf"], rng)
    sizes = [(1 << 30,), (1 << 14, 1 << 14), (1 << 60,), (1 << 20, 2, 2), (3,), (1 << 12, 1 << 12)]
    options = [{"chunks": True, "compression": "gzip"}, {"chunks": True}, {}]
    _replace(data, None, shape=_pick(sizes, rng), dtype="f8", fillvalue=1.0, **_pick(options, rng))


def bomb(file, groups, fields, rng):  # type: ignore[no-untyped-def]
    data = _pick([f for f in fields if f.dtype.kind == "f"], rng)
    made = _replace(data, None, shape=(64,), dtype="f8", chunks=(64,), compression="gzip")
    made.id.write_direct_chunk((0,), zlib.compress(bytes(int(rng.choice([512, 511, 513, 64 << 20])))))


def kind(file, groups, fields, rng):  # type: ignore[no-untyped-def]
    data = _pick([f for f in fields if f.name.endswith("/type")], rng)
    kinds = [
        "Affine",
        "Linear",
        "Conv1d",
        "Conv2d",
        "SumPool2d",
        "AvgPool2d",
        "Flatten",
        "Delay",
        "I",
        "LI",
        "IF",
        "LIF",
    ]
    kinds += [
        "CubaLI",
        "CubaLIF",
        "Threshold",
        "NIRGraph",
        "Input",
        "Output",
        "Scale",
        "Foo",
        "",
        "lif",
        "é\n",
        "x" * 9999,
    ]
    _replace(data, _pick(kinds, rng))


def edges(file, groups, fields, rng):  # type: ignore[no-untyped-def]
    data = _pick([f for f in fields if f.name.endswith("/edges")], rng)
    names = [name.encode() for name in data.parent["nodes"]]
    rows = [tuple(row) for row in data[()]]
    act = int(rng.integers(6))
    if act == 0:
        rows.append(_pick(rows, rng))
    elif act == 1:
        rows.pop(int(rng.integers(len(rows))))
    elif act in (2, 3):
        rows += [(_pick(names, rng), _pick(names, rng)) for _ in range(int(rng.integers(1, 4)))]
    elif act == 4:
        rows.append((_pick(names, rng), _pick([b"nothing", b"", b"\xff", b"x" * 500], rng)))
    else:
        a, b = rows.pop(int(rng.integers(len(rows))))
        rows.append((b, a))
    _replace(data, np.array(rows, dtype=object), dtype=h5py.string_dtype())


def rename(file, groups, fields, rng):  # type: ignore[no-untyped-def]
    item = _pick(groups + fields, rng)
    new = _pick(["a b", "é", "x" * 300, "a\nb", ".", "type", "nodes", "input", "-", "ü" * 40], rng)
    item.parent.move(item.name.rsplit("/", 1)[1], new)


def link(file, groups, fields, rng):  # type: ignore[no-untyped-def]
    group, item = _pick(groups, rng), _pick(groups + fields, rng)
    name = _pick(["extra", item.name.rsplit("/", 1)[1]], rng)
    if name in group:
        del group[name]
    group[name] = _pick([h5py.SoftLink("/node"), h5py.ExternalLink("/etc/passwd", "/"), item, group, file], rng)


def extra(file, groups, fields, rng):  # type: ignore[no-untyped-def]
    group = _pick(groups, rng)
    made = _pick(["field", "group", "deep", "attributes", "table", "type", "external", "null"], rng)
    if made == "field":
        group["extra"] = 1.0
    elif made == "group":
        group.create_group("metadata/x/y")["z"] = "text"
    elif made == "deep":
        group.create_group("/".join("d" * 50))
    elif made == "attributes":
        for index in range(int(rng.integers(1, 100))):
            group.attrs[f"a{index}"] = np.zeros(100)
    elif made == "table":
        group["metadata/t"] = np.array([b"x" * 999] * 50, dtype=object)
    elif made == "type":
        group["extra"] = np.dtype("f8")
    elif made == "external":
        group.create_dataset("extra", (10,), "u1", external=[("/etc/passwd", 0, 10)])
    else:
        group["extra"] = h5py.Empty("f8")


CHANGES: list[Callable[..., None]] = [
    delete, value, value, value, dtype, shape, shape, declared, bomb, kind, edges, edges, edges, rename, link, extra,
]  # fmt: skip
