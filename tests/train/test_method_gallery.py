"""docs/methods.md says what the table of methods says."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest
import torch
import write_methods

from lavatube.train import extension_points
from lavatube.train.datasets.catalog import DATASETS
from lavatube.train.extension_points import EXTENSION_POINTS
from lavatube.train.neuron import NeuronSpec
from lavatube.train.objectives.term import Term
from lavatube.train.recipe import Optimizer
from lavatube.train.recipe_model import kind_of
from lavatube.train.seq import Outputs
from lavatube.train.teachers.kinds import TEACHERS


def test_the_gallery_is_up_to_date() -> None:
    found = write_methods.page()
    assert found == write_methods.PAGE.read_text(encoding="utf-8"), "run tests/write_methods.py"
    assert found.count("\n### ") == sum(map(len, EXTENSION_POINTS.values())) + len(write_methods.TOGETHER)


def test_every_method_says_what_it_is_and_every_one_from_a_paper_which() -> None:
    own = {"chain", "recurrent", "direct", "binary"}  # plain layers, and samples as they are
    for point, row in ((point, row) for point, rows in EXTENSION_POINTS.items() for row in rows):
        assert row.__doc__, row
        assert getattr(row, "source", "") or kind_of(row) in own, (point, row)


def test_the_tables_of_training_name_every_kind_and_setting_and_no_other() -> None:
    page = write_methods.TRAINING.read_text(encoding="utf-8")
    assert page == write_methods.with_kinds(page), "run tests/write_methods.py"
    lines = page[page.index("## What a recipe chooses") : page.index("## The rules")].splitlines()
    rows = dict(re.findall(r"^\| `([^|]*)` \| (.*?) \|", line)[0] for line in lines if line.startswith("| `"))

    def named(key: str) -> set[str]:
        """Outside of brackets, which hold settings."""
        return set(re.findall(r"`([^`]*)`", re.sub(r"\([^)]*\)", "", rows[key])))

    assert named("teacher") == {kind_of(row) for row in TEACHERS}
    assert named("neuron") == set(NeuronSpec.model_fields) - {"surrogate", "decay_asked", "dv"}
    assert set(Optimizer.model_fields) <= set(re.findall(r"`([^`]*)`", rows["optimizer"]))
    assert named("data.name") == {name for name in DATASETS if not name.endswith("-10k")}
    tables = {name for name, value in vars(extension_points).items() if value in EXTENSION_POINTS.values()}
    assert set(", ".join(rows).replace("`", "").split(", ")) >= tables


def test_the_table_of_what_methods_do_is_that_of_the_measured_points() -> None:
    method_table = write_methods.method_table
    results = method_table.RESULTS
    page, points = write_methods.TRAINING.read_text(encoding="utf-8"), method_table.read(results)
    assert points
    assert method_table.table(points) in page
    costs = method_table.read(method_table.cost_of(results))
    assert not costs or method_table.cost_table(costs) in page


def test_the_example_of_a_new_method_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = write_methods.TRAINING.read_text(encoding="utf-8")
    [example] = re.findall(r"```python\n(from .*?)```", page, re.DOTALL)
    (tmp_path / "confidence_of_the_docs.py").write_text(example, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    term = import_module("confidence_of_the_docs").Confidence(weight=2.0)
    assert isinstance(term, Term)
    logits = torch.tensor([[1.0, 2.0, 4.0], [0.0, 0.0, 0.0]])
    entropy = torch.distributions.Categorical(logits=logits).entropy().mean()
    loss = term.loss(Outputs(logits), torch.zeros(2, dtype=torch.int64), torch.nn.ModuleDict())
    torch.testing.assert_close(loss, -2 * entropy)
