"""lavatube diff: two runs, programs, traces or reports."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lavatube.errors import LavatubeError
from lavatube.files import read_json, read_tensors, sha256_of_file
from lavatube.program_file import load_program
from lavatube.sim.differences.difference import Difference
from lavatube.sim.differences.flat import differences_of_json
from lavatube.sim.differences.programs import differences_of_programs
from lavatube.sim.differences.results import (
    differences_of_histories,
    differences_of_tensors,
    differences_of_traces,
)
from lavatube.trace import load_trace
from lavatube.trained import TRAINED, load_quantized

JSON = {TRAINED: "training", "parity": "parity", "counts": "counts", "energy": "energy"}  # kind of a file: the part
OF_A_FOLDER = (
    "config.json",
    "history.csv",
    "model.safetensors",
    "quantized.safetensors",
    "program.safetensors",
    "parity.json",
    "counts.json",
    "energy.json",
)
LEFT_OUT = ("report.html",)  # says what the other files say


def diff(a: Path | str, b: Path | str) -> list[Difference]:
    """What changed from a to b: two run folders, or two files of one kind; nothing where they say the same.

    Other files of a folder are compared by their SHA-256; hidden files, folders and the page are left out.
    raises: LavatubeError if they are of two kinds, of a kind that cannot be compared, or have nothing in common.
    """
    left, right = Path(a), Path(b)
    if left.is_dir() != right.is_dir():
        raise LavatubeError("a folder and a file", where="diff", expected="two folders or two files")
    if not left.is_dir():
        return list(_files(left, right))
    both = [name for name in OF_A_FOLDER if (left / name).is_file() and (right / name).is_file()]
    if not both:
        raise LavatubeError("nothing in common", where=f"{left}, {right}", expected=", ".join(OF_A_FOLDER))
    found = [each for name in both for each in _files(left / name, right / name)]
    for name in sorted(_names(left) | _names(right)):
        there = (left / name).is_file(), (right / name).is_file()
        if there[0] != there[1]:
            found.append(Difference("files", name, "is there", *there))
        elif name not in both:
            found += _others(left / name, right / name)
    return found


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_file() and path.name[0] != "."} - {*LEFT_OUT}


def _others(a: Path, b: Path) -> Iterator[Difference]:
    """Two files of unknown kind: as traces if they are, else by their bytes."""
    hashes = [sha256_of_file(path) for path in (a, b)]
    if hashes[0] == hashes[1]:
        return
    try:
        traces = [load_trace(path) for path in (a, b) if a.suffix == ".npz" and a.name != "input.npz"]
    except LavatubeError:
        traces = []
    if traces:
        yield from differences_of_traces(*traces)
    else:
        yield Difference("files", a.name, "SHA-256", *hashes)


def _files(a: Path, b: Path) -> Iterator[Difference]:
    if a.suffix != b.suffix:
        raise LavatubeError("two kinds of files", where="diff", expected=a.suffix, got=b.suffix)
    if a.suffix == ".npz":
        yield from differences_of_traces(load_trace(a), load_trace(b))
    elif a.name == b.name == "quantized.safetensors":
        networks = [load_quantized(path) for path in (a, b)]
        yield from differences_of_tensors(*(network.tensors for network in networks))
        parts = ("metrics", "layout", "lossy", "recipe")
        yield from differences_of_json("quantized", *({p: getattr(each, p) for p in parts} for each in networks))
    elif a.name == b.name == "model.safetensors":
        yield from differences_of_tensors(*(read_tensors(path, kind=TRAINED)[0] for path in (a, b)))
    elif a.suffix == ".safetensors":
        yield from differences_of_programs(load_program(a), load_program(b))
    elif a.suffix == ".json":
        yield from _json(a, b)
    elif a.name == b.name == "history.csv":
        yield from differences_of_histories(a, b)
    else:
        raise LavatubeError("cannot be compared", where=str(a), expected=".safetensors, .npz or .json")


def _json(a: Path, b: Path) -> Iterator[Difference]:
    values = [read_json(path, kind="a JSON artifact") for path in (a, b)]
    kinds = [str(value.get("kind")) for value in values]
    if kinds[0] != kinds[1] or kinds[0] not in JSON:
        raise LavatubeError(
            "kinds of reports", where="diff", expected=f"two of {', '.join(JSON)}", got=" and ".join(kinds)
        )
    yield from differences_of_json(JSON[kinds[0]], *values)
