"""Joules are counts times prices in integers; an unpublished bound stays unpublished, a missing price is named."""

from __future__ import annotations

import copy
import json

import pytest

from lavatube.errors import LavatubeError
from lavatube.sim.counts import Counts, LayerCounts
from lavatube.sim.energy import energy
from lavatube.sim.price_table import SHIPPED, list_prices, load_prices, parse_prices


def counts(**terms):
    zeros = dict.fromkeys(LayerCounts.__dataclass_fields__, 0)
    return Counts({"layer1": LayerCounts(**{**zeros, **terms})}, 2, 16, "hash", graded_input=False)


def test_davies_totals_by_hand():
    estimate = energy(counts(synops_stored=1000, neuron_accesses=10, updates=4, spikes_out=3), ["loihi1-davies2018"])
    (table,) = estimate.tables
    assert table.total == {"low": 1000 * 23600 + 10 * 52000 + 4 * 29000, "nominal": 24_236_000, "high": None}
    assert "spike (no price in this table)" in estimate.unpriced
    assert table.layers["layer1"] == table.total


def test_sanafe_totals_by_hand_and_the_interval_over_both_tables():
    estimate = energy(counts(synops_stored=1000, neuron_accesses=10, updates=4, spikes_out=3))
    davies, sanafe = (table.total for table in estimate.tables)
    rest = 10 * 51200 + 3 * 69300
    assert sanafe == {
        "low": 24_000_000 + rest + 4 * 21600, "nominal": 33_600_000 + rest + 4 * 21600,
        "high": 35_500_000 + rest + 4 * 27600,
    }  # fmt: skip
    assert (estimate.low, estimate.high) == (min(davies["low"], sanafe["low"]), sanafe["high"])
    assert estimate.to_json()["interval_joules_per_sample"]["high"] == pytest.approx(sanafe["high"] / 2 * 1e-15)


def test_the_published_example_784_512_10_costs_about_25_microjoules_at_davies_prices():
    """784-512-10, 25 steps, 10 % rates: 1,016,320 operations and 13,050 neuron updates: 24.7 to 25.0 uJ."""
    for updates, microjoules in [(0, 24.66), (13_050, 25.04)]:
        estimate = energy(
            counts(synops_stored=1_016_320, neuron_accesses=13_050, updates=updates), ["loihi1-davies2018"]
        )
        assert estimate.low * 1e-9 == pytest.approx(microjoules, abs=0.01)


def test_the_measured_nearest_neighbour_query_lies_below_the_estimate_as_published():
    """76,800 neurons, 60 steps, 667..750 spikes in: measured 1.33 mJ, Davies prices 1.45..1.60 mJ."""
    for spikes, millijoules in [(667, 1.45), (750, 1.60)]:
        one = counts(synops_stored=spikes * 76_800, neuron_accesses=76_800 * 60)
        assert energy(one, ["loihi1-davies2018"]).low * 1e-12 == pytest.approx(millijoules, abs=0.01)


def test_every_shipped_table_is_valid_ordered_and_has_a_source():
    assert set(list_prices()) >= {"loihi1-davies2018", "loihi1-sanafe2025"}
    for name in list_prices():
        table = load_prices(name)
        assert table.source
        assert len(table.sha256) == 64
        assert table.unpriced


def test_loihi1_prices_on_loihi2_and_graded_events_are_labelled():
    assert any("Loihi 1 prices on a loihi2 program" in label for label in energy(counts(), target="loihi2").labels)
    assert not any("Loihi 1 prices on" in label for label in energy(counts(), target="loihi1").labels)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda v: v["terms"]["synop"].update(low=-1), "term synop: prices"),
        (lambda v: v["terms"]["synop"].update(low=30000), "low <= nominal <= high"),
        (lambda v: v["terms"]["synop"].update(low=23.6), "integers or null"),
        (lambda v: v["terms"]["synop"].update(unit="pJ"), "unit or grade"),
        (lambda v: v["terms"].update(magic=v["terms"]["synop"]), "unknown term"),
        (lambda v: v["terms"]["synop"].pop("note"), "wrong keys"),
        (lambda v: v.pop("source"), "missing or unknown keys in the price table, got source"),
    ],
)
def test_a_wrong_price_table_is_refused_by_term_and_rule(change, words):
    value = json.loads((SHIPPED / "loihi1-davies2018.json").read_text())
    change(value)
    with pytest.raises(LavatubeError, match=words):
        parse_prices(value, where="x.json")


def test_one_changed_price_changes_the_hash():
    value = json.loads((SHIPPED / "loihi1-davies2018.json").read_text())
    other = copy.deepcopy(value)
    other["terms"]["synop"]["low"] -= 1
    assert parse_prices(value, where="a").sha256 != parse_prices(other, where="b").sha256


def test_an_unknown_table_lists_the_known_ones():
    with pytest.raises(LavatubeError, match="no such price table, expected a JSON file or one of loihi1-davies2018"):
        energy(counts(), ["loihi3"])
