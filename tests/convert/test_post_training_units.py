"""Units, scales and powers of two: chosen by what they do to the spikes, every rounding on record."""

from __future__ import annotations

import nir
import numpy as np
import pytest
from quantized_floats import PLAIN, differences, lif, lossy, one_layer, spikes_of

from lavatube.convert.float_graph.read import flat_graph
from lavatube.convert.float_graph.simulate import simulate
from lavatube.convert.post_training.integers import Made
from lavatube.convert.post_training.quantize_graph import quantize_graph
from lavatube.convert.post_training.score import Calibration, score
from lavatube.errors import LavatubeError
from lavatube.program import LoihiProgram
from lavatube.program_file import program_sha256
from lavatube.sim.run import run


@pytest.mark.parametrize("bits", [2, 3, 8])
def test_every_rounding_is_recorded_with_its_damage(bits):
    weight = np.random.default_rng(0).normal(size=(6, 20)) * 0.3
    program = quantize_graph(one_layer(lif(6), weight), PLAIN, weight_bits=bits)
    by_what = {record["what"]: record for record in program.lossy}
    record = by_what[f"weights rounded to {bits} bits"]
    (node,) = program.synapses
    unit = program.scales["w"]
    used = node.weight * 2.0**node.weight_exp * unit
    relative = np.abs(used - weight) / np.abs(weight)
    assert record["relative_error_mean"] == pytest.approx(relative.mean())
    assert record["relative_error_largest"] == pytest.approx(relative.max())
    assert record["weights_to_zero"] == (used == 0).sum()
    assert node.num_weight_bits == bits
    assert len(np.unique(node.weight)) <= 2**bits
    assert by_what["decay of v rounded to its register"]["used"] == 1 - 410 / 4096


def test_the_units_are_chosen_by_the_spikes_of_the_calibration_data():
    rng = np.random.default_rng(3)
    graph = one_layer(lif(12), rng.normal(size=(12, 30)) * 0.25)
    data = spikes_of(graph, 60, seed=5, batch=6)

    def count_error(program: LoihiProgram) -> int:
        there = simulate(graph, PLAIN, data).spikes["n"].sum(0).astype(int)
        here = run(program, data["input"].astype(int), backend="reference").spikes["n"].sum(0)
        return int(np.abs(there - here).sum())

    blind = quantize_graph(graph, PLAIN, weight_bits=3, num_steps=60)
    shown = quantize_graph(graph, PLAIN, weight_bits=3, data=data)
    assert count_error(shown) < count_error(blind)


def test_channels_of_different_size_get_powers_of_two_of_their_own_and_stay_exact():
    rng = np.random.default_rng(0)
    rows = 2.0 ** -np.arange(4)
    for weight, shape in (
        (rng.integers(-127, 128, (4, 12)), (12,)),
        (rng.integers(-127, 128, (4, 3, 2, 2)), (3, 2, 2)),
    ):
        weight[:, 0] = 127  # each needs all of its 8 bits
        each = weight * rows.reshape(-1, *(1,) * (weight.ndim - 1)) / 64
        node = nir.Linear(each) if each.ndim == 2 else nir.Conv2d(shape[1:], each, 1, 0, 1, 1, np.zeros(4))
        out = (4,) if each.ndim == 2 else (4, 1, 1)
        nodes = {"input": nir.Input(np.array(shape)), "w": node, "o": nir.Output(np.array(out)),
                 "n": nir.IF(np.ones(out), np.full(out, 2.0), np.zeros(out))}  # fmt: skip
        graph = flat_graph(nir.NIRGraph(nodes, [("input", "w"), ("w", "n"), ("n", "o")], type_check=False))
        program = quantize_graph(graph, PLAIN, num_steps=8)
        assert [synapse.name for synapse in program.synapses] == ["w", "w.by1", "w.by2", "w.by3"]
        assert not lossy(program)
        assert differences(graph, PLAIN, program, 8) == {"n": 0}


