"""Architectures at the depths of the papers: they lower as declared, or are refused by name; and the list says so."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from method_cases import trained

from lavatube.cli.app import invoke
from lavatube.convert.export import export
from lavatube.convert.quantize import quantize
from lavatube.deploy.lower import lower
from lavatube.errors import UnsupportedError
from lavatube.program import LoihiProgram
from lavatube.train.recipe import Recipe, list_recipes
from lavatube.trained import TrainedNetwork, save_trained

pytestmark = pytest.mark.usefixtures("tiny")


def lowered(tiny_recipe: Callable[..., Recipe], folder: Path, **network: Any) -> LoihiProgram:
    """Of two optimisation steps on images of 16 x 16."""
    recipe = tiny_recipe(
        network={"width": 2, **network}, num_steps=2, data={"name": "tiny"}, objective=["cross_entropy"],
        optimizer={"lr": 0.02, "epochs": 1, "batch_size": 32},
    )  # fmt: skip
    tensors = {name: value.numpy() for name, value in trained(recipe, 1).finalize().state_dict().items()}
    save_trained(TrainedNetwork(recipe.model_dump(mode="json"), tensors, {}), folder)
    quantize(folder, epochs=0)
    export(folder)
    return lower(folder / "model.nir", out=folder / "program.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "depth", "populations"),
    [("vgg", 11, 8), ("vgg", 13, 10), ("resnet", 18, 17), ("resnet", 19, 18), ("resnet", 34, 33)],
)
def test_networks_of_the_papers_depths_lower(
    tiny_recipe: Callable[..., Recipe], kind: str, depth: int, populations: int, tmp_path: Path
) -> None:
    program = lowered(tiny_recipe, tmp_path, kind=kind, depth=depth)
    assert program.needs() - {"sums with fractions"} == {"graded input"}
    assert len(program.neurons) == populations


@pytest.mark.parametrize(
    ("kind", "need"),
    [("sew_resnet", "sums of spikes"), ("preact_resnet", "real-valued currents across blocks")],
)
def test_networks_of_34_layers_that_no_target_offers_are_refused_by_name(
    tiny_recipe: Callable[..., Recipe], kind: str, need: str, tmp_path: Path
) -> None:
    with pytest.raises(UnsupportedError, match=need):
        lowered(tiny_recipe, tmp_path, kind=kind, depth=34)


def test_the_list_says_of_every_shipped_recipe_where_it_deploys(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["train", "--list", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert sorted(rows) == list_recipes()
    said = {name: row["deploys"] for name, row in rows.items()}
    assert said["imagenet-sew34"] == "no: needs sums of spikes"
    assert said["imagenet-preact34"] == "no: needs real-valued currents across blocks"
    assert said["cifar10-resnet18"] == "loihi2"
    assert said["digits-tandem-teacher"] == "no: needs graded spikes without a limit"
    assert rows["fashion-mnist-one-bit"]["methods"] == ["rate", "graded spikes", "self_distillation", "binary"]
    borrowed = {name for name, row in rows.items() if row["run_here"] is False}
    assert borrowed == {name for name, row in rows.items() if row["data"].startswith(("cifar", "imagenet"))}
    assert invoke(["train", "--list"]) == 0
    words = " ".join(capsys.readouterr().out.split())
    for name in rows:
        assert name in words
