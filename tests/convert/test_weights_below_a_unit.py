"""Weights that are small beside a wide proven range keep their digits: sums are rounded down, once."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import nir
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from quantized_floats import PLAIN, one_layer

from lavatube.bounds import prove_no_overflow
from lavatube.convert.float_graph.graph import FloatGraph
from lavatube.convert.float_graph.simulate import simulate
from lavatube.convert.post_training.quantize_graph import quantize_graph
from lavatube.convert.program_to_nir import program_to_nir
from lavatube.convert.registers import FoldedLayer, FoldedNeuron, FoldedSynapse, choose_registers
from lavatube.convert.rounding_error import lost, mean_square, squared_error
from lavatube.deploy.lower import lower
from lavatube.errors import UnsupportedError
from lavatube.program import LoihiProgram, floors_sums
from lavatube.program_file import program_sha256
from lavatube.sim.run import run
from lavatube.targets import refuse_what_target_lacks

STEPS = 40


def pixels(seed: int, inputs: int = 80) -> tuple[FloatGraph, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Neurons without leak that see many 8-bit values: (network, calibration, held-out samples)."""
    rng = np.random.default_rng(seed)
    neuron = nir.IF(*(np.full(8, value) for value in (1.0, 1.0, 0.0)))
    graph = one_layer(neuron, (rng.normal(size=(8, inputs)) * 0.5 + 0.05) / 255)
    shown, held = (rng.integers(0, 256, (STEPS, 3, inputs)).astype(float) for _ in range(2))
    shown[0, 0, 0] = held[0, 0, 0] = 255
    return graph, {"input": shown}, {"input": held}


def count_error(graph: FloatGraph, program: LoihiProgram, held: dict[str, np.ndarray]) -> float:
    there = simulate(graph, PLAIN, held).spikes["n"].sum(0).astype(int)
    here = run(program, held["input"].astype(int), backend="fast").spikes["n"].sum(0)
    return float(np.abs(there - here).sum() / there.sum())


@pytest.mark.parametrize(("bits", "share"), [(8, 0.15), (4, 0.6)])
def test_weights_that_became_0_or_1_keep_their_spike_counts(bits, share, monkeypatch):
    graph, shown, held = pixels(0)
    program = quantize_graph(graph, PLAIN, data=shown, weight_bits=bits)
    assert program.overflow == "strict"
    prove_no_overflow(program)
    assert all(floors_sums(synapse) for synapse in program.synapses)
    fine = count_error(graph, program, held)
    monkeypatch.setattr("lavatube.convert.post_training.choose.WORTH_FRACTIONS", 0)
    whole = count_error(graph, quantize_graph(graph, PLAIN, data=shown, weight_bits=bits), held)
    assert fine < share * whole


def test_the_loss_is_on_record_and_what_the_bias_gives_back():
    graph, shown, _ = pixels(1)
    program = quantize_graph(graph, PLAIN, data=shown)
    (synapse,), (node,) = program.synapses, program.neurons
    said = {record["what"]: record for record in program.lossy}
    row = said["sums rounded down to the unit of their population"]
    assert row["lost_at_most"] == 1 - 2.0 ** (synapse.weight_exp + 1)  # 8 bits: mantissas are even
    assert row["threshold"] == node.vth
    sums = shown["input"].reshape(-1, 80).astype(int) @ synapse.weight.astype(int).T
    fraction = (sums % (1 << -synapse.weight_exp)) * 2.0**synapse.weight_exp
    (what,) = (text for text in said if text.startswith("sums rounded down lose on average"))
    assert said[what]["lost"] == pytest.approx(fraction.mean())
    assert said[what]["lost_largest"] == pytest.approx(fraction.mean(0).max())
    given_back = node.bias_mant.astype(int) << node.bias_exp
    assert np.abs(given_back - fraction.mean(0) * 64).max() <= 0.5 if what.endswith("back") else not given_back.any()


