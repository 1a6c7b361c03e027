"""numba, where it is installed: compiled on first use, without the interpreter's lock, kept on disk."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, TypeVar

HAS_NUMBA = find_spec("numba") is not None
F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """The function as machine code. Helpers lie in the same file as who calls them: numba's cache knows one file."""
    from numba import njit

    try:
        return njit(function, nogil=True, cache=True)  # type: ignore[no-any-return]
    except RuntimeError:  # no folder to keep it in
        return njit(function, nogil=True)  # type: ignore[no-any-return]
