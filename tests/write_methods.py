"""Make docs/methods.md from the table of methods: what each is, where it is from, its settings, its recipes.

And the names of the kinds in the first table of docs/training.md.

uv run tests/write_methods.py [FILE]
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.resources import files
from itertools import takewhile
from pathlib import Path
from typing import Any

import annotated_types
from pydantic.fields import FieldInfo

from lavatube.cli.recipe_table import row_of
from lavatube.train.extension_points import EXTENSION_POINTS
from lavatube.train.neuron import NeuronSpec
from lavatube.train.plugin import Plugin
from lavatube.train.recipe import load_recipe
from lavatube.train.recipe_file import list_recipes, read_recipe_file
from lavatube.train.recipe_model import Strict, kind_of

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
import method_table
from method_arms import ARMS, BESIDE
from method_arms import recipe as arm_recipe

PAGE = Path(__file__).parents[1] / "docs" / "methods.md"
TRAINING = PAGE.with_name("training.md")
OPTIONAL = ("weight", "normalization", "sparsity")  # may be null
HEAD = """# Methods

Every method that a recipe can choose, by extension point, made by `uv run tests/write_methods.py` from the table
that recipes are read with; a test holds this page to it. What every method promises (nothing of it is left after
training, weight 0 changes no bit, seeds reproduce, what it needs is what lowering finds, every spike of its program is
equal) is tested for each row. What those that were measured do to accuracy, spikes, bits and energy is in
[Training](training.md#what-each-method-adds).
"""
TOGETHER = {  # methods that are no kind of their own, but several with their settings: by the recipe that has them
    "ReverB-SNN": "digits-reverb",
    "SEI-BWSNN": "digits-bireal",
    "Structure learning with reverse distillation": "digits-reverse-distillation",
    "Conversion with error compensation": "digits-conversion",
}
BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}


def bounds(field: FieldInfo) -> str:
    """The tightest of the field's own bounds, in words; those of every number are left out."""
    found: dict[str, Any] = {}
    for each in field.metadata:
        for name in BOUNDS:
            if isinstance(each, getattr(annotated_types, name.capitalize())):
                found[name] = getattr(each, name)
    return ", ".join(f"{BOUNDS[name]} {value:g}" for name, value in found.items() if abs(value) < 1e6)


def settings(row: type[Strict], *left_out: str) -> Iterator[str]:
    fields = {name: field for name, field in row.model_fields.items() if name not in ("kind", *left_out)}
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


read = cache(read_recipe_file)  # slow, and wanted for each kind
facts_of = cache(lambda name: row_of(load_recipe(name)))


def has(recipe: dict[str, Any], point: str, kind: str) -> bool:
    neuron = recipe.get("neuron", {})
    return mentions(neuron.get("surrogate") if point == "surrogate" else recipe.get(point), kind)


def recipes_with(point: str, kind: str) -> list[str]:
    return [name for name in list_recipes() if has(read(name), point, kind)]


def measured(point: str, kind: str) -> Iterator[str]:
    """The rows of the benchmark's table that show this method, and those beside which they do."""
    made = {arm: arm_recipe(arm, "", 0, epochs=1, lr=1.0, teacher="") for arm in ARMS}
    beside = {arm: BESIDE.get(arm, "BPTT") for arm in ARMS}
    points = method_table.read(method_table.RESULTS)
    there = {row["method"] for row in points}
    arms = [
        arm
        for arm, other in beside.items()
        if other is not None
        and {arm, other} <= there
        and has(made[arm], point, kind)
        and not has(made[other], point, kind)
        and (
            point != "surrogate" or all(made[arm][key] == made[other].get(key) for key in made[arm] if key != "neuron")
        )
    ]
    if arms:
        rows = [row for row in points if row["method"] in (*arms, *(beside[arm] for arm in arms))]
        said = "Measured, beside an arm without it; what else differs is in `benchmarks/method_arms.py`"
        yield from ("", f"{said} ([all](training.md#what-each-method-adds)):", "")
        yield method_table.table(rows).rstrip()


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
        yield from recipes(used)
    yield from measured(point, kind)


def recipes(names: Iterable[str]) -> Iterator[str]:
    yield from ("", "[Recipes](#recipes): " + ", ".join(f"`{name}`" for name in names) + ".")


def table_of_recipes() -> Iterator[str]:
    yield from ("", "## Recipes", "", "| recipe | data | should reach | deploys on |", "|---|---|---|---|")
    for facts in map(facts_of, list_recipes()):
        reach = f"{facts['expected']}, not run here" if facts["run_here"] is False else facts["expected"]
        yield f"| `{facts['name']}` | {facts['data']} | {reach} | {facts['deploys']} |"


def of_several(title: str, name: str) -> Iterator[str]:
    """A method that is a recipe: what its file says at the top, and the kinds that it names."""
    text = (files("lavatube.train") / "recipes" / f"{name}.yaml").read_text(encoding="utf-8")
    head = takewhile(lambda line: line.startswith("# "), text.splitlines())
    kinds = [
        f"{point} [{kind}](#{kind})"
        for point, rows in EXTENSION_POINTS.items()
        for kind in map(kind_of, rows)
        if name in recipes_with(point, kind)
    ]
    yield from ("", f"### {title}", "", "```text", *(line[2:] for line in head), "```")
    yield from ("", "Made of " + ", ".join(kinds) + ", and a [neuron](#neuron).")
    yield from recipes([name])


def page() -> str:
    lines = [HEAD.rstrip(), "", "## Methods that are recipes"]
    for title, name in TOGETHER.items():
        lines += of_several(title, name)
    lines += ["", "## neuron", "", "```text", inspect.cleandoc(NeuronSpec.__doc__ or ""), "```"]
    lines += settings(NeuronSpec, "surrogate", "decay_asked", "dv")
    for point, rows in EXTENSION_POINTS.items():
        lines += ["", f"## {point}"]
        for row in rows:
            assert issubclass(row, Plugin)
            lines += entry(point, row)
    lines += table_of_recipes()
    return "\n".join(lines) + "\n"


def with_kinds(text: str) -> str:
    """Of training.md, with the kinds that there are in the rows of its first table."""
    for point, rows in EXTENSION_POINTS.items():
        key = "neuron.surrogate" if point == "surrogate" else point
        names = {taught: [f"`{kind_of(row)}`" for row in rows if _taught(row) == taught] for taught in (False, True)}
        cell = ", ".join([*names[False], *(["`null`"] if point in OPTIONAL else [])])
        cell += "; with a teacher " + ", ".join(names[True]) if names[True] else ""
        text, count = re.subn(rf"^\| `{re.escape(key)}` \| [^|]* \|", f"| `{key}` | {cell} |", text, flags=re.MULTILINE)
        assert count == 1, key
    return text


def _taught(row: type[Strict]) -> bool:
    assert issubclass(row, Plugin)
    return row.needs_teacher


if __name__ == "__main__":
    if len(sys.argv) < 2:
        TRAINING.write_text(with_kinds(TRAINING.read_text(encoding="utf-8")), encoding="utf-8")
    Path(sys.argv[1] if len(sys.argv) > 1 else PAGE).write_text(page(), encoding="utf-8")
