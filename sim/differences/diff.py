"""lavatube diff: two runs, programs, traces or reports."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lavatube.errors import LavatubeError
from lavatube.files import read_json
from lavatube.program_file import load_program
from lavatube.sim.differences.difference import Difference, changed
from lavatube.sim.differences.programs import differences_of_programs
from lavatube.sim.differences.results import (
    differences_of_counts,
    differences_of_energy,
    differences_of_parity,
    differences_of_traces,
    differences_of_training,
)
from lavatube.trace import load_trace
from lavatube.trained import load_quantized

JSON: Mapping[str, Callable[[Any, Any], Iterator[Difference]]] = {  # kind that the file says: what compares it
    "trained-network": differences_of_training,
    "parity": differences_of_parity,
    "counts": differences_of_counts,
    "energy": differences_of_energy,
}
OF_A_FOLDER = (
    "config.json",
    "quantized.safetensors",
    "program.safetensors",
    "parity.json",
    "counts.json",
    "energy.json",
)


def diff(a: Path | str, b: Path | str) -> list[Difference]:
    """What changed from a to b: two run folders, or two files of one kind; nothing where they say the same.

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
    for name in OF_A_FOLDER:
        there = (left / name).is_file(), (right / name).is_file()
        if there[0] != there[1]:
            found.append(Difference("files", name, "is there", *there))
    return found


def _files(a: Path, b: Path) -> Iterator[Difference]:
    if a.suffix != b.suffix:
        raise LavatubeError("two kinds of files", where="diff", expected=a.suffix, got=b.suffix)
    if a.suffix == ".npz":
        yield from differences_of_traces(load_trace(a), load_trace(b))
    elif a.name == b.name == "quantized.safetensors":
        metrics = [load_quantized(path).metrics for path in (a, b)]
        yield from changed("accuracy", "quantized", *({k: m[k] for k in m if k.endswith("accuracy")} for m in metrics))
    elif a.suffix == ".safetensors":
        yield from differences_of_programs(load_program(a), load_program(b))
    elif a.suffix == ".json":
        yield from _json(a, b)
    else:
        raise LavatubeError("cannot be compared", where=str(a), expected=".safetensors, .npz or .json")


def _json(a: Path, b: Path) -> Iterator[Difference]:
    values = [read_json(path, kind="a JSON artifact") for path in (a, b)]
    kinds = [str(value.get("kind")) for value in values]
    if kinds[0] != kinds[1] or kinds[0] not in JSON:
        raise LavatubeError(
            "kinds of reports", where="diff", expected=f"two of {', '.join(JSON)}", got=" and ".join(kinds)
        )
    try:
        yield from JSON[kinds[0]](*values)
    except (KeyError, TypeError, AttributeError) as error:
        raise LavatubeError("malformed report", where=f"{a}, {b}", got=repr(error)) from error
