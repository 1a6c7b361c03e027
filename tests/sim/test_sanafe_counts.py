"""SANA-FE counts on our programs, cores and spikes what we do, where it means the same."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from sanafe_network import charged_updates, sanafe_counts

from lavatube.inputs import make_inputs
from lavatube.program import Conv2dNode, DenseNode, InputNode, LoihiProgram, NeuronNode, ReadoutNode
from lavatube.sim.counts import Placement, count
from lavatube.sim.reference import run_reference

pytest.importorskip("sanafe", reason="SANA-FE is not installed: uv run --with sanafe")

TILES = np.array([[0, 0], [0, 0], [1, 0], [1, 2], [2, 1], [0, 1]])
STEPS = 6


def chain(biased: bool) -> LoihiProgram:
    """A strided, grouped convolution and a dense layer, with weights of 0 among them."""
    rng = np.random.default_rng(3)
    weight = (2 * rng.integers(-9, 14, (6, 2, 3, 3)) * rng.integers(0, 2, (6, 2, 3, 3))).astype(np.int16)
    conv = Conv2dNode("conv", (4, 7, 6), weight, 8, 0, (2, 2), (1, 1), groups=2)
    size = int(np.prod(conv.out_shape))
    dense = DenseNode("dense", conv.out_shape, (2 * rng.integers(-20, 30, (9, size))).astype(np.int16), 8, 0)
    bias = np.full(conv.out_shape, 7 * biased, np.int16)
    decay = (100, 300) if biased else (4095, 0)
    nodes = (
        InputNode("input", conv.in_shape, 1), conv, NeuronNode("first", conv.out_shape, *decay, 60, bias, 6 * biased),
        dense, NeuronNode("second", (9,), 4095, 0, 90, np.zeros(9, np.int16), 0),
        ReadoutNode("out", np.zeros(9, np.int64), "spikes"),
    )  # fmt: skip
    return LoihiProgram(nodes, tuple(pairwise(node.name for node in nodes)), STEPS, {}, overflow="hardware")


def run(program, seed=0):
    events = (np.random.default_rng(seed).random((STEPS, 1, *program.input.shape)) < 0.2).astype(np.uint8)
    return run_reference(program, make_inputs(events, program.input, default_steps=STEPS), record=frozenset("v"))


def placed(program) -> Placement:
    rng = np.random.default_rng(1)
    cores = {node.name: rng.integers(0, len(TILES), node.bias_mant.size) for node in program.neurons}
    return Placement(cores, TILES, np.zeros(len(TILES), np.int64))


@pytest.mark.parametrize(("biased", "given"), [(False, True), (True, True), (False, False)])
def test_synapse_hits_spikes_packets_and_hops_are_sana_fes(biased, given):
    program = chain(biased)
    trace, placement = run(program), placed(program)
    ours = count(program, trace, placement)
    found = sanafe_counts(program, trace, placement, given=given)
    assert ours.total.spikes_out > 20
    assert ours.traffic.hops_x > 0 < ours.traffic.hops_y
    assert found.synapse_hits == ours.total.synops_stored
    assert found.fired == ours.total.spikes_out
    assert (found.packets, found.packets_of_inputs) == (ours.traffic.messages, ours.traffic.messages_host)
    assert found.hops == (ours.traffic.hops_x, ours.traffic.hops_y)


def test_sana_fe_also_updates_neurons_that_only_hold_a_voltage():
    program = chain(False)
    trace, placement = run(program), placed(program)
    found = sanafe_counts(program, trace, placement, given=False)
    assert found.updates == charged_updates(program, trace)
    assert found.updates > count(program, trace).total.updates
