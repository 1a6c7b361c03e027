"""The contract in NIR's metadata: written as one JSON text, so that readers without lavatube can pass over it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import nir

from lavatube.contract import ExecutionContract
from lavatube.convert.nir_rows import NeuronRow
from lavatube.convert.to_nir import METADATA_KEY
from lavatube.errors import LavatubeError, UnsupportedError

CONTRACT_KEY = "lavatube_contract"


def write_contract(graph: nir.NIRGraph, contract: ExecutionContract) -> None:
    """State the contract of a float graph in its metadata."""
    graph.metadata = {**(graph.metadata or {}), CONTRACT_KEY: json.dumps(contract.to_json(), sort_keys=True)}


def stated_contract(metadata: Mapping[str, Any], *, where: str) -> ExecutionContract | None:
    """The contract that a graph states, ours among the quantization metadata, or None if it states none.

    raises: LavatubeError if what is stated is not a contract of this version.
    """
    text = metadata.get(CONTRACT_KEY, metadata.get(METADATA_KEY))
    if text is None:
        return None
    try:
        value = json.loads(text if isinstance(text, str) else bytes(text).decode())
        if CONTRACT_KEY not in metadata:
            _refuse_what_no_contract_says(value["nodes"], where)
            value = value["contract"]
    except (ValueError, KeyError, TypeError) as error:
        raise LavatubeError("malformed contract in the metadata", where=where, got=str(error)) from error
    return ExecutionContract.read(value, where=where)


def _refuse_what_no_contract_says(rows: Mapping[str, Mapping[str, Any]], where: str) -> None:
    """raises: UnsupportedError for registers of a quantized population that a float neuron has no field for, and for
    weights whose sums are rounded down.
    """
    usual = {name: field.default for name, field in NeuronRow.model_fields.items() if not field.is_required()}
    for node, row in rows.items():
        if row.get("headroom", 0) < 0:
            raise UnsupportedError(
                f"the sums of {node} are rounded down to whole units: floats of NIR do not say it", where=where,
                remedy="lower the file: its integers do say it",
            )  # fmt: skip
        if odd := [f"{name} {row[name]}" for name in usual if row.get(name, usual[name]) != usual[name]]:
            raise UnsupportedError(
                f"{', '.join(odd)} of {node}: floats of NIR do not say it", where=where,
                expected="neurons that are reset to zero, from rest",
                remedy="lower the file: its integers do say it",
            )  # fmt: skip
