"""Recipe files: find them, read YAML safely, and turn a failed check into one line about one key."""

from __future__ import annotations

import reprlib
from collections.abc import Collection
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from lavatube.errors import LavatubeError

Model = TypeVar("Model", bound=BaseModel)


def list_recipes() -> list[str]:
    """Names of the shipped recipes."""
    folder = files("lavatube.train") / "recipes"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def recipe_text(name_or_path: str) -> str:
    """A shipped recipe (by name) or a file, as it is written. raises: LavatubeError if none or not readable."""
    shipped = list_recipes()
    if name_or_path in shipped:
        return (files("lavatube.train") / "recipes" / f"{name_or_path}.yaml").read_text(encoding="utf-8")
    if Path(name_or_path).is_file():
        try:
            return Path(name_or_path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise LavatubeError("not readable", where=name_or_path, expected="text in UTF-8", got=str(error)) from error
    expected = "a YAML file or one of: " + ", ".join(shipped)
    raise LavatubeError("no such recipe", where=name_or_path, expected=expected)


def read_recipe_file(name_or_path: str) -> Any:
    """The YAML of a shipped recipe (by name) or of a file, unchecked. raises: LavatubeError."""
    text = recipe_text(name_or_path)
    try:
        return yaml.load(text, UniqueKeys)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        got = " ".join(str(error).split())
        raise LavatubeError("not readable as YAML", where=name_or_path, got=got) from error


class UniqueKeys(yaml.SafeLoader):
    """YAML's safe loader; a key that is there twice is an error, not the second value."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = next((key for i, key in enumerate(keys) if key in keys[:i]), None)
        if twice is not None:
            raise yaml.constructor.ConstructorError(None, None, f"key {twice!r} twice", node.start_mark)
        return super().construct_mapping(node, deep)


def parse(
    model: type[Model], value: Any, *, where: str, tags: Collection[str] = (), choices: Collection[str] = ()
) -> Model:
    """Check plain values.

    tags: of discriminated unions, which pydantic puts into the path to a key; choices: keys that hold such a union.

    raises: LavatubeError about the first bad key.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        path, kind = _without_tags(first["loc"], tags, choices), first["type"]
        if kind == "unknown_key":
            path.append(first["ctx"]["key"])
        key = ".".join(map(str, path))
        if kind == "unknown_key":
            what, expected, got = f"unknown key {key}", first["msg"], ""
        elif kind == "missing":
            what, expected, got = f"missing key {key}", "a value", "nothing"
        elif kind == "composition":
            what, expected, got = first["msg"], "", ""
        else:
            expected, got = first["msg"].replace("Input should be ", ""), reprlib.repr(first["input"])[:80]
            what = f"bad value of {key}" if key else "not a recipe"
        raise LavatubeError(what, where=where, expected=expected, got=got) from error


def _without_tags(location: tuple[int | str, ...], tags: Collection[str], choices: Collection[str]) -> list[int | str]:
    """Where an error is, in the words of the file: behind an index or a choice, pydantic puts a tag before the key."""
    return [
        part
        for i, part in enumerate(location)
        if not (i > 0 and part in tags and (isinstance(location[i - 1], int) or location[i - 1] in choices))
    ]
