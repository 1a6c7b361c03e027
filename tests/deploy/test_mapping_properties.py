"""What must hold between maps of related programs, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from layered_programs import full_weights, layered

from lavatube.deploy.mapping.bundles import bundles_into, pack
from lavatube.deploy.mapping.limits import load_limits
from lavatube.deploy.mapping.map_program import map_program
from lavatube.deploy.mapping.place import REMEDIES
from lavatube.deploy.mapping.regions import Region
from lavatube.errors import UnsupportedError
from lavatube.program import Conv2dNode, DenseNode, SparseNode


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


def test_an_index_on_loihi_1_has_the_bits_that_the_neurons_of_a_core_need():
    words = {}
    for neurons in (64, 65):
        weight = np.zeros((neurons, 30), np.int16)
        weight[: 7 * 9] = full_weights(np.random.default_rng(0), (63, 30))
        weight[::2] = 0
        found = map_program(layered(DenseNode("s", (30,), weight, 8, 0)), target="loihi1")
        words[neurons] = found.total["synapse_words"]
    assert words == {64: 30 * -(-(10 + 31 * (8 + 6)) // 64), 65: 30 * -(-(10 + 31 * (8 + 7)) // 64)}


def test_cores_fill_tiles_along_a_snake_chip_after_chip():
    found = map_program(layered(DenseNode("s", (5,), full_weights(np.random.default_rng(0), (3, 5)), 8, 0)))
    cores = (0, 3, 4, 31, 32, 63, 64, 119, 120)
    assert [found.position(core) for core in cores] == [
        (0, 0, 0), (0, 0, 0), (0, 1, 0), (0, 7, 0), (0, 7, 1), (0, 0, 1), (0, 0, 2), (0, 2, 3), (1, 0, 0),
    ]  # fmt: skip


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
