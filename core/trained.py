"""The hand-overs that carry weights before the chip: TrainedNetwork (float) and QuantizedNetwork (integer-exact)."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lavatube.errors import LavatubeError
from lavatube.files import read_json, read_tensors, sha256_of_arrays, sha256_of_file, write_json, write_tensors

TRAINED = "trained-network"
QUANTIZED = "quantized-network"
QUANTIZED_VERSION = 3  # 2 had only its layout and its tensors under the checksum; such files are read still


@dataclass(frozen=True)
class TrainedNetwork:
    """A float network without anything training-only. Files: model.safetensors + config.json.

    recipe:  the complete resolved recipe.
    tensors: state of the plain network by parameter name.
    metrics: accuracies and run facts, JSON values.
    """

    recipe: Mapping[str, Any]
    tensors: Mapping[str, np.ndarray]
    metrics: Mapping[str, Any]


@dataclass(frozen=True)
class QuantizedNetwork:
    """The quantization-aware checkpoint: what the torch side of parity runs. File: quantized.safetensors.

    recipe:  of the trained network.
    layout:  per layer, the integers that are not weights: decays, thresholds, exponents, scales, geometry.
    tensors: master weights and biases by parameter name.
    lossy:   every rounding and clamp of the quantization, one record each.
    metrics: accuracies before and after, JSON values.
    """

    recipe: Mapping[str, Any]
    layout: Mapping[str, Any]
    tensors: Mapping[str, np.ndarray]
    lossy: tuple[Mapping[str, Any], ...]
    metrics: Mapping[str, Any]


def save_trained(network: TrainedNetwork, folder: Path) -> None:
    """Write model.safetensors, then config.json: the second file says that the first is whole."""
    header = {"kind": TRAINED, "recipe_sha256": _recipe_sha256(network.recipe)}
    write_tensors(folder / "model.safetensors", network.tensors, header)
    write_json(
        folder / "config.json",
        {
            "kind": TRAINED,
            "recipe": dict(network.recipe),
            "metrics": dict(network.metrics),
            "model_sha256": sha256_of_file(folder / "model.safetensors"),
        },
    )


def load_trained(folder: Path) -> TrainedNetwork:
    """Read a run folder. raises: LavatubeError if it is not one, or its files do not belong together."""
    config, tensors, stated = _read_run(folder)
    if stated is None:
        remedy = "train it again, or, if nobody has changed its config.json: "
        remedy += "python -c " + shlex.quote(f"from lavatube.trained import adopt; adopt({str(folder)!r})")
        what = "a run of an earlier version of lavatube, which kept no digest of the recipe that it trained"
        raise LavatubeError(what, where=str(folder), remedy=remedy)
    if stated != _recipe_sha256(config["recipe"]):
        remedy = "a trained network keeps its recipe: train another one with the changed recipe"
        raise LavatubeError("config.json holds another recipe than was trained", where=str(folder), remedy=remedy)
    return TrainedNetwork(config["recipe"], tensors, config.get("metrics", {}))


def adopt(folder: Path | str) -> None:
    """Take the recipe in config.json for the one that a run was trained with, and note its digest there.

    For a run folder of an earlier version, which kept none; what was made from the run stays valid.
    raises: LavatubeError if it is no run folder, has a digest, or its model is not the one that config.json describes.
    """
    config, _, stated = _read_run(Path(folder))
    if stated is not None:
        raise LavatubeError("this run has a digest of its recipe", where=str(folder), remedy="use it as it is")
    write_json(Path(folder) / "config.json", {**config, "recipe_sha256": _recipe_sha256(config["recipe"])})


def _read_run(folder: Path) -> tuple[dict[str, Any], dict[str, np.ndarray], object]:
    """(config.json, tensors, digest of the recipe that was trained); None: of a version that kept none."""
    config = read_json(folder / "config.json", kind=f"config.json of a {TRAINED}")
    tensors, header = read_tensors(folder / "model.safetensors", kind=TRAINED)
    if config.get("kind") != TRAINED or not isinstance(config.get("recipe"), dict):
        raise LavatubeError(
            "not a run folder", where=str(folder / "config.json"), expected=TRAINED, got=str(config.get("kind"))
        )
    if config.get("model_sha256") != sha256_of_file(folder / "model.safetensors"):
        raise LavatubeError("model.safetensors is not the one that config.json describes", where=str(folder))
    return config, tensors, header.get("recipe_sha256", config.get("recipe_sha256"))


def save_quantized(network: QuantizedNetwork, path: Path) -> None:
    """Write quantized.safetensors; its header holds everything but the tensors."""
    header = {
        "kind": QUANTIZED,
        "version": QUANTIZED_VERSION,
        "recipe": dict(network.recipe),
        "layout": dict(network.layout),
        "lossy": [dict(record) for record in network.lossy],
        "metrics": dict(network.metrics),
    }
    write_tensors(path, network.tensors, header | {"sha256": _digest(header, network.tensors)})


def load_quantized(path: Path) -> QuantizedNetwork:
    """Read quantized.safetensors. raises: LavatubeError."""
    tensors, header = read_tensors(path, kind=QUANTIZED)
    if (version := header.get("version")) not in (2, QUANTIZED_VERSION):
        what, remedy = "a quantized network of another version of lavatube", "lavatube quantize --overwrite"
        expected = f"version {QUANTIZED_VERSION}"
        raise LavatubeError(what, where=str(path), expected=expected, got=str(version), remedy=remedy)
    try:
        said = {key: value for key, value in header.items() if key != "sha256"} if version > 2 else header["layout"]
        if header["sha256"] != _digest(said, tensors):
            remedy = "damaged or changed by hand: lavatube quantize --overwrite"
            raise LavatubeError("header or tensors do not match their checksum", where=str(path), remedy=remedy)
        return QuantizedNetwork(header["recipe"], header["layout"], tensors, tuple(header["lossy"]), header["metrics"])
    except (KeyError, TypeError) as error:
        raise LavatubeError("malformed header", where=str(path), expected=QUANTIZED, got=str(error)) from error


def _recipe_sha256(recipe: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()


def _digest(said: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> str:
    return hashlib.sha256(f"{json.dumps(said, sort_keys=True)}|{sha256_of_arrays(tensors)}".encode()).hexdigest()