def test_a_program_with_rounded_sums_comes_back_from_nir_and_loihi1_keeps_to_whole_units(tmp_path):
    graph, shown, held = pixels(2)
    program = quantize_graph(graph, PLAIN, data=shown)
    unsaid = program_to_nir(program, tmp_path / "m.nir", partly=True).unsaid
    assert "sums that are rounded down to whole units" in " ".join(unsaid)
    x = held["input"].astype(int)
    assert program_sha256(replace(lower(tmp_path / "m.nir"), source=program.source)) == program_sha256(program)
    traces = [run(program, x, backend=engine, record=("u", "v")) for engine in ("reference", "fast")]
    for group in ("spikes", "u", "v"):
        assert np.array_equal(*(getattr(trace, group)["n"] for trace in traces))
    binary = {"input": (shown["input"] > 200).astype(float)}
    narrow = quantize_graph(graph, PLAIN, data=binary, target="loihi1", num_steps=4000)
    assert not any(floors_sums(synapse) for synapse in narrow.synapses)
    refuse_what_target_lacks(narrow)
    wide = quantize_graph(graph, PLAIN, data=binary, num_steps=4000)
    assert any(floors_sums(synapse) for synapse in wide.synapses)
    with pytest.raises(UnsupportedError, match=r"needs sums with fractions.*quantize with --target loihi1"):
        refuse_what_target_lacks(replace(wide, target="loihi1"))


def test_a_network_that_whole_units_hold_exactly_keeps_them():
    graph = one_layer(nir.IF(*(np.full(2, value) for value in (1.0, 4.0, 0.0))), np.array([[1.0, 3.0], [-2.0, 5.0]]))
    program = quantize_graph(graph, PLAIN, num_steps=100, input_bits=8)
    assert not any(floors_sums(synapse) for synapse in program.synapses)
    assert [record["stage"] for record in program.lossy] == ["read"]


@given(st.integers(-7, 3))
def test_the_expected_loss_is_that_of_all_fractions_alike(shift):
    parts = np.arange(2 ** max(-shift, 0)) / 2.0 ** max(-shift, 0)
    assert lost(shift) == pytest.approx(float((parts**2).mean()))


@given(st.sampled_from([(0, 1), (-1, 1), (0, 15), (0, 255), (0, 65535)]))
def test_the_mean_square_of_events_is_that_of_their_range(ends):
    assert mean_square(ends) == pytest.approx(float((np.arange(ends[0], ends[1] + 1.0) ** 2).mean()))


def test_the_expected_error_is_near_what_random_events_show():
    rng = np.random.default_rng(0)
    exact = rng.normal(size=(6, 300))
    events = rng.integers(0, 16, (4000, 300))
    for shift in (0, -3):
        q = np.rint(exact / 2.0**shift)
        found = (np.floor(events @ q.T * 2.0**shift) - events @ exact.T) ** 2
        expected = squared_error(q * 2.0**shift, exact, shift, mean_square((0, 15)))
        assert 0.4 < found.mean() * 6 / expected < 2.5  # roundings that do not cancel by chance


def layer(weight: np.ndarray) -> FoldedLayer:
    synapse = FoldedSynapse("l", "input", {"kind": "dense", "in_shape": [weight.shape[1]]}, weight)
    return FoldedLayer("l", [len(weight)], (synapse,), np.zeros(len(weight)), FoldedNeuron(410))


@pytest.mark.parametrize(("bits", "fractions"), list(product([8, 4], [True, False])))
def test_fine_tuning_starts_with_weights_below_a_unit_only_where_that_matters(bits, fractions):
    rng = np.random.default_rng(0)
    wide, narrow = rng.normal(size=(5, 900)) / 900 / 8, rng.normal(size=(5, 9)) / 9
    settings = {"weight_bits": bits, "headroom": 0.85, "num_steps": 8, "fractions": fractions}
    (made,) = choose_registers([layer(wide)], message_bits=8, **settings)
    (row,) = made.layout["synapses"]
    q = np.rint(made.weights[0] / row["scale"])
    assert (row["headroom"] < 0) is fractions
    assert np.count_nonzero(q) > 0.4 * q.size if fractions else not q.any()
    (made,) = choose_registers([layer(narrow)], message_bits=1, **settings)
    assert made.layout["synapses"][0]["headroom"] >= 0
