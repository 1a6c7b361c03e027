"""The reference arithmetic against Python integers, hand-computed vectors, and a Loihi 2 chip."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lavatube import fixed_point as fp
from lavatube.neuron_node import NeuronNode
from lavatube.neuron_step import at_rest, step

CHIP = Path(__file__).parents[1] / "data" / "lif_lava_loihi_fixed.csv"


def neuron(u, v, a, bias, du, dv, vth):
    """One neuron, one step, Python integers: what `neuron_step.step` of a plain neuron must equal."""

    def kept(x, fraction):
        y = abs(x) * fraction // 4096
        return y if x >= 0 else -y

    def int32(x):
        return (x + 2**31) % 2**32 - 2**31

    u = int32(kept(u, 4096 - du - 1) + 64 * a)
    if u > 2**23:
        u -= 2**24
    elif u <= -(2**23):
        u += 2**24
    v = max(-(2**23 - 1), min(2**23 - 1, int32(kept(v, 4096 - dv) + u + bias)))
    spike = v > 64 * vth
    return u, 0 if spike else v, spike


DRIVES = st.one_of(st.integers(-(2**18), 2**18), st.sampled_from([2**17, -(2**17), 2**17 - 1, 2**26]))


@settings(max_examples=400, deadline=None)
@given(
    a=st.lists(DRIVES, min_size=1, max_size=6),
    bias=st.integers(-4096, 4095), exponent=st.integers(0, 7),
    du=st.integers(0, 4095), dv=st.integers(0, 4095), vth=st.sampled_from([0, 1, 77, 131071]),
)  # fmt: skip
def test_step_equals_python_integers_over_several_steps(a, bias, exponent, du, dv, vth):
    state = (0, 0)
    for drive, got in zip(a, steps(a, bias=bias, exponent=exponent, du=du, dv=dv, vth=vth), strict=True):
        *state, spike = neuron(*state, drive, bias << exponent, du, dv, vth)
        assert got == (*state, spike)


def steps(drives, *, bias=0, exponent=0, du, dv, vth):
    """(u, v, spike) of one plain neuron after each step."""
    node = NeuronNode("neuron", (1,), du, dv, vth, np.array([bias], np.int16), exponent)
    state, rows = at_rest(node, 1), []
    for t, drive in enumerate(drives):
        state, out = step(node, state, np.array([[drive]]), t)
        rows.append((int(state.u[0, 0]), int(state.v[0, 0]), int(out.events[0, 0])))
    return rows


def test_the_current_wraps_and_the_voltage_saturates_exactly_at_the_limits():
    wrapped = fp.wrap_current(np.array([2**23, 2**23 + 1, -(2**23), -(2**23) + 1, 3 * 2**23 + 5]))
    assert wrapped.tolist() == [2**23, -(2**23) + 1, 2**23, -(2**23) + 1, 2**23 + 5]
    assert fp.saturate_voltage(np.array([2**23, -(2**23)])).tolist() == [2**23 - 1, -(2**23) + 1]


def test_the_reference_equals_a_probe_of_a_loihi_2_chip():
    """u, v and spikes of one neuron over 1000 steps; on a spike step the chip's register shows 128, a marker, for 0.

    The network is one synapse of weight 10 into one neuron (tau 2.5 ms at dt 0.1 ms: dv 163), one tick later.
    """
    with CHIP.open() as handle:
        fed, chip_v, chip_spikes = zip(
            *([int(float(cell)) for cell in row] for row in csv.reader(handle) if row), strict=True
        )
    rows = steps([0, *(10 * x for x in fed[:-1])], du=4095, dv=163, vth=25)
    assert [s for _, _, s in rows] == list(chip_spikes)
    assert [128 if s else v for _, v, s in rows] == list(chip_v)
    assert (len(rows), sum(chip_spikes)) == (1000, 4)


@pytest.mark.parametrize(("exponent", "expected"), [(2, [20, -20]), (0, [5, -5]), (-1, [2, -3])])
def test_a_right_shift_of_the_sum_floors(exponent, expected):
    assert fp.activation(np.array([5, -5]), exponent).tolist() == expected
