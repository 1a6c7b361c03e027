"""docs/methods.md says what the table of methods says."""

from __future__ import annotations

import write_methods

from lavatube.train.extension_points import EXTENSION_POINTS
from lavatube.train.recipe_model import kind_of


def test_the_gallery_is_up_to_date() -> None:
    found = write_methods.page()
    assert found == write_methods.PAGE.read_text(encoding="utf-8"), "run tests/write_methods.py"
    assert found.count("\n### ") == sum(map(len, EXTENSION_POINTS.values()))


def test_every_method_says_what_it_is_and_every_one_from_a_paper_which() -> None:
    own = {"chain", "recurrent", "direct", "binary"}  # plain layers, and samples as they are
    for point, row in ((point, row) for point, rows in EXTENSION_POINTS.items() for row in rows):
        assert row.__doc__, row
        assert getattr(row, "source", "") or kind_of(row) in own, (point, row)
