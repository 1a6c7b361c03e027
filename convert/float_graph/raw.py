"""NIR as it was written, before anything is believed: kinds, fields and edges, from HDF5 or from nir's own objects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import nir
import numpy as np

from lavatube.convert.safe_hdf5 import Limits, opened_hdf5
from lavatube.errors import LavatubeError

LIMITS = Limits()
EDGES_MAX = 20_000
KIND = "a .nir file (HDF5)"
SHAPE_OF = {"Input": ("shape", "input_type", "input"), "Output": ("shape", "output_type", "output"),
            "Flatten": ("input_type", "input_type", "input")}  # fmt: skip


@dataclass(frozen=True)
class RawNode:
    """kind: as written; fields: {name: value}; where: for errors, `file:/node/nodes/name`."""

    kind: str
    fields: Mapping[str, Any]
    where: str
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RawGraph:
    """A graph with graphs in it; edges: (from, to) as often as they were written."""

    nodes: Mapping[str, RawNode | RawGraph]
    edges: tuple[tuple[str, str], ...]
    where: str
    metadata: Mapping[str, Any] = field(default_factory=dict)


def raw_from_file(path: Path) -> RawNode | RawGraph:
    """What the root of a .nir file holds. raises: LavatubeError naming the HDF5 path, for what nir.read trusts."""
    with opened_hdf5(path, LIMITS, kind=KIND) as opened:
        root = opened.get("node")
        if not isinstance(root, h5py.Group):
            got = f"groups {', '.join(opened)}"[:200] if len(opened) else "an empty file"
            raise LavatubeError("not NIR", where=str(path), expected="a group /node", got=got)
        return _Reader(Path(path)).item(root)


class _Reader:
    def __init__(self, path: Path) -> None:
        self.path, self.edges = path, 0

    def where(self, item: h5py.HLObject) -> str:
        return f"{self.path}:{item.name}"

    def item(self, group: h5py.Group) -> RawNode | RawGraph:
        where = self.where(group)
        kind = self.value(group["type"]) if "type" in group else None
        if not isinstance(kind, str):
            raise LavatubeError(
                "a node without a type", where=where, expected="a string named type", got=repr(kind)[:60]
            )
        metadata = self.metadata(group["metadata"]) if "metadata" in group else {}
        parts = {name: item for name, item in group.items() if name not in ("type", "metadata")}
        if kind != "NIRGraph":
            for name, item in parts.items():
                if isinstance(item, h5py.Group):
                    raise LavatubeError("a group where a field should be", where=f"{where}/{name}")
            return RawNode(kind, {name: self.value(item) for name, item in parts.items()}, where, metadata)
        nodes, edges = parts.pop("nodes", None), parts.pop("edges", None)
        if not isinstance(nodes, h5py.Group) or not isinstance(edges, h5py.Dataset) or parts:
            got = ", ".join([*parts, *(["nodes"] if nodes else []), *(["edges"] if edges else [])])
            raise LavatubeError("graph", where=where, expected="a group nodes, a table edges, nothing else", got=got)
        found = {}
        for name, item in nodes.items():
            if not isinstance(item, h5py.Group):
                raise LavatubeError("not a node", where=f"{where}/nodes/{name}", expected="a group", got="a data set")
            found[name] = self.item(item)
        return RawGraph(found, self.pairs(edges), where, metadata)

    def pairs(self, data: h5py.Dataset) -> tuple[tuple[str, str], ...]:
        where = self.where(data)
        if data.shape is not None and data.size == 0:
            return ()
        if data.shape is None or len(data.shape) != 2 or data.shape[1] != 2 or not _is_text(data):
            got = f"{data.dtype} {data.shape}"
            raise LavatubeError("edges", where=where, expected="a table of two names a row", got=got)
        self.edges += data.shape[0]
        if self.edges > EDGES_MAX:
            raise LavatubeError("too many edges", where=where, expected=f"at most {EDGES_MAX}", got=str(self.edges))
        return tuple((self.text(a, where), self.text(b, where)) for a, b in data[()])

    def text(self, value: Any, where: str) -> str:
        if isinstance(value, bytes):
            try:
                value = value.decode("utf-8")
            except UnicodeDecodeError as error:
                raise LavatubeError("a string that is not UTF-8", where=where, got=repr(value)[:60]) from error
        if not isinstance(value, str):
            raise LavatubeError("not a string", where=where, got=type(value).__name__)
        return value

    def value(self, data: Any) -> Any:
        if not isinstance(data, h5py.Dataset) or data.shape is None:
            got = type(data).__name__ if not isinstance(data, h5py.Dataset) else "an empty data set"
            raise LavatubeError("not a value", where=self.where(data), expected="an array or a string", got=got)
        if not _is_text(data):
            return data[()]
        if data.shape != ():
            raise LavatubeError("a table of strings", where=self.where(data), expected="one string or numbers")
        return self.text(data[()], self.where(data))

    def metadata(self, item: Any) -> dict[str, Any]:
        if not isinstance(item, h5py.Group):
            raise LavatubeError("metadata", where=self.where(item), expected="a group", got="a data set")
        found: dict[str, Any] = {}
        for name, part in item.items():
            if isinstance(part, h5py.Group):
                found[name] = self.metadata(part)
            elif part.shape != () and _is_text(part):
                found[name] = f"a table of strings {part.shape}"  # nobody depends on it: not read
            elif part.shape is not None:
                found[name] = self.value(part)
        return found


def _is_text(data: h5py.Dataset) -> bool:
    return h5py.check_string_dtype(data.dtype) is not None


def raw_from_nir(item: nir.NIRNode, where: str, depth: int = 0) -> RawNode | RawGraph:
    """The same, of a graph in memory; nothing of it is changed. raises: LavatubeError if it is nested without end."""
    if depth > LIMITS.depth:
        raise LavatubeError("graphs nested too deep", where=where, expected=f"at most {LIMITS.depth} levels")
    kind, metadata = type(item).__name__, dict(getattr(item, "metadata", None) or {})
    if not isinstance(item, nir.NIRNode):
        raise LavatubeError("not a NIR node", where=where, expected="a node of the package nir", got=kind)
    if isinstance(item, nir.NIRGraph):
        nodes = {}
        for name, node in dict(item.nodes).items():
            if not isinstance(name, str):
                raise LavatubeError("name of a node", where=where, expected="a string", got=repr(name)[:60])
            nodes[name] = raw_from_nir(node, f"{where}/nodes/{name}", depth + 1)
        try:
            edges = tuple((a, b) for a, b in item.edges)
        except (TypeError, ValueError) as error:
            raise LavatubeError("edges", where=where, expected="pairs of names", got=str(error)) from error
        return RawGraph(nodes, edges, where, metadata)
    skip = {"input_type", "output_type", "metadata"}
    fields = {name: _plain(value, f"{where}/{name}") for name, value in vars(item).items() if name not in skip}
    if kind in SHAPE_OF:
        name, attribute, key = SHAPE_OF[kind]
        types = getattr(item, attribute, None)
        fields[name] = types.get(key) if isinstance(types, Mapping) else types
    return RawNode(kind, {name: value for name, value in fields.items() if value is not None}, where, metadata)


def _plain(value: Any, where: str) -> Any:
    if value is None or isinstance(value, str | np.ndarray | np.generic):
        return value
    try:
        return np.asarray(value)
    except Exception as error:  # an array of someone else, who raises what they like
        raise LavatubeError("not an array", where=where, got=f"{type(value).__name__}: {error}") from error
