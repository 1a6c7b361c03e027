"""Packages that only some features need, imported where they are used."""

from __future__ import annotations

import importlib
from types import ModuleType

from lavatube.errors import LavatubeError


def optional_package(name: str, *, extra: str, purpose: str) -> ModuleType:
    """Import a package of one of our extras. raises: LavatubeError that names the extra, if it is not there."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        what = f"{purpose} needs the package {name}"
        raise LavatubeError(what, got=str(error), remedy=f"pip install 'lavatube[{extra}]'") from error
