"""The shipped recipes as a table: what they train, what they should reach, and whether they deploy."""

from __future__ import annotations

from typing import Any

from rich.box import SIMPLE
from rich.table import Table

from lavatube.cli.output import console, print_json
from lavatube.targets import OFFERS
from lavatube.train.norms.estimators import Pooled
from lavatube.train.recipe import Recipe, list_recipes, load_recipe


def print_recipes(*, as_json: bool) -> None:
    """On stdout."""
    rows = [row_of(load_recipe(name)) for name in list_recipes()]
    if as_json:
        print_json(rows)
        return
    table = Table(box=SIMPLE, padding=(0, 1))
    table.add_column("recipe", no_wrap=True)
    for title in ("network", "T", "methods", "should reach", "deploys"):
        table.add_column(title, overflow="fold", min_width=len("self_distillation") if title == "methods" else None)
    for row in rows:
        reach = f"{row['expected']} *" if row["run_here"] is False else row["expected"]
        table.add_row(
            row["name"], row["network"], str(row["num_steps"]), ", ".join(row["methods"]), reach, row["deploys"]
        )
    console().print(table)
    print("* not run here: published for this architecture, partly of another method. --json adds data and sources.")


def methods_of(recipe: Recipe) -> list[str]:
    """Gradient rule, and what is not the default of normalization, surrogate, spikes, objective, weights, sparsity."""
    gradient, fields = recipe.gradient, type(recipe.gradient).model_fields
    form = getattr(gradient, "form", None)
    found = [gradient.kind if form is None or form == fields["form"].default else f"{gradient.kind} {form}"]
    found += [norm.kind] if (norm := recipe.normalization) is not None and norm != Pooled() else []
    found += ["dspike"] if recipe.neuron.surrogate.kind == "dspike" else []
    found += [f"{recipe.neuron.output} spikes"] if recipe.neuron.output != "binary" else []
    found += [term.kind for term in recipe.objective if term.kind not in ("cross_entropy", "bias_limit")]
    return found + [chosen.kind for chosen in (recipe.weight, recipe.sparsity) if chosen is not None]


def row_of(recipe: Recipe) -> dict[str, Any]:
    """What the table says of a recipe, JSON values."""
    expected = recipe.expected
    reach = "-" if expected is None else f"{expected.test_accuracy} %"
    return {
        "name": recipe.name,
        "data": recipe.data.name,
        "network": recipe.network.kind,
        "num_steps": recipe.num_steps,
        "methods": methods_of(recipe),
        "expected": reach,
        "run_here": None if expected is None else expected.run_here,
        "source": None if expected is None else expected.source,
        "needs": sorted(recipe.needs),
        "deploys": deploys(recipe),
    }


def deploys(recipe: Recipe) -> str:
    """Onto which targets; or what no target offers yet."""
    targets = [target for target, offered in OFFERS.items() if recipe.needs <= offered]
    missing = recipe.needs - frozenset().union(*OFFERS.values())
    return ", ".join(targets) if targets else "no: needs " + ", ".join(sorted(missing or recipe.needs))
