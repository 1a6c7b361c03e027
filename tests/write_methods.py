"""Make docs/methods.md from the table of methods: what each is, where it is from, its settings, its recipes.

uv run tests/write_methods.py [FILE]
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import annotated_types
from pydantic.fields import FieldInfo

from lavatube.cli.recipe_table import row_of
from lavatube.train.extension_points import EXTENSION_POINTS
from lavatube.train.plugin import Plugin
from lavatube.train.recipe import load_recipe
from lavatube.train.recipe_file import list_recipes, read_recipe_file
from lavatube.train.recipe_model import kind_of

PAGE = Path(__file__).parents[1] / "docs" / "methods.md"
HEAD = """# Methods

Every method that a recipe can choose, by extension point, made by `uv run tests/write_methods.py` from the table
that recipes are read with; a test holds this page to it. What every method promises (nothing of it is left after
training, weight 0 changes no bit, seeds reproduce, what it needs is what lowering finds, every spike of its program is
equal) is tested for each row. What each does to accuracy, spikes, bits, energy and time is measured in
[Training](training.md#what-each-method-adds).
"""
BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}


def bounds(field: FieldInfo) -> str:
    """The tightest of the field's own bounds, in words; those of every number are left out."""
    found: dict[str, Any] = {}
    for each in field.metadata:
        for name in BOUNDS:
            if isinstance(each, getattr(annotated_types, name.capitalize())):
                found[name] = getattr(each, name)
    return ", ".join(f"{BOUNDS[name]} {value:g}" for name, value in found.items() if abs(value) < 1e6)


def settings(row: type[Plugin]) -> Iterator[str]:
    fields = {name: field for name, field in row.model_fields.items() if name != "kind"}
    if not fields:
        return
    yield from ("", "| setting | default | bounds |", "|---|---|---|")
    for name, field in fields.items():
        default = "required" if field.is_required() else f"`{field.get_default(call_default_factory=True)!r}`"
        yield f"| `{name}` | {default} | {bounds(field)} |"


def mentions(value: Any, kind: str) -> bool:
    """Whether a part of a recipe chooses this kind."""
    if isinstance(value, dict):
        return value.get("kind") == kind or any(mentions(each, kind) for each in value.values())
    return any(mentions(each, kind) for each in value) if isinstance(value, list) else value == kind


def recipes_with(point: str, kind: str) -> list[str]:
    found = []
    for name in list_recipes():
        recipe = read_recipe_file(name)
        part = recipe.get("neuron", {}).get("surrogate") if point == "surrogate" else recipe.get(point)
        if mentions(part, kind):
            found.append(name)
    return found


def entry(point: str, row: type[Plugin]) -> Iterator[str]:
    text, kind = inspect.cleandoc(row.__doc__ or ""), kind_of(row)
    yield from ("", f"### {kind}", "", "```text", text, "```")
    if row.source:
        yield from ("", f"Source: {row.source}.")
    if row.needs_teacher:
        yield from ("", "Needs a `teacher` in the recipe.")
    if needs := sorted(row.model_construct().needs):
        yield from ("", f"Needs of the target: {', '.join(needs)}.")
    yield from settings(row)
    if used := recipes_with(point, kind):
        yield from ("", "| recipe | data | should reach | deploys on |", "|---|---|---|---|")
        for facts in (row_of(load_recipe(name)) for name in used):
            yield f"| `{facts['name']}` | {facts['data']} | {facts['expected']} | {facts['deploys']} |"


def page() -> str:
    lines = [HEAD.rstrip()]
    for point, rows in EXTENSION_POINTS.items():
        lines += ["", f"## {point}"]
        for row in rows:
            assert issubclass(row, Plugin)
            lines += entry(point, row)
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1] if len(sys.argv) > 1 else PAGE).write_text(page(), encoding="utf-8")
