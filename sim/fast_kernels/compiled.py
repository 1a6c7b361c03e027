"""numba, where it is installed: compiled on first use, without the interpreter's lock, kept on disk."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock

HAS_NUMBA = find_spec("numba") is not None
F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """The function as machine code. Helpers lie in the same file as who calls them: numba's cache knows one file."""
    from numba import njit

    try:
        kernel = njit(function, nogil=True, cache=True)
    except RuntimeError:  # no folder to keep it in
        return njit(function, nogil=True)  # type: ignore[no-any-return]
    one_process_at_a_time(kernel._cache)
    return kernel  # type: ignore[no-any-return]


def one_process_at_a_time(cache: Any) -> None:
    """Numba writes index and machine code one after the other and unlocked: two processes can mix up two signatures.

    What one of them then calls is code for other types, which reads and writes where it should not.
    cache: numba's `FunctionCache`. Where its folder cannot be locked, nothing is read from it or saved in it.
    """
    lock = FileLock(Path(cache.cache_path) / f"{cache._impl.filename_base}.lock")

    def locked(method: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(method)
        def call(*given: Any) -> Any:
            try:
                lock.acquire()
            except (OSError, NotImplementedError):
                return None  # to numba: not there, or done
            try:
                return method(*given)
            finally:
                lock.release()

        return call

    cache.load_overload, cache.save_overload = locked(cache.load_overload), locked(cache.save_overload)
