"""LoihiProgram <-> program.safetensors: tensors and a JSON description in the header (docs/program.md)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from lavatube.contract import VERSION as CONTRACT_VERSION
from lavatube.contract import ExecutionContract
from lavatube.errors import LavatubeError
from lavatube.files import read_tensors, sha256_of_arrays, write_tensors
from lavatube.program import (
    Conv2dNode,
    DenseNode,
    InputNode,
    LoihiProgram,
    NeuronNode,
    Node,
    ReadoutNode,
    SparseNode,
)

KIND = "loihi-program"
SCHEMA = "1.0"
NODE_TYPES: dict[str, type[Node]] = {
    cls.kind: cls for cls in (InputNode, DenseNode, SparseNode, Conv2dNode, NeuronNode, ReadoutNode)
}
HEADER_KEYS = {
    "kind", "schema", "num_steps", "overflow", "target", "contract", "source", "scales", "lossy", "nodes", "edges",
    "tensors_sha256",
}  # fmt: skip


def describe(program: LoihiProgram) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """(tensors, header) of a program."""
    tensors: dict[str, np.ndarray] = {}
    nodes = []
    for node in program.nodes:
        row: dict[str, Any] = {"kind": node.kind}
        for field in fields(node):
            value = getattr(node, field.name)
            if isinstance(value, np.ndarray):
                tensors[f"{node.name}.{field.name}"] = value
            else:
                row[field.name] = list(value) if isinstance(value, tuple) else value
        nodes.append(row)
    header = {
        "kind": KIND,
        "schema": SCHEMA,
        "num_steps": program.num_steps,
        "overflow": program.overflow,
        "target": program.target,
        "contract": program.contract.to_json(),
        "source": dict(program.source),
        "scales": dict(program.scales),
        "lossy": [dict(record) for record in program.lossy],
        "nodes": nodes,
        "edges": [list(edge) for edge in program.edges],
        "tensors_sha256": sha256_of_arrays(tensors),
    }
    return tensors, header


def program_sha256(program: LoihiProgram) -> str:
    """Hash of what a program says, independent of file layout and of the overflow mode, which changes no spike."""
    header = {key: value for key, value in describe(program)[1].items() if key != "overflow"}
    return hashlib.sha256(json.dumps(header, sort_keys=True).encode()).hexdigest()


def save_program(program: LoihiProgram, path: Path) -> None:
    """Write `program.safetensors`, whole or not at all."""
    write_tensors(path, *describe(program))


def load_program(path: Path) -> LoihiProgram:
    """Read and check a program file.

    raises: LavatubeError naming the file, the node and the rule when anything is missing, unknown or out of range.
    """
    tensors, header = read_tensors(path, kind=KIND)
    return program_from(tensors, header, where=str(path))


def program_from(tensors: Mapping[str, np.ndarray], header: Mapping[str, Any], *, where: str) -> LoihiProgram:
    """The program of what `describe` gives, checked. raises: as `load_program`."""
    if header.get("schema") != SCHEMA:
        got = repr(header.get("schema"))
        raise LavatubeError("unknown program schema", where=where, expected=SCHEMA, got=got, remedy="lower it again")
    if set(header) != HEADER_KEYS:
        odd = ", ".join(sorted(set(header) ^ HEADER_KEYS))
        raise LavatubeError("header has missing or unknown keys", where=where, got=odd)
    if isinstance(header["contract"], Mapping) and header["contract"].get("version") != CONTRACT_VERSION:
        got = f"version {str(header['contract'].get('version'))[:20]}"
        raise LavatubeError(
            "a program of another version of the execution contract", where=where,
            expected=f"version {CONTRACT_VERSION}", got=got, remedy="lower it again",
        )  # fmt: skip
    if sha256_of_arrays(tensors) != header["tensors_sha256"]:
        raise LavatubeError("tensors do not match their checksum", where=where, remedy="lower it again")
    try:
        nodes = tuple(_node(row, tensors, where) for row in header["nodes"])
        if unused := sorted(set(tensors) - {f"{node.name}.{name}" for node in nodes for name in _arrays(type(node))}):
            raise LavatubeError("tensors of no node", got=", ".join(unused)[:200])
        return LoihiProgram(
            nodes=nodes,
            edges=tuple((str(a), str(b)) for a, b in header["edges"]),
            num_steps=header["num_steps"],
            source=dict(header["source"]),
            scales={str(k): float(v) for k, v in header["scales"].items()},
            lossy=tuple(dict(record) for record in header["lossy"]),
            overflow=header["overflow"],
            target=str(header["target"]),
            contract=ExecutionContract.from_json(header["contract"], where=where),
        )
    except LavatubeError as error:
        raise type(error)(str(error), where=where) from error
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise LavatubeError("malformed description", where=where, got=str(error)) from error


def _node(row: Mapping[str, Any], tensors: Mapping[str, np.ndarray], path: str) -> Node:
    kind, name = row.get("kind"), row.get("name")
    if kind not in NODE_TYPES or not isinstance(name, str):
        known = ", ".join(NODE_TYPES)
        raise LavatubeError("unknown node", where=path, expected=known, got=f"{kind!r} named {name!r}")
    cls = NODE_TYPES[kind]
    values: dict[str, Any] = {}
    for field in fields(cls):
        tensor = f"{name}.{field.name}"
        if field.type == "np.ndarray" and tensor in tensors:
            values[field.name] = tensors[tensor]
        elif field.name in row:
            value = row[field.name]
            values[field.name] = tuple(value) if isinstance(value, list) else value
        else:
            raise LavatubeError(f"field {field.name} is missing", where=name)
    given = {array for array in _arrays(cls) if f"{name}.{array}" in tensors}
    unknown = set(row) - {field.name for field in fields(cls) if field.name not in given} - {"kind"}
    if unknown:
        raise LavatubeError("unknown fields", where=name, got=", ".join(sorted(unknown)))
    return cls(**values)


def _arrays(cls: type[Node]) -> list[str]:
    """The fields of a kind of node that are tensors."""
    return [field.name for field in fields(cls) if field.type == "np.ndarray"]
