"""Files that are either whole or absent: written beside their target, then renamed; loaded with one clear error."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from lavatube.errors import LavatubeError


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; rename it to `path` only if the block succeeds.

    raises: LavatubeError if the folder cannot be made or written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
        os.close(handle)
    except OSError as error:
        raise LavatubeError(
            f"cannot write here ({error.strerror or error})", where=str(path), remedy="choose a writable folder"
        ) from error
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise LavatubeError(f"cannot write this file ({error.strerror or error})", where=str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write JSON with a stable key order."""
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: Path, *, kind: str) -> dict[str, Any]:
    """Read a JSON object. `kind` says what the file should be, for the error."""
    require_file(path, kind=kind)
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"), parse_constant=_no_number)
    except (OSError, ValueError, RecursionError) as error:
        raise LavatubeError("not readable as JSON", where=str(path), expected=kind, got=str(error)) from error
    if not isinstance(value, dict):
        raise LavatubeError("wrong JSON", where=str(path), expected=f"an object ({kind})", got=type(value).__name__)
    return value


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def write_tensors(path: Path, tensors: Mapping[str, np.ndarray], header: Mapping[str, Any]) -> None:
    """Write a safetensors file; `header` goes into its metadata as JSON under the key `lavatube`."""
    from safetensors.numpy import save

    contiguous = {name: np.asarray(value, order="C") for name, value in sorted(tensors.items())}  # shape () stays
    payload = save(contiguous, metadata={"lavatube": json.dumps(header, sort_keys=True)})
    with whole_file(path) as temporary:
        temporary.write_bytes(payload)


def read_tensors(path: Path, *, kind: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read what `write_tensors` wrote: (tensors, header).

    raises: LavatubeError if the file is missing, truncated, foreign or its header is not a JSON object.
    """
    from safetensors import SafetensorError, safe_open

    require_file(path, kind=kind)
    try:
        with safe_open(str(path), framework="np") as opened:
            header = json.loads((opened.metadata() or {})["lavatube"])
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}
    except KeyError as error:
        raise LavatubeError("not written by lavatube", where=str(path), expected=kind, got="foreign file") from error
    except (SafetensorError, OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise LavatubeError("damaged or foreign file", where=str(path), expected=kind, got=str(error)) from error
    if not isinstance(header, dict):
        raise LavatubeError("wrong header", where=str(path), expected=kind, got=type(header).__name__)
    if header.get("kind") != kind:
        raise LavatubeError("wrong kind of file", where=str(path), expected=kind, got=repr(header.get("kind")))
    return tensors, header


def require_writable(folder: Path, *, keep: bool = True) -> None:
    """Make the folder that results will go to, before the work is done. raises: LavatubeError if that cannot be.

    keep: else folders that were not there are gone again, for whoever makes them when writing (`whole_file`).
    """
    absent = [each for each in (Path(folder), *Path(folder).parents) if not each.exists()]
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        what = f"cannot write here ({error.strerror or error})"
        raise LavatubeError(what, where=str(folder), remedy="choose a writable folder") from error
    finally:
        for each in () if keep else absent:
            with suppress(OSError):  # not made, or someone else's file is in it by now
                each.rmdir()


def require_writable_file(path: Path) -> None:
    """Whether a file can be written there, before the work is done. raises: LavatubeError if not; leaves no folder."""
    if Path(path).is_dir():
        raise LavatubeError("cannot write here (a folder)", where=str(path), expected="a file name")
    require_writable(Path(path).parent, keep=False)


def refuse_same_file(**paths: object) -> None:
    """Of the paths among these, by what they are for: no two may be one file, else a result replaces what was read.

    raises: LavatubeError naming both; links are followed.
    """
    found: dict[str, str] = {}
    for what, path in paths.items():
        if isinstance(path, (str, Path)):
            place = os.path.normcase(os.path.realpath(path))
            if place in found:
                raise LavatubeError(f"{found[place]} and {what} are one file", where=str(path), expected="two files")
            found[place] = what


def require_file(path: Path, *, kind: str) -> None:
    """Refuse a path that is not a file."""
    if not Path(path).is_file():
        got = "a folder" if Path(path).is_dir() else "nothing"
        raise LavatubeError("no such file", where=str(path), expected=kind, got=got)


def sha256_of_file(path: Path) -> str:
    """SHA-256 of the bytes of a file, in hex."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def sha256_of_arrays(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 over names, dtypes, shapes and bytes of the arrays in name order, in hex."""
    digest = hashlib.sha256()
    for name, value in sorted(arrays.items()):
        value = np.ascontiguousarray(value)
        digest.update(f"{name}|{value.dtype.str}|{value.shape}|".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()
