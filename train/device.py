"""Devices of this machine."""

from __future__ import annotations

import torch

from lavatube.errors import LavatubeError


def torch_device(name: str) -> torch.device:
    """A usable torch device. raises: LavatubeError if torch does not know it or it is not here."""
    try:
        device = torch.device(name)
        if device.type == "meta":
            raise RuntimeError("it holds no values")
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise LavatubeError(
            "device", where="torch", expected="a device of this machine", got=f"{name} ({reason})"
        ) from error
    return device
