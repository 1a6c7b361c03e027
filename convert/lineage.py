"""Whether the files of a run folder were made from one another."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from lavatube.convert.from_nir import read_quantized_nir
from lavatube.errors import LavatubeError
from lavatube.files import sha256_of_file
from lavatube.program_file import load_program
from lavatube.trained import load_quantized

# file: (what it was made from, the SHA-256 that it remembers of it, the command that makes it)
LINKS: Mapping[str, tuple[str, Callable[[Path], object], str]] = {
    "quantized.safetensors": (
        "model.safetensors", lambda path: load_quantized(path).metrics.get("model_sha256"), "quantize --overwrite"
    ),
    "model.nir": ("quantized.safetensors", lambda path: read_quantized_nir(path).source_sha256, "export"),
    "program.safetensors": ("model.nir", lambda path: load_program(path).source["sha256"], "lower"),
}  # fmt: skip


def is_current(folder: Path, name: str) -> bool:
    """Whether a file of the folder was made from the file before it that is there now."""
    origin, remembered, _ = LINKS[name]
    return bool(remembered(folder / name) == sha256_of_file(folder / origin))


def refuse_stale(folder: Path, names: Collection[str] = tuple(LINKS)) -> None:
    """raises: LavatubeError naming the first file of the folder that was made from another one than is there."""
    for name in names:
        origin, _, command = LINKS[name]
        if (folder / name).is_file() and (folder / origin).is_file() and not is_current(folder, name):
            raise LavatubeError(
                f"{name} was not made from the {origin} beside it",
                where=str(folder),
                remedy=f"make it again: lavatube {command}",
            )
