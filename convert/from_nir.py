"""model.nir -> the graph with its integers, safely: what lavatube wrote, or a refusal with the reason."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nir
import numpy as np

from lavatube.contract import ExecutionContract
from lavatube.convert.float_graph.read import read_nested_graph
from lavatube.convert.nir_rows import checked_rows
from lavatube.convert.nir_spelling import back_to_scale, known_keys, refuse_other_keys
from lavatube.convert.to_nir import METADATA_KEY, METADATA_VERSION, READOUT, digest_of_floats
from lavatube.errors import LavatubeError, UnsupportedError
from lavatube.files import sha256_of_file

DESCRIPTION_KEYS = {
    "version", "lavatube", "method", "num_steps", "contract", "input", "readout", "order", "names", "nodes", "lossy",
    "floats_sha256", "source_sha256",
}  # fmt: skip


@dataclass(frozen=True)
class QuantizedGraph:
    """A NIR graph whose floats are exactly integer * scale, and the metadata that says so.

    rows:  {node name: its quantization}, as written by `to_nir`.
           Under its own names, and its own types where the file spells a node otherwise for others to read.
    order: node names in order of execution; what comes from a later node is of the timestep before.
    """

    graph: nir.NIRGraph
    rows: Mapping[str, Mapping[str, Any]]
    order: tuple[str, ...]
    contract: ExecutionContract
    input_shape: tuple[int, ...]
    message_bits: int
    num_steps: int
    lossy: tuple[Mapping[str, Any], ...]
    path: str
    sha256: str
    source_sha256: str


def read_quantized_nir(path: Path) -> QuantizedGraph:
    """Read a .nir file that lavatube wrote, with its integers.

    raises: UnsupportedError if there are no integers in the metadata, or someone changed the floats since.
    """
    path = Path(path)
    graph = read_nested_graph(path)
    text = (graph.metadata or {}).get(METADATA_KEY)
    if text is None:
        raise UnsupportedError(
            "this NIR graph carries no quantization metadata",
            where=str(path),
            remedy="quantize it: lavatube quantize FILE.nir --contract NAME --out DIR",
        )
    try:
        description = json.loads(text if isinstance(text, str) else bytes(text).decode())
        if (version := description["version"]) != METADATA_VERSION:
            what, remedy = "quantization metadata of another version of lavatube", "export again"
            expected = f"version {METADATA_VERSION}"
            raise LavatubeError(what, where=str(path), expected=expected, got=f"version {version}", remedy=remedy)
        if odd := sorted(set(description) ^ DESCRIPTION_KEYS):
            raise LavatubeError("unknown quantization metadata", where=str(path), got=str(odd))
        if description["readout"] != READOUT:
            got = repr(description["readout"])[:60]
            raise UnsupportedError("another read-out", where=str(path), expected=READOUT, got=got)
        if description["floats_sha256"] != digest_of_floats(graph.nodes):
            raise UnsupportedError(
                "the floats were changed after export, so the integers in the metadata no longer describe them",
                where=str(path),
                remedy="export again from the quantized network",
            )
        rows = checked_rows(description["nodes"], where=str(path))
        restored = _restored(graph, description["names"], rows, where=str(path))
        for name, row in rows.items():
            stated = graph.nodes[description["names"][name]].metadata or {}
            own = json.loads(str(stated.get(METADATA_KEY, "null")))
            if own is not None and own != description["nodes"][name]:
                what = "the integers in the node's metadata contradict those in the graph's"
                raise LavatubeError(what, where=f"{path}:{name}", remedy="export again")
            refuse_other_keys(stated, known_keys(row), where=f"{path}:{name}")
        return QuantizedGraph(
            graph=restored,
            rows=rows,
            order=tuple(str(name) for name in description["order"]),
            contract=ExecutionContract.from_json(description["contract"], where=str(path)),
            input_shape=tuple(int(n) for n in description["input"]["shape"]),
            message_bits=int(description["input"]["message_bits"]),
            num_steps=int(description["num_steps"]),
            lossy=tuple(dict(record) for record in description["lossy"]),
            path=str(path),
            sha256=sha256_of_file(path),
            source_sha256=str(description["source_sha256"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LavatubeError("malformed quantization metadata", where=str(path), got=str(error)) from error


def _restored(graph: nir.NIRGraph, names: Mapping[str, str], rows: Mapping[str, Any], *, where: str) -> nir.NIRGraph:
    """The graph under its own names, its nodes as what they stand for. names: {own name: name in the file}."""
    own = {str(spelled): str(name) for name, spelled in names.items()}
    if len(own) != len(names) or set(own) != set(graph.nodes):
        raise LavatubeError("names in the metadata are not those of the nodes", where=where)
    nodes = {own[name]: node for name, node in graph.nodes.items()}
    edges = [(own[a], own[b]) for a, b in graph.edges]
    for name, row in rows.items():
        if row.get("stands_for") == "scale" and isinstance(nodes.get(name), nir.Affine | nir.Conv2d):
            targets = [nodes[b] for a, b in edges if a == name]
            shape = tuple(int(n) for n in targets[0].input_type["input"]) if targets else ()
            nodes[name] = back_to_scale(nodes[name], shape)
    return nir.NIRGraph(nodes=nodes, edges=edges, metadata=graph.metadata, type_check=False)


def integers_of(value: np.ndarray, scale: float, *, where: str) -> np.ndarray:
    """value / scale as int64, refused unless it is exactly that. value: (...) float64."""
    if not (np.isfinite(scale) and scale > 0):
        raise LavatubeError("scale", where=where, expected="a positive number", got=repr(scale))
    integers = np.rint(np.asarray(value, np.float64) / scale)
    if not np.array_equal(integers * scale, value) or np.abs(integers).max(initial=0) > 2**53:
        raise LavatubeError("floats are not integers times their scale", where=where, got=f"scale {scale!r}")
    return np.asarray(integers, np.int64)
