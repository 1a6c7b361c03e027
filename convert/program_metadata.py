"""A whole program in the metadata of a .nir file, for `lower` to take up again, beside the floats that others read."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import nir
import numpy as np

from lavatube import __version__
from lavatube.errors import LavatubeError, UnsupportedError
from lavatube.files import sha256_of_arrays
from lavatube.program import LoihiProgram
from lavatube.program_file import HEADER_KEYS, describe, program_from

PROGRAM_KEY = "lavatube_program"
VERSION = 1
KEYS = {"version", "lavatube", "header", "tensors", "graph_sha256", "unsaid"}
NUMBERS = (
    "weight", "bias", "tau_syn", "tau_mem", "r", "v_leak", "v_threshold", "v_reset", "w_in", "threshold", "delay",
)  # fmt: skip
SETTINGS = ("stride", "padding", "dilation", "groups", "start_dim", "end_dim")  # one number, or one for each axis
ROOM = 1 << 20  # bytes that integers may take beyond twice what their floats take


@dataclass(frozen=True)
class StatedProgram:
    """unsaid: what the floats of the file do not say, in words; only the integers have it."""

    program: LoihiProgram
    unsaid: tuple[str, ...]


def program_text(
    program: LoihiProgram, nodes: Mapping[str, nir.NIRNode], edges: Sequence[tuple[str, str]], unsaid: Sequence[str]
) -> str:
    """The value of PROGRAM_KEY. nodes, edges: of the graph that stands for the program in the file."""
    from safetensors.numpy import save

    tensors, header = describe(program)
    packed = zlib.compress(save({name: np.ascontiguousarray(value) for name, value in tensors.items()}))
    said = {
        "version": VERSION,
        "lavatube": __version__,
        "header": header,
        "tensors": base64.b64encode(packed).decode(),
        "graph_sha256": digest_of_graph(nodes, edges),
        "unsaid": list(unsaid),
    }
    return json.dumps(said, sort_keys=True)


def stated_program(graph: nir.NIRGraph, *, where: str) -> StatedProgram:
    """The program that a graph, read safely, carries.

    raises: UnsupportedError if someone changed the graph since; LavatubeError for metadata that is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        said = json.loads(graph.metadata[PROGRAM_KEY])
        if said["version"] != VERSION:
            what, got = "a program of another version of lavatube in the metadata", f"version {said['version']}"
            raise LavatubeError(
                what, where=where, expected=f"version {VERSION}", got=got, remedy="quantize or export again"
            )
        if odd := sorted(set(said) ^ KEYS) + sorted(set(said["header"]) ^ HEADER_KEYS):
            raise LavatubeError("unknown keys in the program's metadata", where=where, got=", ".join(odd))
        if said["graph_sha256"] != digest_of_graph(graph.nodes, graph.edges):
            raise UnsupportedError(
                "the graph was changed after export, so the integers in its metadata no longer describe it",
                where=where, remedy="export again from the program, or strip the metadata and quantize the floats",
            )  # fmt: skip
        tensors = load(_inflated(base64.b64decode(said["tensors"], validate=True), _room(graph)))
        program = program_from(tensors, said["header"], where=where)
        return StatedProgram(program, tuple(str(text) for text in said["unsaid"]))
    except (ValueError, KeyError, TypeError, AttributeError, zlib.error, RecursionError, SafetensorError) as error:
        raise LavatubeError("malformed program in the metadata", where=where, got=str(error)[:200]) from error


def source_of(program: LoihiProgram, sha256: str) -> dict[str, str]:
    """The `source` of the program that a file of that SHA-256 carries; that of the float file, if any, stays known."""
    kept = {key: text for key, text in program.source.items() if key in ("contract", "float_sha256")}
    if "contract" in kept:
        kept.setdefault("float_sha256", program.source["sha256"])
    return {"kind": "nir", "sha256": sha256, **kept}


def digest_of_graph(nodes: Mapping[str, nir.NIRNode], edges: Sequence[tuple[str, str]]) -> str:
    """SHA-256 over names, types, numbers and edges: whatever changes the network changes it."""
    arrays: dict[str, np.ndarray] = {}
    for name, node in nodes.items():
        arrays[f"{name} is {type(node).__name__}"] = np.zeros(0)
        for field in NUMBERS:
            if getattr(node, field, None) is not None:
                arrays[f"{name}.{field}"] = np.asarray(getattr(node, field), np.float64)
        for field in SETTINGS:
            value: Any = getattr(node, field, None)
            if value is not None:
                arrays[f"{name}.{field} {sorted(set(np.ravel(value).tolist()))}"] = np.zeros(0)
        if isinstance(node, (nir.Input, nir.Output)):
            arrays[f"{name}.shape"] = np.asarray(node.input_type["input"], np.float64)
    arrays |= {f"{a} -> {b}": np.zeros(0) for a, b in edges}
    return sha256_of_arrays(arrays)


def _room(graph: nir.NIRGraph) -> int:
    """Bytes that the integers of a graph can take: no more than its floats, twice."""
    sizes = (np.size(getattr(node, name, ())) for node in graph.nodes.values() for name in NUMBERS)
    return 16 * int(sum(sizes)) + ROOM


def _inflated(packed: bytes, room: int) -> bytes:
    """raises: ValueError for more than `room` bytes."""
    inflater = zlib.decompressobj()
    found = inflater.decompress(packed, room)
    if not inflater.eof:
        raise ValueError(f"integers of more than {room} bytes, or cut off")
    return found
