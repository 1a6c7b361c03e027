"""Maps against brute force: every neuron and every connection once, loads recomputed one connection at a time."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mapping_brute_force import explicit, fits_in, recomputed
from random_programs import random_program, random_synapse

from lavatube.deploy.mapping.limits import load_limits
from lavatube.deploy.mapping.map_program import map_program
from lavatube.deploy.mapping.packing import fewest_weight_bits
from lavatube.deploy.mapping.reach import Reach
from lavatube.deploy.mapping.regions import Region, tiles
from lavatube.errors import UnsupportedError
from lavatube.program import InputNode, Synapse, floors_sums

SMALL = {  # limits that cut the small random programs into many cores
    "neurons": 9, "synapse_words": 60, "input_axons": 45, "output_axons": 40, "cores": 6, "cores_per_tile": 2,
    "tile_columns": 2, "tile_rows": 2,
}  # fmt: skip


def small_limits(tmp_path, chip):
    """A file of limits: those of a chip with the numbers of SMALL."""
    limits = load_limits(chip)
    shipped = [vars(limit) | {"value": SMALL.get(key, limit.value)} for key, limit in limits.limits.items()]
    path = tmp_path / f"small-{chip}.json"
    path.write_text(json.dumps({"schema": 1, "name": f"small-{chip}", "extends": chip, "limits": shipped}))
    return path


def program_for(seed, chip):
    """A random program; every second one has two synapses from a source into a target, of another delay or exponent."""
    program = random_program(seed, plain=chip == "loihi1")
    if seed % 2:
        program = with_twins(program)
    if chip == "loihi1":
        nodes = tuple(replace(n, message_bits=1) if isinstance(n, InputNode) else n for n in program.nodes)
        whole = (
            replace(n, weight_exp=0) if isinstance(n, Synapse) and floors_sums(n) else n for n in nodes
        )  # that chip is not known to round sums
        program = replace(program, nodes=tuple(whole))
    return program


def with_twins(program):
    nodes, edges, synapses = [], list(program.edges), {synapse.name for synapse in program.synapses}
    for number, node in enumerate(program.nodes):
        nodes.append(node)
        if node.name in synapses:
            twin = replace(node, name=f"{node.name}_twin", delay=(node.delay + 5) % 63)
            if number % 3 == 1:
                twin = replace(twin, weight_exp=node.weight_exp + 1)
            if number % 3 == 2 and node.sign == "inhibitory":
                twin = replace(twin, sign="excitatory", weight=-node.weight)
            nodes.append(twin)
            edges += [(a, twin.name) for a, b in program.edges if b == node.name]
            edges += [(twin.name, b) for a, b in program.edges if a == node.name]
    return replace(program, nodes=tuple(nodes), edges=tuple(edges))


@pytest.mark.parametrize("chip", ["loihi1", "loihi2"])
@pytest.mark.parametrize("small", [False, True], ids=["whole", "cut"])
def test_loads_and_routes_of_random_programs_equal_those_of_their_explicit_connections(chip, small, tmp_path):
    several = refused = 0
    for seed in range(16):
        program = program_for(seed, chip)
        try:
            found = map_program(program, target=small_limits(tmp_path, chip) if small else chip)
        except UnsupportedError:
            refused += 1
            continue
        several += len(found.cores) > len(found.populations)
        loads, pairs = recomputed(program, found)
        assert {core.index: dict(core.loads) for core in found.cores} == loads, seed
        for source in program.sources:
            routes = found.destinations(source.name)
            neuron = np.repeat(np.arange(len(routes.indptr) - 1), routes.fan_out)
            assert set(zip(neuron.tolist(), routes.cores.tolist(), strict=True)) == pairs[source.name], seed
        for synapse in program.synapses:
            (target,) = [t for t in program.targets if synapse in program.inbound(t)]
            core_of, reached = found.cores_of(target.name), pairs[program.source_of(synapse).name]
            assert all((a, int(core_of[b])) in reached for a, b, weight in explicit(synapse) if weight), seed
    assert refused < (8 if small else 1)
    assert several >= (3 if small else 0)


@pytest.mark.parametrize("chip", ["loihi1", "loihi2"])
def test_every_neuron_has_one_core_every_core_one_population_and_no_limit_is_exceeded(chip, tmp_path):
    for seed in range(60):
        program = program_for(seed, chip)
        try:
            found = map_program(program, target=small_limits(tmp_path, chip))
        except UnsupportedError:
            continue
        assert [core.index for core in found.cores] == list(range(len(found.cores)))
        held = {name: np.concatenate([c.region.flat() for c in found.cores if c.population == name]) for name in
                found.populations}  # fmt: skip
        driven = {t.name: int(np.prod(t.shape)) for t in program.targets if program.inbound(t)}
        assert {name: len(index) for name, index in held.items()} == driven
        for name, index in held.items():
            np.testing.assert_array_equal(np.sort(index), np.arange(driven[name]))
            cores = np.repeat([c.index for c in found.cores if c.population == name],
                              [c.region.size for c in found.cores if c.population == name])  # fmt: skip
            np.testing.assert_array_equal(found.cores_of(name)[index], cores)
        for core in found.cores:
            assert max(core.fill(found.limits).values()) <= 1
            assert core.loads[core.closest(found.limits)[0]] > 0
        assert (found.cores_of("input") == -1).all()
        assert all((found.cores_of(t.name) == -1).all() for t in program.targets if not program.inbound(t))
        per_tile = np.unique(found.positions, axis=0, return_counts=True)[1]
        assert per_tile.max() <= found.limits["cores_per_tile"]
        assert found.positions.max(0).tolist() <= [found.chips - 1, 1, 1]
        assert found.chips == -(-len(found.cores) // 6)


@pytest.mark.parametrize("chip", ["loihi1", "loihi2"])
def test_the_same_program_gives_the_same_map_to_the_last_byte(chip, tmp_path):
    limits, mapped = small_limits(tmp_path, chip), 0
    for seed in range(12):
        try:
            once, again = (map_program(program_for(seed, chip), target=limits) for _ in range(2))
        except UnsupportedError:
            continue
        mapped += 1
        assert json.dumps(once.to_json()) == json.dumps(again.to_json())
        for name in once.sizes:
            for a, b in zip(
                vars(once.destinations(name)).values(), vars(again.destinations(name)).values(), strict=True
            ):
                np.testing.assert_array_equal(a, b)
    assert mapped > 4


def test_routes_hold_each_core_once_in_order_and_count_the_messages_of_a_spike():
    program = random_program(7)
    found = map_program(program)
    for source in program.sources:
        routes = found.destinations(source.name)
        for n in range(int(np.prod(source.shape))):
            goes = routes.cores[routes.indptr[n] : routes.indptr[n + 1]]
            assert (np.diff(goes) > 0).all()
            assert routes.fan_out[n] == len(goes)


def test_hops_are_the_tiles_between_a_neurons_core_and_each_destination_and_unknown_beyond_the_chip(tmp_path):
    known = far = 0
    for seed in range(12):
        try:
            found = map_program(program_for(seed, "loihi2"), target=small_limits(tmp_path, "loihi2"))
        except UnsupportedError:
            continue
        for name in found.routes:
            routes, hops, core_of = found.destinations(name), found.hops(name), found.cores_of(name)
            for n in range(len(core_of)):
                for k in range(routes.indptr[n], routes.indptr[n + 1]):
                    chip, x, y = found.position(int(routes.cores[k]))
                    here = found.position(int(core_of[n])) if core_of[n] >= 0 else (None, 0, 0)
                    expected = [abs(x - here[1]), abs(y - here[2])] if chip == here[0] else [-1, -1]
                    assert hops[k].tolist() == expected
                    known, far = known + (expected[0] >= 0), far + (expected[0] < 0 and core_of[n] >= 0)
    assert known > 50
    assert far > 5


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([(1, 2, 3, 4, 5, 6, 8), tuple(range(1, 9))]))
def test_weights_take_the_fewest_bits_that_hold_them_with_any_exponent(seed, offered):
    synapse = random_synapse(np.random.default_rng(seed), "s", (2, 3, 3))
    if seed % 3:  # weights with common factors, of one sign, or all zero
        weight = np.sign(synapse.weight) * (abs(synapse.weight) >> (seed % 7) << (seed % 7))
        synapse = replace(synapse, weight=weight.astype(np.int16))
    brute = next(b for b in offered if fits_in(np.unique(synapse.weight), synapse.weight_exp, b))
    assert fewest_weight_bits([synapse], offered) == brute


@pytest.mark.parametrize("spans", [((2, 5),), ((1, 3), (0, 4), (2, 3)), ((0, 3), (1, 2), (0, 5))])
def test_a_region_lists_its_neurons_in_order(spans):
    grid = (7,) if len(spans) == 1 else (3, 4, 5)
    whole = np.arange(np.prod(grid)).reshape(grid)
    np.testing.assert_array_equal(Region(grid, spans).flat(), whole[tuple(slice(*span) for span in spans)].reshape(-1))


@pytest.mark.parametrize("seed", range(60))
def test_connections_into_a_box_are_those_of_its_neurons_one_by_one(seed):
    rng = np.random.default_rng(seed)
    synapse = random_synapse(rng, "s", (3, 5, 4))
    everything = explicit(synapse)
    tile = tuple(int(rng.integers(1, n + 1)) for n in synapse.out_shape)
    flat = (int(np.prod(synapse.out_shape)),)
    for region in [*tiles(synapse.out_shape, tile), Region(flat, ((flat[0] // 3, flat[0]),))]:
        inside = set(region.flat().tolist())
        for zeros in (True, False):
            counts = np.zeros(60, np.int64)
            for a, b, weight in everything:
                counts[a] += b in inside and (zeros or weight != 0)
            np.testing.assert_array_equal(Reach(synapse, zeros).into(region), counts)
