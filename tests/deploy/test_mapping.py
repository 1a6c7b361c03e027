"""Maps against brute force: every neuron and every connection once, loads recomputed one connection at a time."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layered_programs import full_weights, layered
from mapping_brute_force import explicit, fits_in, recomputed
from random_programs import random_program, random_synapse

from lavatube.deploy.mapping.bundles import bundles_into, pack
from lavatube.deploy.mapping.limits import load_limits
from lavatube.deploy.mapping.map_program import map_program
from lavatube.deploy.mapping.packing import fewest_weight_bits
from lavatube.deploy.mapping.place import REMEDIES
from lavatube.deploy.mapping.reach import Reach
from lavatube.deploy.mapping.regions import Region, tiles
from lavatube.errors import UnsupportedError
from lavatube.program import Conv2dNode, DenseNode, InputNode, SparseNode

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
    program = random_program(seed, plain=chip == "loihi1")
    if chip == "loihi1":
        nodes = tuple(replace(n, message_bits=1) if isinstance(n, InputNode) else n for n in program.nodes)
        program = replace(program, nodes=nodes)
    return program


@pytest.mark.parametrize("chip", ["loihi1", "loihi2"])
@pytest.mark.parametrize("small", [False, True], ids=["whole", "cut"])
def test_loads_and_routes_of_random_programs_equal_those_of_their_explicit_connections(chip, small, tmp_path):
    several = refused = 0
    for seed in range(25):
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
    assert refused < (12 if small else 1)
    assert several >= (6 if small else 0)


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
    assert mapped > 6


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


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([(1, 2, 3, 4, 5, 6, 8), tuple(range(1, 9))]))
def test_weights_take_the_fewest_bits_that_hold_them_with_any_exponent(seed, offered):
    synapse = random_synapse(np.random.default_rng(seed), "s", (2, 3, 3))
    if seed % 3:  # weights with common factors, of one sign, or all zero
        weight = np.sign(synapse.weight) * (abs(synapse.weight) >> (seed % 7) << (seed % 7))
        synapse = replace(synapse, weight=weight.astype(np.int16))
    brute = next(b for b in offered if fits_in(np.unique(synapse.weight), synapse.weight_exp, b))
    assert fewest_weight_bits([synapse], offered) == brute


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


@pytest.mark.parametrize("chip", ["loihi1", "loihi2"])
def test_pruning_and_fewer_bits_never_raise_memory_or_cores(chip):
    for seed in range(20):
        rng = np.random.default_rng(seed)
        weight = full_weights(rng, (400, 300))
        whole = DenseNode("s", (300,), weight, 8, 0)
        pruned = replace(whole, weight=(weight * (rng.random(weight.shape) < rng.random())).astype(np.int16))
        coarse = replace(whole, weight=((weight >> 5) << 5).astype(np.int16))
        before, *after = (map_program(layered(synapse), target=chip) for synapse in (whole, pruned, coarse))
        for found in after:
            assert len(found.cores) <= len(before.cores)
        region = Region((400,), ((50, 150),))
        limits = load_limits(chip)
        words = [
            pack(bundle, region).words
            for synapse in (whole, pruned, coarse)
            for program in [layered(synapse)]
            for bundle in bundles_into(program, program.neurons[0], limits)
        ]
        assert max(words[1:]) <= words[0]
        assert words[2] < words[0]


def test_connections_that_are_not_stored_take_no_memory_on_loihi_2_and_zeros_of_a_dense_node_do():
    rng = np.random.default_rng(0)
    weight = full_weights(rng, (200, 300))
    there = rng.random(weight.shape) < 0.1
    index, indptr = np.nonzero(there)[1].astype(np.int32), np.concatenate([[0], there.sum(1).cumsum()])
    sparse = SparseNode("s", (300,), (200,), weight[there], index, indptr, 8, 0)
    dense = DenseNode("s", (300,), (weight * there).astype(np.int16), 8, 0)
    words = {kind: map_program(layered(node)).total["synapse_words"] for kind, node in
             (("sparse", sparse), ("dense", dense))}  # fmt: skip
    assert 5 * words["sparse"] < words["dense"] + 300 * 5
    assert map_program(layered(dense), target="loihi1").total["synapse_words"] < 300 * 10


@pytest.mark.parametrize("chip", ["loihi1", "loihi2"])
def test_a_population_split_in_two_takes_as_many_cores_or_one_more(chip):
    for size in (100, 500, 1001):
        weight = full_weights(np.random.default_rng(size), (size, 700))
        whole = len(map_program(layered(DenseNode("s", (700,), weight, 8, 0)), target=chip).cores)
        parts = [len(map_program(layered(DenseNode("s", (700,), half, 8, 0)), target=chip).cores) for half in
                 (weight[: size // 2], weight[size // 2 :])]  # fmt: skip
        assert whole <= sum(parts) <= whole + 1


@pytest.mark.parametrize("chip", ["loihi1", "loihi2"])
def test_pruning_channels_lowers_the_number_of_cores(chip):
    def cores(channels):
        rng = np.random.default_rng(1)
        first = Conv2dNode("a", (3, 32, 32), full_weights(rng, (channels, 3, 3, 3)), 8, 0, padding=(1, 1))
        second = Conv2dNode(
            "b", first.out_shape, full_weights(rng, (channels, channels, 3, 3)), 8, 0, stride=(2, 2), padding=(1, 1)
        )
        return len(map_program(layered(first, second), target=chip).cores)

    assert cores(64) > cores(32) > cores(16)


def test_what_does_not_fit_is_refused_with_the_load_the_limit_and_the_remedy():
    wide = layered(DenseNode("s", (5000,), full_weights(np.random.default_rng(0), (3, 5000)), 8, 0))
    line = r"population lif0: a single neuron needs .* at most 4,096 input axons .* per core \(limit 3, documented\), "
    with pytest.raises(UnsupportedError, match=line + "got 5,000; prune whole inputs, or split its inputs"):
        map_program(wide, target="loihi1")
    wide = layered(DenseNode("s", (16001,), full_weights(np.random.default_rng(0), (3, 16001)), 8, 0))
    with pytest.raises(
        UnsupportedError, match=r"at most 16,000 64-bit words .*, got 16,001; prune, use fewer weight bits"
    ):
        map_program(wide)
    large = layered(DenseNode("s", (2000,), full_weights(np.random.default_rng(0), (2000, 2000)), 8, 0))
    assert len(map_program(large).cores) == 80
    line = r"1 chip Loihi 2: the program needs more cores .* at most 120 cores .*, got 124 cores, 80 of them for lif0"
    second = DenseNode("t", (2000,), full_weights(np.random.default_rng(0), (1100, 2000)), 8, 0)
    with pytest.raises(UnsupportedError, match=line):
        map_program(layered(large.synapses[0], second), chips=1)
    assert map_program(layered(large.synapses[0], second), chips=2).chips == 2


@pytest.mark.parametrize(
    ("key", "value", "got"),
    [("synapse_words", 1, "6"), ("input_axons", 5, "6"), ("output_axons", 1, "2"), ("formats", 1, "2"),
     ("delay_slots", 15, "16")],
)  # fmt: skip
def test_each_limit_refuses_by_its_number_with_the_load_of_a_single_neuron(key, value, got, tmp_path):
    rng = np.random.default_rng(0)
    first = DenseNode("a", (6,), full_weights(rng, (2, 6)), 8, 0, delay=7)
    program = layered(first, DenseNode("b", (2,), full_weights(rng, (1025, 2)), 8, 0))
    if key == "formats":  # two synapses of two exponents into the first population
        nodes = (program.nodes[0], replace(first, name="c", weight_exp=1), *program.nodes[1:])
        edges = (("input", "c"), ("c", "lif0"), *program.edges)
        program = replace(program, nodes=nodes, edges=edges)
    row = vars(load_limits("loihi1").limits[key]) | {"value": value}
    path = tmp_path / "f.json"
    path.write_text(json.dumps({"schema": 1, "name": "f", "extends": "loihi1", "limits": [row]}))
    map_program(program, target="loihi1")
    with pytest.raises(
        UnsupportedError, match=rf"at most {value} .*\(limit {row['number']}, .*got {got}; {REMEDIES[key]}"
    ):
        map_program(program, target=path)


def test_a_program_that_loihi_1_does_not_offer_is_not_mapped_to_it():
    program = layered(DenseNode("s", (5,), full_weights(np.random.default_rng(0), (3, 5)), 8, 0), message_bits=8)
    with pytest.raises(UnsupportedError, match="the program needs graded input"):
        map_program(program, target="loihi1")


def test_delays_take_slots_and_bits():
    weight = full_weights(np.random.default_rng(0), (1000, 20))
    cores = {d: map_program(layered(DenseNode("s", (20,), weight, 8, 0, delay=d)), target="loihi1").cores
             for d in (0, 6, 7, 62)}  # fmt: skip
    assert [len(found) for found in cores.values()] == [1, 1, 2, 8]
    assert cores[62][0].loads["delay_slots"] == 64 * 125
    words = [found[0].loads["synapse_words"] for found in cores.values()]
    assert words[1] > words[0]
    two = [map_program(layered(DenseNode("s", (20,), weight, 8, 0, delay=d))).total["synapse_words"] for d in (0, 1)]
    assert two == [20 * -(-(10 + 1000 * 20) // 64), 20 * -(-(10 + 1000 * 26) // 64)]
