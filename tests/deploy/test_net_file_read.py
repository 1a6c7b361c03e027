"""What a .net file means: its own integers, and what becomes of what does not fit."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from net_blocks import dense, even, net_file

from lavatube.deploy.net_file.integers import exact_mantissas
from lavatube.deploy.net_file.read import lower_net
from lavatube.errors import LavatubeError
from lavatube.inputs import make_inputs
from lavatube.sim.fast import run_fast
from lavatube.sim.reference import run_reference


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.net"


def spikes_of(program, seed=0, steps=12, run=run_reference):
    rng = np.random.default_rng(seed)
    events = rng.integers(0, program.input.max_value + 1, (steps, 2, *program.input.shape))
    return run(program, make_inputs(events, program.input, default_steps=steps), record=frozenset("uv"))


def by_hand(x, block, weight_of_step):
    """Spikes [T, units] of one dense block, in Python integers. weight_of_step(t): a list of (source step, matrix)."""
    units = len(block["weight"])
    bias = np.broadcast_to(block.get("bias", np.zeros(1, int)), units)
    u, v, out = [0] * units, [0] * units, []

    def kept(value, factor):
        return (abs(value) * factor >> 12) * (1 if value >= 0 else -1)

    for t in range(len(x)):
        row = []
        for n in range(units):
            a = sum(int(matrix[n] @ source) for source, matrix in weight_of_step(t, x, out))
            u[n] = kept(u[n], 4096 - block["neuron/iDecay"]) + 64 * a
            v[n] = kept(v[n], 4096 - block["neuron/vDecay"]) + u[n] + 64 * int(bias[n])
            row.append(int(v[n] > 64 * block["neuron/vThMant"]))
            v[n] = 0 if row[n] else v[n]
        out.append(np.array(row))
    return np.array(out)


@pytest.mark.parametrize("form", ["scalar", "neuron", "source", "matrix"])
def test_delays_shift_the_connections_they_belong_to(path, form):
    rng = np.random.default_rng(3)
    weight = even(rng, 4, 6) + 40
    delay = {"scalar": 3.0, "neuron": np.arange(4.0), "source": np.arange(6.0), "matrix": rng.integers(0, 5, (4, 6))}
    matrix = {"neuron": np.arange(4)[:, None], "source": np.arange(6)[None]}.get(form, delay[form])
    matrix = np.broadcast_to(matrix, (4, 6)).astype(int)
    block = dense(weight, delay=delay[form], bias=[3, -5, 0, 7])
    program = lower_net(net_file(path, block), overflow="hardware")
    trace = spikes_of(program)

    def sources(t, x, _):
        return [(x[t - d], np.where(matrix == d, weight, 0)) for d in range(6) if t >= d]

    for sample in range(2):
        expected = by_hand(trace.input[:, sample], block, sources)
        assert 0 < expected.mean() < 1
        np.testing.assert_array_equal(trace.spikes["layer0"][:, sample], expected)


def test_a_recurrent_block_sees_its_own_spikes_of_the_step_before(path):
    rng = np.random.default_rng(4)
    weight, back = even(rng, 5, 3), even(rng, 5, 5)
    block = {**dense(weight, weight_rec=back), "type": "dense_rec"}
    program = lower_net(net_file(path, block), overflow="hardware")
    assert program.is_recurrent
    for run in (run_reference, run_fast):
        trace = spikes_of(program, run=run)
        expected = by_hand(
            trace.input[:, 0], block, lambda t, x, out: [(x[t], weight)] + ([(out[t - 1], back)] if t else [])
        )
        assert 0 < expected.mean() < 1
        np.testing.assert_array_equal(trace.spikes["layer0"][:, 0], expected)


def test_a_last_dense_block_without_neurons_is_the_sum_of_its_currents(path):
    weight = np.array([[2, -4, 6], [127, 0, -128]])
    block = {"type": "dense", "shape": [2], "weight": weight}
    trace = spikes_of(lower_net(net_file(path, block)))
    np.testing.assert_array_equal(trace.readout, trace.input.sum(0) @ weight.T)


@pytest.mark.parametrize(
    ("vth", "reads", "output"),
    [(60, "spikes", "binary"), (131071, "voltage", "binary"), ((1 << 18) - 1, "voltage", "none")],
)
def test_what_the_last_population_is_read_by_follows_from_its_threshold(path, vth, reads, output):
    block = {**dense(np.array([[4, -6]])), "neuron/vThMant": vth}
    program = lower_net(net_file(path, block))
    assert (program.readout.reads, program.neurons[-1].output) == (reads, output)
    trace = spikes_of(program)
    expected = trace.v["layer0"][-1] if reads == "voltage" else trace.spikes["layer0"].sum(0, dtype=np.int64)
    np.testing.assert_array_equal(trace.readout, expected)


@settings(max_examples=300, deadline=None)
@given(
    base=st.lists(st.integers(-300, 300), min_size=1, max_size=6), shift=st.integers(0, 6),
)  # fmt: skip
def test_weights_are_exact_or_said_not_to_be(base, shift):
    weight = np.array(base, np.int64) << shift
    found = exact_mantissas(weight)
    if found is None:
        signs = {bool(w > 0) for w in base if w}
        assert max(map(abs, base)) > (127 if len(signs) == 2 else 255)
    else:
        mantissas, _, exponent, _ = found
        for s in (1, 3):
            assert [((int(m) * s) << 8 + exponent) >> 8 for m in mantissas] == (weight * s).tolist()


def test_what_the_registers_do_not_hold_is_clipped_and_listed_and_refused_by_strict(path):
    weight = np.array([[300, -7], [2, 3]])
    block = {**dense(weight, bias=[5001, -9000], delay=[70, 0]), "neuron/iDecay": 0, "neuron/vDecay": 4096}
    block["neuron/refDelay"] = 4
    net_file(path, block)
    with h5py.File(path, "a") as file:
        file["notes"] = 1
    program = lower_net(path, overflow="hardware")
    words = [record["what"] for record in program.lossy]
    for word in ("/notes", "weights", "delays", "bias", "refDelay 4", "iDecay 0 clipped to 1", "vDecay 4096"):
        assert sum(word in line for line in words) == 1, (word, words)
    assert len(words) == 7
    effective = {}
    for node in program.synapses:
        for unit in range(2):
            for place in range(node.indptr[unit], node.indptr[unit + 1]):
                value = int(node.weight[place]) << 8 + node.weight_exp >> 8
                effective[unit, int(node.index[place])] = (value, node.delay)
    assert effective == {(0, 0): (254, 62), (0, 1): (-8, 62), (1, 0): (2, 0), (1, 1): (2, 0)}
    neurons = program.neurons[0]
    assert (neurons.du, neurons.dv, neurons.bias_mant.tolist(), neurons.bias_exp) == (0, 4095, [4095, -4096], 6)
    with pytest.raises(LavatubeError, match="lossy steps"):
        lower_net(path, overflow="hardware", strict=True)
