"""The program of every method's shipped recipe is equal on every engine: reference, fast, torch and Lava."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lavatube.convert.export import export
from lavatube.convert.quantize import quantize
from lavatube.deploy.lower import lower
from lavatube.sim.parity import parity
from lavatube.sim.parity_samples import samples_for
from lavatube.sim.run import run
from lavatube.train.datasets import catalog
from lavatube.train.datasets.dataset import Dataset, Split
from lavatube.train.datasets.digits import load_digits
from lavatube.train.recipe import parse_recipe
from lavatube.train.recipe_file import read_recipe_file
from lavatube.train.run import train

METHODS = {
    "Dspike": "digits-dspike",
    "DSR": "digits-dsr",
    "local tandem": "digits-tandem",
    "shortcut": "digits-shortcut",
    "KDSNN": "fashion-mnist-10k-kdsnn",
    "LaSNN": "fashion-mnist-10k-lasnn",
    "BKDSNN": "fashion-mnist-10k-bkdsnn",
    "binary": "digits-binary",
    "SEI-BWSNN": "digits-bireal",
    "S2NN": "digits-sub-bit",
    "ReverB": "digits-reverb",
    "ESL": "digits-esl",
    "reverse distillation": "digits-reverse-distillation",
    "SCA": "fashion-mnist-10k-sca",
    "error compensation": "digits-conversion",
}
QUICK = ("DSR", "ReverB", "error compensation")  # each with neurons of its own


@pytest.fixture(scope="module", autouse=True)
def few_digits(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """In an empty folder; the data sets of all these recipes are 256, 32 and 16 of the digits."""
    digits = load_digits(None, 1)
    parts = [
        Split(split.samples[:size].copy(), split.label[:size].copy())
        for split, size in ((digits.train, 256), (digits.validation, 32), (digits.test, 16))
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("methods"))
        for name in ("digits", "fashion-mnist-10k"):
            patch.setitem(catalog.DATASETS, name, lambda *_, name=name: Dataset(name, 10, False, *parts))  # type: ignore[arg-type]
        yield


def trained(name: str) -> Path:
    """The run folder of a shipped recipe, 96 steps long."""
    folder = Path("runs") / name
    if not folder.exists():
        recipe: dict[str, Any] = read_recipe_file(name)
        recipe["optimizer"] |= {"epochs": 12, "batch_size": 32, "warmup_epochs": 0}
        if "sparsity" in recipe:
            recipe["sparsity"]["update_every"] = 4
        if "teacher" in recipe:
            trained(Path(recipe["teacher"]["folder"]).name)
        train(parse_recipe(recipe, where=name), out=folder)
    return folder


CASES = [pytest.param(name, id=name, marks=pytest.mark.slow if name in QUICK else pytest.mark.long) for name in METHODS]


@pytest.mark.parametrize("method", CASES)
def test_the_program_of_every_method_is_equal_on_every_engine(method: str) -> None:
    folder = trained(METHODS[method])
    quantize(folder, epochs=0)
    export(folder)
    program = lower(folder / "model.nir", out=folder / "program.safetensors")
    spikes = run(program, samples_for(program, folder, None, None, 2), backend="reference").spikes
    assert all(layer.any() for layer in spikes.values())  # the premise: there is something to compare
    assert parity(folder, against=["torch", "fast"], record=["u", "v"]).equal
    assert parity(folder, against=["lava"], samples=2, record=["u", "v"]).equal
