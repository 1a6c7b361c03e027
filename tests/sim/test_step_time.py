"""The time of a timestep is that of its busiest core or link; static power goes with it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from lavatube.sim.counts import CoreActivity, Counts, LayerCounts, Traffic
from lavatube.sim.energy import energy
from lavatube.sim.energy.step_time import StepTimes, barrier_time, latency
from lavatube.sim.interval import Interval
from lavatube.sim.price_table import SHIPPED, load_prices, parse_prices

FIELDS = ("synops", "accesses", "updates", "spikes", "messages_in", "messages_out")


def activity(steps, *, tiles=1, link=None, within=None, cores=2):
    """steps: [{field: [of core 0, of core 1]}, ...], one sample."""
    rows = {field: np.array([[step.get(field, [0] * cores)] for step in steps], np.int64) for field in FIELDS}
    shape = (len(steps), 1)
    return CoreActivity(
        **rows,
        link=np.zeros(shape, np.int64) if link is None else np.array(link).reshape(shape),
        within=np.ones(shape, bool) if within is None else np.array(within).reshape(shape),
        traffic=Traffic(cores=cores, tiles=tiles, chips=1),
    )


def test_the_busiest_core_of_each_timestep_sets_its_time():
    seen = activity([{"synops": [100, 10], "accesses": [0, 8]}, {"synops": [1, 50]}])
    time = latency(seen, load_prices("loihi1-sanafe2025"))
    assert time.total == Interval(
        100 * 3100 + 50 * 3100 + 1_200_000, 100 * 4700 + 50 * 4700 + 1_200_000, 150 * 4700 + 1_200_000
    )
    assert time.longest.high == 100 * 4700 + 600_000
    assert time.busiest == {0: 1, 1: 1}
    assert time.limit == {"core": 2, "link": 0}


def test_the_low_and_the_high_prices_may_have_different_busiest_cores():
    """Sparse synops may cost 3.1 to 4.7 ns, accesses always 6.0: core 1 is the busiest at the low prices only."""
    time = latency(activity([{"synops": [100, 0], "accesses": [0, 60]}]), load_prices("loihi1-sanafe2025"))
    assert (time.longest.low, time.longest.high) == (60 * 6000 + 600_000, 100 * 4700 + 600_000)


def test_a_busy_link_sets_the_time_where_it_takes_longer_than_every_core():
    time = latency(activity([{"synops": [1, 1]}, {"synops": [9, 9]}], link=[100, 0]), load_prices("loihi1-davies2018"))
    assert time.total.high == 100 * 291 + 9 * 3500 + 2 * 113_000
    assert time.total.low is None  # 3.5 ns was published as a maximum
    assert time.limit == {"core": 1, "link": 1}


def test_time_beyond_a_samples_length_is_none():
    seen = activity([{"synops": [4, 0]}, {}], within=[True, False])
    assert latency(seen, load_prices("loihi1-sanafe2025")).total.low == 4 * 3100 + 600_000


def test_a_barrier_between_two_published_sizes_lies_between_their_times():
    points = load_prices("loihi1-sanafe2025").barrier
    assert barrier_time(points, 2) == Interval(1_000_000, 1_000_000, 1_000_000)
    assert barrier_time(points, 3) == Interval(1_000_000, None, 1_400_000)
    assert barrier_time(points, 40) == Interval(1_800_000, None, None)


def test_static_energy_is_power_times_time_for_whole_chips_and_for_the_share_of_the_cores():
    """1 mW for 1 ps is 1 fJ."""
    seen = activity([{"synops": [100, 10]}])
    counts = Counts({"a": LayerCounts(synops_stored=110)}, 1, 1, "h", graded_input=False, traffic=seen.traffic)
    (table,) = energy(counts, ["loihi1-sanafe2025"], activity=seen).tables
    time = table.latency.total
    assert table.static_chips == Interval(104 * time.low, 104 * time.nominal, 104 * time.high)
    assert table.static_cores.high == -(-104 * time.high * 2 // 128)
    assert table.total == table.dynamic.total + table.static_chips
    assert table.dynamic.total.low == 110 * 24_000
    product = table.to_json(1)["energy_delay_product_js"]
    np.testing.assert_allclose(product["high"], table.total.high * 1e-15 * time.high * 1e-12)


def test_messages_hops_and_resets_are_priced_by_the_traffic():
    traffic = Traffic(messages=5, messages_local=2, hops_x=7, hops_y=3, cores=2, tiles=2, chips=2)
    counts = Counts({"a": LayerCounts()}, 4, 8, "h", graded_input=False, traffic=traffic)
    (table,) = energy(counts, ["loihi1-sanafe2025"]).tables
    assert table.dynamic.total == Interval(*[5 * 111_000 + 7 * 3000 + 3 * 4200] * 3)
    value = json.loads((SHIPPED / "loihi1-davies2018.json").read_text())
    value["terms"]["reset"] = {**value["terms"]["hop_x"], "low": 1, "nominal": 1, "high": 1}
    (table,) = energy(counts, [parse_prices(value, where="x")]).tables
    assert table.dynamic.total.low == 2 * 1700 + 7 * 3000 + 3 * 4000 + 4 * 2


def test_a_table_without_times_has_no_latency_and_says_so():
    seen = activity([{"synops": [1, 1]}])
    counts = Counts({"a": LayerCounts(synops_stored=2)}, 1, 1, "h", graded_input=False, traffic=seen.traffic)
    (table,) = energy(counts, ["spinnaker1"], activity=seen).tables
    assert table.latency is None
    assert table.total is None
    assert "time (none in this table)" in table.unpriced


def test_the_largest_prices_that_a_table_may_hold_give_exact_times_beyond_64_bits():
    value = json.loads((SHIPPED / "loihi1-sanafe2025.json").read_text())
    top = {"low": 10**18, "nominal": 10**18, "high": 10**18}
    value["step_time"] = {name: {**value["step_time"]["synop"], **top} for name in ("synop", "link")}
    seen = activity([{"synops": [100, 10]}, {"synops": [1, 50]}, {}], link=[1, 60, 0], within=[True, True, False])
    time = latency(seen, parse_prices(value, where="x"))
    assert time.total == Interval(*[160 * 10**18 + 2 * 600_000] * 3)
    assert time.longest.high == 100 * 10**18 + 600_000
    assert (time.busiest, time.limit) == ({0: 1, 1: 1}, {"core": 1, "link": 1})


@pytest.mark.parametrize("prices", ["loihi1-davies2018", "loihi1-sanafe2025", "loihi2-scaled", "horowitz45-int8"])
def test_times_of_parts_of_the_samples_are_those_of_all(prices):
    rng, table = np.random.default_rng(0), load_prices(prices)
    steps = [{field: rng.integers(0, 300, 3) for field in FIELDS} for _ in range(40)]
    links, within = rng.integers(0, 60, 40), rng.random(40) < 0.8
    steps[:10] = [{"accesses": [5, 7, 9]}] * 10  # no unpriced bound is needed here, in later parts it is
    times = StepTimes([table])
    for part in (slice(0, 10), slice(10, 25), slice(25, 40)):
        times.add(activity(steps[part], link=links[part], within=within[part], cores=3))
    assert times.latency(table) == latency(activity(steps, link=links, within=within, cores=3), table)
    assert times.traffic == Traffic(cores=3, tiles=1, chips=1)
