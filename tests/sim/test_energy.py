"""Joules are counts times prices in integers; an unpublished bound stays unpublished, a missing price is named."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console

from lavatube.errors import LavatubeError
from lavatube.sim.counts import Counts, LayerCounts
from lavatube.sim.energy import energy
from lavatube.sim.energy_tables import render_energy
from lavatube.sim.interval import Interval
from lavatube.sim.price_table import SHIPPED, find_prices, list_prices, load_prices, parse_prices


def counts(**terms):
    zeros = dict.fromkeys(LayerCounts.__dataclass_fields__, 0)
    return Counts({"layer1": LayerCounts(**{**zeros, **terms})}, 2, 16, "hash", graded_input=False)


def test_davies_totals_by_hand():
    estimate = energy(counts(synops_stored=1000, neuron_accesses=10, updates=4, spikes_out=3), ["loihi1-davies2018"])
    (table,) = estimate.tables
    assert table.dynamic.total == Interval(1000 * 23600 + 10 * 52000 + 4 * 29000, 24_236_000, None)
    assert "spike (no price in this table)" in estimate.unpriced
    assert table.dynamic.layers["layer1"] == table.dynamic.total
    assert "hop_x (needs a placement on cores)" in estimate.unpriced
    assert "static power (needs time)" in estimate.unpriced
    assert table.total is None


def test_sanafe_totals_by_hand_and_the_interval_over_both_tables():
    tables = ["loihi1-davies2018", "loihi1-sanafe2025"]
    estimate = energy(counts(synops_stored=1000, neuron_accesses=10, updates=4, spikes_out=3), tables)
    davies, sanafe = (table.dynamic.total.to_json() for table in estimate.tables)
    rest = 10 * 51200 + 3 * 69300
    assert sanafe == {
        "low": 24_000_000 + rest + 4 * 21600, "nominal": 33_600_000 + rest + 4 * 21600,
        "high": 35_500_000 + rest + 4 * 27600,
    }  # fmt: skip
    assert (estimate.low, estimate.high) == (min(davies["low"], sanafe["low"]), sanafe["high"])
    assert estimate.to_json()["interval_joules_per_sample"]["high"] == pytest.approx(sanafe["high"] / 2 * 1e-15)


ONE_SIDED = {"synop": (23600, None, None), "spike": (None, None, 1700)}


def one_sided(**ends):
    value = json.loads((SHIPPED / "loihi1-davies2018.json").read_text()) | {"name": "mine"}
    price = value["terms"]["synop"]
    value["terms"] = {
        name: price | dict(zip(("low", "nominal", "high"), each, strict=True)) for name, each in ends.items()
    }
    return parse_prices(value, where="mine.json")


@pytest.mark.parametrize(
    ("tables", "low", "high"),
    [
        (["loihi1-davies2018"], 23_600_000, None),
        ([one_sided(**ONE_SIDED)], None, None),
        ([one_sided(synop=(None, 5, None))], None, None),
        ([one_sided(synop=(None, None, 5)), "loihi1-davies2018"], None, None),
        ([one_sided(synop=(None, None, 30000)), "loihi1-davies2018"], 23_600_000, 30_000_000),
        (["device-degnan-cpu"], None, None),
    ],
)
def test_an_end_of_the_interval_that_no_table_knows_is_unknown(tables, low, high):
    estimate = energy(counts(synops_stored=1000, spikes_out=3), tables)
    assert (estimate.low, estimate.high) == (low, high)
    said = estimate.to_json()
    ends = said["interval"], said["interval_joules_per_sample"]
    assert all((each["low"] is None, each["high"] is None) == (low is None, high is None) for each in ends)


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
    assert set(list_prices()) >= {"loihi1-davies2018", "loihi1-sanafe2025", "loihi1-band", "loihi2-scaled"}
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
        (lambda v: v["terms"]["synop"].update(low=-1), "term synop: prices, expected integers"),
        (lambda v: v["terms"]["synop"].update(low=30000), "low <= nominal <= high"),
        (lambda v: v["terms"]["synop"].update(low=23.6), "integers or null"),
        (lambda v: v["terms"]["synop"].update(unit="pJ"), "term synop: unit, expected fJ, got pJ"),
        (lambda v: v["terms"].update(magic=v["terms"]["synop"]), "unknown term"),
        (lambda v: v["terms"]["synop"].pop("note"), "wrong keys"),
        (lambda v: v["terms"]["synop"].update(grade="sure"), "term synop: grade, expected one of measured"),
        (lambda v: v["terms"]["synop"].update(source=" "), "term synop: source, expected where the number is from"),
        (lambda v: v["terms"]["synop"].update(low=None, nominal=None), "term synop: prices, .* not all null"),
        (lambda v: v["terms"]["synop"].update(low=True), "term synop: prices"),
        (lambda v: v["terms"]["synop"].update(high=10**19), "term synop: prices"),
        (lambda v: v["terms"].update(synop=7), "term synop: wrong keys"),
        (lambda v: v["step_time"]["synop"].update(unit="ns"), "step_time term synop: unit, expected ps, got ns"),
        (lambda v: v["static"].update(low=105), "x.json: static: prices"),
        (lambda v: v["barrier"].reverse(), "barrier, expected integers, low <= high, rising with the tiles"),
        (lambda v: v["barrier"][0].update(unit="ns"), "barrier, expected unit ps"),
        (lambda v: v.update(barrier=None), "barrier, expected a list"),
        (lambda v: v.update(basis="joules"), "basis, expected events, operations, got joules"),
        (lambda v: v.update(basis=["events"]), "basis, expected events"),
        (lambda v: v.update(unpriced="all"), "unpriced, expected a list of texts"),
        (lambda v: v.update(voltage=-1), "voltage, expected a number or null"),
        (lambda v: v.update(cores_per_chip=0), "cores_per_chip"),
        (lambda v: v.update(terms={}), "nothing is priced"),
        (lambda v: v.update(schema=1), "expected schema 2, got schema 1"),
        (lambda v: v.pop("source"), "missing or unknown keys in the price table, expected schema 2, got source"),
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
    with pytest.raises(
        LavatubeError,
        match=r"no such price table, expected a JSON file or one of device-.*loihi1-davies2018",
    ):
        energy(counts(), ["loihi3"])


def test_the_band_is_the_envelope_of_the_two_loihi_1_sets_and_loihi_2_scales_it_without_a_nominal():
    davies, sanafe, band, scaled = (
        load_prices(name).terms for name in ("loihi1-davies2018", "loihi1-sanafe2025", "loihi1-band", "loihi2-scaled")
    )
    assert set(band) == set(scaled) == set(davies) | set(sanafe)
    for name, price in band.items():
        sides = [table[name].interval for table in (davies, sanafe) if name in table]
        known = [bound for side in sides for bound in side.known]
        low = min(known) if len(sides) == 2 else 0  # one of the two has no such term
        assert (price.interval.low, price.interval.high) == (low, max(known)), name
        assert scaled[name].interval == Interval(low * 2 // 10, None, max(known) * 15 // 10)
    assert load_prices("loihi2-scaled").worst_grade == "assumed"
    assert (load_prices("loihi2-scaled").static.interval.low, load_prices("loihi2-scaled").static.interval.high) == (
        200,
        1100,
    )


def test_a_folder_of_price_files_and_a_file_are_taken_like_names(tmp_path):
    value = json.loads((SHIPPED / "loihi1-davies2018.json").read_text())
    for name, low in (("mine-b", 10), ("mine-a", 20)):
        value["name"] = name
        value["terms"]["synop"].update(low=low, nominal=low, high=low)
        (tmp_path / f"{name}.json").write_text(json.dumps(value))
    found = find_prices([tmp_path, "loihi1-band", tmp_path / "mine-a.json"])
    assert [table.name for table in found] == ["mine-a", "mine-b", "loihi1-band"]
    value["name"] = "loihi1-band"
    (tmp_path / "mine-a.json").write_text(json.dumps(value))
    with pytest.raises(LavatubeError, match="two price tables of one name, got loihi1-band"):
        find_prices([tmp_path, "loihi1-band"])
    (tmp_path / "none").mkdir()
    with pytest.raises(LavatubeError, match="no price table"):
        find_prices([tmp_path / "none"])


def test_tables_of_arithmetic_and_of_chips_have_no_common_interval_and_keep_their_baselines_apart():
    one = counts(synops_stored=1000, synops_dense=8000, graded_stored=400, neuron_accesses=10)
    estimate = energy(one, ["horowitz45-fp32", "loihi1-davies2018", "device-degnan-cpu"])
    fp32, davies, cpu = estimate.tables
    assert fp32.dynamic.total == Interval(*[600 * 900 + 400 * 4600] * 3)
    assert (estimate.low, estimate.high) == (fp32.dynamic.total.low, fp32.dynamic.total.high)
    assert fp32.baseline == Interval(*[8000 * 2 // 16 * 4600] * 3)  # 2 samples, 16 timesteps
    assert cpu.baseline.nominal == 1000 * 8_600_000
    assert cpu.to_json(2)["dynamic"] is None
    assert cpu.break_even == {}
    assert davies.baseline is None
    assert any("do not compare" in label for label in estimate.labels)


def test_the_break_even_rate_is_where_both_sides_cost_the_same():
    """fp32, 25 steps, additions only: 4.6 / (0.9 x 25) = 20.4 %, whatever the measured rate."""
    for synops in (100, 5000):
        one = Counts({"a": LayerCounts(synops_stored=synops, synops_dense=25_000)}, 1, 25, "hash", graded_input=False)
        (table,) = energy(one, ["horowitz45-fp32"]).tables
        assert float(table.break_even["nominal"]) == pytest.approx(4.6 / (0.9 * 25))
        assert float(table.rate) == synops / 25_000


def test_memory_is_priced_by_the_size_of_a_layers_weights():
    layers = {name: LayerCounts(synops_stored=100) for name in "abcd"}
    bits = {"a": 8 * 8192, "b": 8 * 8192 + 1, "c": 8 << 20, "d": (8 << 20) + 1}
    one = Counts(layers, 1, 1, "hash", graded_input=False, weight_bits=bits)
    (table,) = energy(one, ["horowitz45-mem"]).tables
    assert {name: table.dynamic.terms[name].events for name in ("sram_8k", "sram_32k", "sram_1m", "dram")} == {
        "sram_8k": 100, "sram_32k": 100, "sram_1m": 100, "dram": 100,
    }  # fmt: skip
    assert table.dynamic.layers["d"] == Interval(100 * 1_300_030, None, 100 * 2_600_030)


def test_intervals_add_and_multiply_exactly_and_keep_what_is_unknown():
    assert Interval(1, None, 3) + Interval(10, 20, None) == Interval(11, None, None)
    assert Interval(1, None, 3).times(10**18) == Interval(10**18, None, 3 * 10**18)
    assert Interval(None, None, 3).times(0) == Interval(0, 0, 0)
    assert Interval(2, 3, None).product(Interval(5, 7, 11)) == Interval(10, 21, None)
    assert Interval(10, 10, 10).share(1, 3) == Interval(3, 3, 4)


def spread(samples):
    per_sample = {term: tuple(0 for _ in samples) for term in LayerCounts.__dataclass_fields__}
    per_sample["synops_stored"] = tuple(samples)
    layers = {"a": LayerCounts(synops_stored=sum(samples))}
    return Counts(layers, len(samples), len(samples), "hash", graded_input=False, per_sample=per_sample)


def test_the_interval_over_samples_is_seeded_and_holds_the_mean_and_vanishes_without_spread():
    one = spread([80, 100, 120, 140, 60, 100])
    first, again = energy(one), energy(one)
    assert first.mean_counts == again.mean_counts
    band = first.mean_counts["synops_stored"]
    assert 60 < band["low"] < band["mean"] == 100 < band["high"] < 140
    (davies,) = energy(one, ["loihi1-davies2018"]).tables
    assert davies.mean_energy["low"]["mean"] == 100 * 23600
    assert davies.mean_energy["low"]["low"] == pytest.approx(band["low"] * 23600)
    assert set(davies.mean_energy) == {"low", "nominal"}
    same = energy(spread([7, 7, 7])).mean_counts["synops_stored"]
    assert (same["low"], same["mean"], same["high"]) == (7, 7, 7)
    assert energy(spread([7])).mean_counts == {}


@pytest.mark.parametrize(
    ("samples", "table", "words"),
    [
        ([7], "loihi1-davies2018", "needs at least two of them"),
        ([7, 8], one_sided(synop=(23600, None, None), spike=(None, None, 1700)), "unknown: mine has no bound"),
        ([7, 8], "horowitz45-mem", "unknown: the counts do not say by sample what horowitz45-mem prices"),
    ],
)
def test_a_spread_over_samples_that_is_missing_says_why(samples, table, words):
    one = spread(samples)
    one = replace(one, layers={"a": replace(one.layers["a"], spikes_out=3)},
                  per_sample={**one.per_sample, "spikes_out": (1,) * len(samples)})  # fmt: skip
    screen = Console(file=StringIO(), width=100)
    screen.print(render_energy(energy(one, [table]).to_json()))
    assert words in " ".join(screen.file.getvalue().split())


def test_counts_of_no_samples_are_refused():
    with pytest.raises(LavatubeError, match="counts of no samples"):
        energy(Counts({}, 0, 0, "hash", graded_input=False))
