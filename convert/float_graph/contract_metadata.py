"""The contract in NIR's metadata: written as one JSON text, so that readers without lavatube can pass over it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import nir

from lavatube.contract import ExecutionContract
from lavatube.convert.to_nir import METADATA_KEY
from lavatube.errors import LavatubeError

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
            value = value["contract"]
    except (ValueError, KeyError, TypeError) as error:
        raise LavatubeError("malformed contract in the metadata", where=where, got=str(error)) from error
    return ExecutionContract.read(value, where=where)