@pytest.mark.parametrize("bits", [3, 6])
def test_powers_of_two_by_channel_keep_more_spike_counts(bits, monkeypatch):
    rng = np.random.default_rng(0)
    rows = 2.0 ** rng.uniform(-3, 0, (16, 1))
    graph = one_layer(lif(16), (rng.normal(size=(16, 40)) * 0.5 + 0.08) * rows)
    data, held = spikes_of(graph, 40, seed=5, batch=4), spikes_of(graph, 60, seed=9, batch=16)
    there = simulate(graph, PLAIN, held).spikes["n"].sum(0).astype(int)

    def count_error() -> int:
        program = quantize_graph(graph, PLAIN, weight_bits=bits, data=data)
        here = run(program, held["input"].astype(int), backend="reference").spikes["n"].sum(0)
        return int(np.abs(there - here).sum())

    by_channel = count_error()
    monkeypatch.setattr("lavatube.convert.post_training.choose.WORTH_MORE_SYNAPSES", 0)
    assert by_channel < 0.9 * count_error()


@pytest.mark.parametrize(
    "neuron", [lif(12, v_threshold=0.61), nir.LI(*(np.full(12, value) for value in (4.0, 4.0, 0.0)))]
)
def test_what_is_beyond_a_samples_length_chooses_no_unit(neuron, monkeypatch):
    graph = one_layer(neuron, np.random.default_rng(3).normal(size=(12, 30)) * 0.25)
    (data,) = spikes_of(graph, 10, seed=5, batch=6).values()
    padded = np.concatenate([data, np.full((20, 6, 30), 37.3)])
    scores: list[list[tuple[float, float]]] = []

    def seen(made: Made, calibration: Calibration) -> tuple[float, float]:
        scores[-1].append(score(made, calibration))
        return scores[-1][-1]

    monkeypatch.setattr("lavatube.convert.post_training.choose.score", seen)
    programs = []
    for values, length in ((data, None), (padded, np.full(6, 10))):
        scores.append([])
        made = quantize_graph(graph, PLAIN, data={"input": values}, length=length, weight_bits=3, num_steps=10)
        programs.append([program_sha256(made), made.lossy])
    assert scores[0]
    assert np.allclose(scores[0], scores[1], rtol=1e-12)
    assert programs[0] == programs[1]


@pytest.mark.parametrize(
    "names",
    [
        ("input", "n1", "n2"), ("clock", "n1", "n2"), ("input", "clock", "clock.none"), ("n2.bias.1", "n1", "n2"),
        ("input", "n" * 82 + "1", "n" * 82 + "2"),
    ],
)  # fmt: skip
def test_no_name_of_a_file_is_in_the_way_of_the_clock_that_carries_biases(names):
    full = np.ones(2)
    kinds = (
        nir.Input(np.array([2])),
        *(nir.CubaLIF(full * 2, full * 2, full, full * 0, full * level, full * 0, full) for level in (3, 1)),
    )
    weight = np.array([[1.0, 2.0], [3.0, 1.0]])
    nodes = {"w1": nir.Affine(weight, full / 2), "w2": nir.Affine(weight, full), "o": nir.Output(np.array([2]))}
    edges = [(names[0], "w1"), ("w1", names[1]), (names[1], "w2"), ("w2", names[2]), (names[2], "o")]
    nodes |= dict(zip(names, kinds, strict=True))
    graph = flat_graph(nir.NIRGraph(nodes, edges, type_check=False))
    contract = PLAIN.with_overrides(gain="one")
    program = quantize_graph(graph, contract, num_steps=8)
    assert len(program.neurons) == 3
    assert not lossy(program)
    assert differences(graph, contract, program, 8) == dict.fromkeys(names[1:], 0)


def test_thresholds_that_differ_between_neurons_are_scaled_into_their_weights():
    weight = np.array([[0.5, 0.25], [1.0, -0.5], [0.25, 0.75]])
    graph = one_layer(lif(3, v_threshold=np.array([1.0, 2.0, 0.5]), tau=2.0, r=2.0), weight)
    program = quantize_graph(graph, PLAIN, num_steps=8)
    assert not lossy(program)
    assert differences(graph, PLAIN, program, 8) == {"n": 0}


@pytest.mark.parametrize(
    ("neuron", "weight"),
    [
        (lif(2, v_threshold=1e-310), 1e-310), (lif(2, v_threshold=1e-290, v_leak=1e30), 1e-290),
        (lif(2, v_threshold=5e-324), 1.0), (lif(2, v_threshold=np.array([1e300, 1e-300])), 1.0),
        (nir.LI(*np.ones((3, 2))), 1e-310),
    ],
)  # fmt: skip
def test_numbers_beside_which_no_unit_can_be_chosen_are_refused(neuron, weight):
    with pytest.raises(LavatubeError, match=r":n: numbers that are too small, or too far apart.*; scale this"):
        quantize_graph(one_layer(neuron, np.full((2, 2), weight)), PLAIN)
