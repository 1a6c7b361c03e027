"""Checkpoints between epochs: one safetensors file with a JSON header, whole or absent. No pickle."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import nn

from lavatube.errors import LavatubeError
from lavatube.files import read_tensors, sha256_of_arrays, write_tensors

KIND = "checkpoint"


def checkpoint_path(folder: Path) -> Path:
    """Where a run folder keeps its checkpoint."""
    return Path(folder) / "checkpoint" / "checkpoint.safetensors"


def save_checkpoint(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    epoch: int,
    made_of: dict[str, str],
    seconds: float,
    scaler: torch.amp.GradScaler | None = None,
) -> None:
    """Write all that the epochs after `epoch` depend on.

    model: everything that trains, with its branches; made_of: SHA-256 of "recipe", "data set" and "teacher";
    scaler: of an fp16 loss.
    The learning rate, the order of the samples and their shifts follow from recipe and epoch: there is no other state.
    """
    tensors = {f"model/{name}": _array(value) for name, value in model.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{key}": _array(value) for key, value in state.items() if value is not None}
    scaling = {} if scaler is None else {"scaler": scaler.state_dict()}
    header = {"kind": KIND, "epoch": epoch, "made_of": made_of, "seconds": seconds, **scaling}
    write_tensors(path, tensors, {**header, "tensors_sha256": sha256_of_arrays(tensors)})


def load_checkpoint(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    made_of: dict[str, str],
    epochs: int,
    scaler: torch.amp.GradScaler | None = None,
) -> tuple[int, float]:
    """Continue from a checkpoint: fills model, optimizer and scaler, returns (epochs done, seconds spent).

    made_of: as saved; epochs: of the whole run. raises: LavatubeError if the file is damaged, belongs to another
    recipe, data set or teacher, or lacks what an earlier version did not keep.
    """
    tensors, header = read_tensors(path, kind=KIND)
    epoch, seconds = header.get("epoch"), header.get("seconds")
    found = header.get("made_of")
    if not isinstance(found, dict):
        what = "a checkpoint of an earlier version of lavatube, which does not say of what it was made"
        remedy = "--restart to discard it, or finish the run with that version"
        raise LavatubeError(what, where=str(path), remedy=remedy)
    if others := [name for name in {**made_of, **found} if made_of.get(name) != found.get(name)]:
        raise LavatubeError(
            "checkpoint of another " + ", of another ".join(others),
            where=str(path),
            expected=", ".join(f"{name} {made_of.get(name, 'none')[:12]}" for name in others),
            got=", ".join(str(found.get(name, "none"))[:12] for name in others),
            remedy="choose another folder, or --restart to discard it",
        )
    if header.get("tensors_sha256") != sha256_of_arrays(tensors):
        raise LavatubeError("damaged checkpoint", where=str(path), got="tensors that do not match their checksum")
    if (
        type(epoch) is not int
        or not 1 <= epoch <= epochs
        or not isinstance(seconds, int | float)
        or not math.isfinite(seconds)
    ):
        raise LavatubeError("damaged checkpoint", where=str(path), got=f"epoch {epoch!r}, seconds {seconds!r}")
    if scaler is not None and not isinstance(header.get("scaler"), dict):
        what, remedy = (
            "a checkpoint of an earlier version of lavatube, which kept no scale of an fp16 loss",
            "--restart",
        )
        raise LavatubeError(what, where=str(path), remedy=f"{remedy}, or finish the run with that version")
    try:
        model.load_state_dict(_below("model/", tensors))
        state: dict[int, dict[str, torch.Tensor]] = {}
        for name, value in _below("optimizer/", tensors).items():
            index, key = name.split("/")
            state.setdefault(int(index), {})[key] = value
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
        if scaler is not None:
            scaler.load_state_dict(header["scaler"])
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        raise LavatubeError("checkpoint does not fit this network", where=str(path), got=str(error)) from error
    return epoch, float(seconds)


def _array(value: Any) -> NDArray[Any]:
    return torch.as_tensor(value).detach().cpu().numpy()


def _below(prefix: str, tensors: dict[str, NDArray[Any]]) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): torch.tensor(a) for name, a in tensors.items() if name.startswith(prefix)}
