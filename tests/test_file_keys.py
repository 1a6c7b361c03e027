"""The pages that refusals point to name every key that a file may have."""

from __future__ import annotations

from pathlib import Path

import pytest

from lavatube.deploy.mapping import limits
from lavatube.sim import price_rules

DOCS = Path(__file__).parents[1] / "docs"
FORMAT = limits.SynapseFormat.__dataclass_fields__
LIMIT = limits.Limit.__dataclass_fields__
KEYS = {
    "mapping.md": [*limits.KEYS, *limits.PER_CORE, *limits.PER_CHIP, *LIMIT, *FORMAT, "extends"],
    "energy.md": [
        *price_rules.KEYS, *price_rules.TERM_KEYS, *price_rules.BARRIER_KEYS, *price_rules.STEP_TERMS,
        *(term for terms in price_rules.TERMS.values() for term in terms),
    ],
}  # fmt: skip


@pytest.mark.parametrize("page", KEYS)
def test_every_key_of_a_file_is_on_its_page(page):
    text = (DOCS / page).read_text()
    assert [key for key in KEYS[page] if f"`{key}`" not in text] == []
