"""The shipped recipes as a table: what they train, what they should reach, and whether they deploy."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from lavatube.cli.output import console, print_json
from lavatube.targets import OFFERS
from lavatube.train.recipe import Recipe, list_recipes, load_recipe


def print_recipes(*, as_json: bool) -> None:
    """On stdout."""
    rows = [row_of(load_recipe(name)) for name in list_recipes()]
    if as_json:
        print_json(rows)
        return
    table = Table()
    table.add_column("recipe", no_wrap=True)
    for title in ("data", "network", "T", "gradient", "should reach", "deploys"):
        table.add_column(title)
    for row in rows:
        table.add_row(
            *(str(row[key]) for key in ("name", "data", "network", "num_steps", "gradient", "expected", "deploys"))
        )
    console().print(table)


def row_of(recipe: Recipe) -> dict[str, Any]:
    """What the table says of a recipe, JSON values."""
    gradient = recipe.gradient.model_dump()
    return {
        "name": recipe.name,
        "data": recipe.data.name,
        "network": recipe.network.kind,
        "num_steps": recipe.num_steps,
        "gradient": " ".join([gradient["kind"], *([gradient["form"]] if "form" in gradient else [])]),
        "expected": f"{recipe.expected.test_accuracy} %" if recipe.expected else "-",
        "source": recipe.expected.source if recipe.expected else None,
        "needs": sorted(recipe.needs),
        "deploys": deploys(recipe),
    }


def deploys(recipe: Recipe) -> str:
    """Onto which targets; or what no target offers yet."""
    targets = [target for target, offered in OFFERS.items() if recipe.needs <= offered]
    missing = recipe.needs - frozenset().union(*OFFERS.values())
    return ", ".join(targets) if targets else "no: needs " + ", ".join(sorted(missing or recipe.needs))
