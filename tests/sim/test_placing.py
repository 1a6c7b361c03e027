"""Counts on the mapper's cores: its routes are those of the connections, and time and totals follow."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lavatube.deploy.mapping.map_program import map_program
from lavatube.sim.counts import count, count_cores
from lavatube.sim.energy import energy
from lavatube.sim.placing import place, placement_of
from lavatube.sim.reference import run_reference


@pytest.mark.parametrize("seed", range(3))
def test_synops_on_the_mappers_cores_are_those_of_the_layers(seed, small_program, random_inputs):
    program = small_program(seed)
    trace = run_reference(program, random_inputs(program))
    placement, reason = place(program)
    assert reason == ""
    activity = count_cores(program, trace, placement)
    total = count(program, trace).total
    assert activity.synops.sum() == total.synops_stored  # a read-out that sums currents has cores
    assert activity.updates.sum() == total.updates
    assert activity.traffic.cores == len(map_program(program).cores)


def test_the_mappers_routes_are_those_of_the_connections_where_no_weight_is_zero(small_program, random_inputs):
    program = small_program(1)
    weights = {synapse.name: np.array(synapse.weight) for synapse in program.synapses}
    for weight in weights.values():
        weight[weight == 0] = 2
    nodes = tuple(replace(n, weight=weights[n.name]) if n.name in weights else n for n in program.nodes)
    program = replace(program, nodes=nodes)
    trace = run_reference(program, random_inputs(program))
    mapped = placement_of(map_program(program))
    derived = replace(mapped, reach={})
    assert count(program, trace, mapped).traffic == count(program, trace, derived).traffic


def test_a_placed_run_has_time_and_a_total(small_program, random_inputs):
    program = small_program(2)
    trace = run_reference(program, random_inputs(program))
    placement, _ = place(program)
    activity = count_cores(program, trace, placement)
    counts = replace(count(program, trace), traffic=activity.traffic)
    (table,) = energy(counts, ["loihi1-sanafe2025"], activity=activity).tables
    assert table.total.low > table.dynamic.total.low
    assert table.latency.total.low > 0
    assert "hop_x (needs a placement on cores)" not in table.unpriced
