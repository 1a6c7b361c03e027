"""Tables that the package ships as JSON files: chosen by name, or a file of the user's own in their place."""

from __future__ import annotations

from pathlib import Path

from lavatube.errors import LavatubeError


def list_shipped(folder: Path) -> list[str]:
    """Names of the tables in a folder of the package."""
    return sorted(path.stem for path in folder.glob("*.json"))


def find_shipped(folder: Path, name: str | Path, *, what: str) -> Path:
    """The file of a shipped table, else `name` itself. raises: LavatubeError listing the names."""
    names = list_shipped(folder)
    path = folder / f"{name}.json" if str(name) in names else Path(name)
    if not path.is_file():
        raise LavatubeError(f"no such {what}", expected="a JSON file or one of " + ", ".join(names), got=str(name))
    return path
