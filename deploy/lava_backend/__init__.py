"""LoihiProgram -> connected Lava processes, inside a Python 3.10 that has lava-nc 0.10.0."""

from __future__ import annotations

from typing import Any

__all__ = ["build"]


def __getattr__(name: str) -> Any:
    if name != "build":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from lavatube.deploy.lava_backend.build_network import build

    return build
