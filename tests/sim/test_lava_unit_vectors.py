"""The numbers of Lava's own bit-accurate unit tests (lava-nc 0.10.0, tests/lava/...), through our reference.

Each case names the test it comes from. Where Lava clips and truncates weights on the way in, we refuse them instead:
the weights here are those that Lava keeps, and `test_the_grid_...` compares what is kept.
"""

from __future__ import annotations

import numpy as np
import pytest
from lava_wheels import wheel

from lavatube import fixed_point as fp
from lavatube.deploy.net_file.integers import exact_mantissas
from lavatube.errors import LavatubeError
from lavatube.inputs import make_inputs
from lavatube.neuron_node import NeuronNode
from lavatube.neuron_step import NeuronState, at_rest, step
from lavatube.program import Conv2dNode, DenseNode, InputNode, LoihiProgram, ReadoutNode, SparseNode
from lavatube.sim.reference import conv_sums, run_reference


def series(drives, *, bias=0, exponent=0, **registers):
    """(u, v, event) of one neuron after each step."""
    node = NeuronNode("neuron", (1,), bias_mant=np.array([bias], np.int16), bias_exp=exponent, **registers)
    state, rows = at_rest(node, 1), []
    for t, drive in enumerate(drives):
        state, now = step(node, state, np.array([[drive]]), t)
        rows.append((int(state.u[0, 0]), int(state.v[0, 0]), int(now.events[0, 0])))
    return tuple(zip(*rows, strict=True))


TERNARY = {"output": "signed", "vth_low": 8, "vth": 2}
IMPULSE = [128] + [0] * 7


# proc/lif/test_models.py, TestLIFProcessModelsFixed and TestTLIFProcessModelsFixed
@pytest.mark.parametrize(
    ("drives", "registers", "what", "expected"),
    [
        pytest.param(
            [0] * 10, {"bias": 2, "exponent": 6, "du": 0, "dv": 0, "vth": 8}, 2, [0, 0, 0, 0, 1] * 2,
            id="test_bitacc_pm_no_decay",
        ),
        pytest.param(
            IMPULSE, {"du": 2047, "dv": 0, "vth": 256}, 0, [8192, 4096, 2048, 1024, 512, 256, 128, 64],
            id="test_bitacc_pm_impulse_du",
        ),
        pytest.param(
            IMPULSE, {"du": 0, "dv": 2048, "vth": 256}, 1, [8192, 12286, 14331, 15351, 15859, 16111, 16235, 16295],
            id="test_bitacc_pm_impulse_dv",
        ),
        pytest.param(
            [0], {"bias": 4095, "exponent": 5, "du": 0, "dv": 0, "vth": 0, "output": "none"}, 1, [4095 << 5],
            id="test_bitacc_pm_scaling_of_bias",
        ),
        pytest.param(
            [0] * 10, {"bias": -2, "exponent": 6, "du": 0, "dv": 0, **TERNARY}, 2, [0, 0, 0, 0, -1] * 2,
            id="test_fixed_pm_neg_no_decay_1",
        ),
        pytest.param(
            [1, 1, 1, -1, -1, -1, -1, -1, -1, 1, 1], {"du": 0, "dv": 0, **TERNARY, "vth_low": 3, "vth": 5}, 2,
            [0, 0, 1, 0, 0, 0, 0, 0, -1, 0, -1], id="test_fixed_pm_neg_no_decay_2",
        ),
        pytest.param(
            [-a for a in IMPULSE], {"du": 2047, "dv": 0, **TERNARY, "vth_low": 256}, 0,
            [-8192, -4096, -2048, -1024, -512, -256, -128, -64], id="test_fixed_pm_neg_impulse_du",
        ),
        pytest.param(
            [-a for a in IMPULSE], {"du": 0, "dv": 2048, **TERNARY, "vth_low": 256}, 1,
            [-8192, -12286, -14331, -15351, -15859, -16111, -16235, -16295], id="test_fixed_pm_neg_impulse_dv",
        ),
    ],
)  # fmt: skip
def test_neurons_give_the_series_of_lavas_lif(drives, registers, what, expected):
    assert list(series(drives, **registers)[what]) == expected


def test_neurons_reset_like_lavas_lifreset():
    """TestTLIFReset.test_fixed_model: u holds with du = -1, which no program may have; Lava's step 3 is our step 2."""
    unit = np.arange(10)
    bias = (unit + 1).astype(np.int16)
    node = NeuronNode("neuron", (10,), 0, 0, 100, bias, 0, reset_interval=4, reset_offset=2)
    object.__setattr__(node, "du", -1)
    state = NeuronState(unit[None], unit[None] * 0, unit[None] * 0, unit[None] * 0)
    for t in range(16):
        state, _ = step(node, state, np.zeros((1, 10), np.int64), t)
        if t < 2:
            u, v = unit, (2 * unit + 1) * (t + 1)
        else:
            u, v = unit * 0, (unit + 1) * (1 + (t - 2) % 4)
        np.testing.assert_array_equal(state.u[0], u)
        np.testing.assert_array_equal(state.v[0], v)


def activations(synapses, events):
    """[T, out] a of some synapses together, from the u of neurons that keep no current. events: [T, in]."""
    units = int(np.prod(synapses[0].out_shape))
    neurons = NeuronNode("n", (units,), 4095, 0, 0, np.zeros(units, np.int16), 0, output="none")
    end = ReadoutNode("output", np.zeros(units, np.int64), "voltage")
    nodes = (InputNode("input", (events.shape[1],), 8), *synapses, neurons, end)
    edges = [edge for node in synapses for edge in (("input", node.name), (node.name, "n"))]
    source = {"kind": "test", "sha256": ""}
    program = LoihiProgram(nodes, (*edges, ("n", "output")), len(events), source, overflow="hardware")
    inputs = make_inputs(events[:, None], program.input, default_steps=len(events))
    return run_reference(program, inputs, record=frozenset("u")).u["n"][:, 0] >> 6


FAN_OUT = {"shape": (3, 4), "at": (slice(None), 2)}
FAN_IN = {"shape": (3, 4), "at": (2, slice(None))}


# proc/dense/test_models.py, TestDenseProcessModelFixed and TestDelayDenseProcessModel; TestDelaySparseProcessModel of
# proc/sparse/test_models.py has the same numbers. Every source fires once, at Lava's step 4.
@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
@pytest.mark.parametrize("delays", [[0, 0, 0, 0], [2, 2, 2, 2], [0, 1, 2, 0]], ids=["no_delay", "delay_2", "delay_012"])
@pytest.mark.parametrize(
    ("where", "given", "kept", "options", "expected"),
    [
        pytest.param(FAN_OUT, [0.5, 300, 40], [0, 255, 40], (8, 0, "excitatory"), [0, 255, 40], id="excitatory"),
        pytest.param(FAN_OUT, [300, -300, 39], [254, -256, 38], (8, 0, "mixed"), [254, -256, 38], id="mixed_sign"),
        pytest.param(FAN_OUT, [300, -300, 39], [254, -256, 38], (8, 1, "mixed"), [508, -512, 76], id="weight_exp"),
        pytest.param(FAN_OUT, [300, -300, 39], [252, -256, 36], (7, 0, "mixed"), [252, -256, 36], id="precision"),
        pytest.param(FAN_IN, [300, -300, 39, -0.4], [254, -256, 38, 0], (8, 0, "mixed"), [36], id="fan_in_mixed_sign"),
    ],
)  # fmt: skip
def test_dense_and_sparse_accumulate_like_lavas(where, given, kept, options, expected, delays, sparse):
    bits, exponent, sign = options
    late = np.zeros(where["shape"], int)
    late[where["at"]] = delays[: len(kept)]
    weight = np.zeros(where["shape"], np.int16)
    weight[where["at"]] = given
    with pytest.raises(LavatubeError, match="off Loihi's grid"):
        DenseNode("d", (4,), weight, bits, exponent, sign=sign)
    weight[where["at"]] = kept
    events = np.zeros((8, 4), int)
    events[3] = 1
    total = np.zeros((8, 3), int)
    parts = []
    for delay in sorted(set(late.flat)):
        part = np.where(late == delay, weight, 0).astype(np.int16)
        name = f"delay{delay}"
        if sparse:
            index, indptr = np.tile(np.arange(4, dtype=np.int32), 3), np.arange(4, dtype=np.int64) * 4
            parts.append(
                SparseNode(name, (4,), (3,), part.reshape(-1), index, indptr, bits, exponent, int(delay), sign)
            )
        else:
            parts.append(DenseNode(name, (4,), part, bits, exponent, int(delay), sign))
    if where is FAN_OUT:
        for unit, value in enumerate(expected):
            total[3 + delays[unit], unit] = value
    else:
        for source, value in enumerate(kept):
            total[3 + delays[source], 2] += value
        assert total.sum() == expected[0]
    np.testing.assert_array_equal(activations(parts, events), total)


# proc/sparse/test_models.py, TestSparseProcessModelFixed
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("graded", [False, True])
def test_sparse_is_consistent_with_dense_for_random_shapes(seed, graded):
    rng = np.random.default_rng(seed)
    units, inputs = rng.integers(1, 300, 2).tolist()
    weight = (rng.integers(-10, 10, (units, inputs)) * 2 * (rng.random((units, inputs)) > 0.7)).astype(np.int16)
    weight[0, 0] = 2
    events = rng.integers(0, 10, (10, inputs)) if graded else (rng.random((10, inputs)) > 0.7).astype(int)
    there = weight != 0
    indptr = np.concatenate([[0], there.sum(1).cumsum()]).astype(np.int64)
    index = np.nonzero(there)[1].astype(np.int32)
    sparse = SparseNode("s", (inputs,), (units,), weight[there], index, indptr, 8, 0)
    dense = DenseNode("d", (inputs,), weight, 8, 0)
    np.testing.assert_array_equal(activations([sparse], events), activations([dense], events))
    np.testing.assert_array_equal(activations([dense], events), events @ weight.T)


# utils/test_weightutils.py, TestTruncateWeights and TestClipWeights; -256 of test_truncate_weights_inhibitory_8 is
# clipped before it is truncated, as TestClipWeights.test_clip_weights_inhibitory_8 has it
@pytest.mark.parametrize(
    ("sign", "bits", "given", "kept"),
    [
        ("excitatory", 8, [253, 254, 255], [253, 254, 255]),
        ("excitatory", 7, [252, 253, 253, 254, 255], [252, 252, 252, 254, 254]),
        ("inhibitory", 8, [-255, -254, -1], [-255, -254, -1]),
        ("inhibitory", 7, [-255, -254, -253, -252, -251], [-254, -254, -252, -252, -250]),
        ("mixed", 8, [-256, -255, -254, 253, 254, 255], [-256, -256, -254, 252, 254, 254]),
        ("mixed", 7, [-256, -255, -254, 253, 254, 255], [-256, -256, -256, 252, 252, 252]),
        ("excitatory", 8, [-1, 0, 255, 256], [0, 0, 255, 255]),
        ("inhibitory", 8, [-256, -255, -1, 0, 1], [-255, -255, -1, 0, 0]),
        ("mixed", 8, [-257, -256, 255, 256], [-256, -256, 254, 254]),
    ],
)
def test_the_grid_holds_what_lava_keeps_and_refuses_what_it_changes(sign, bits, given, kept):
    for before, after in zip(given, kept, strict=True):
        assert DenseNode("d", (1,), np.array([[after]], np.int16), bits, 0, sign=sign).weight[0, 0] == after
        if before != after:
            with pytest.raises(LavatubeError, match="off Loihi's grid"):
                DenseNode("d", (1,), np.array([[before]], np.int16), bits, 0, sign=sign)


# utils/test_weightutils.py, TestOptimizeWeightBits; where one sign would do, we keep the sign bit if 8 bits allow it
@pytest.mark.parametrize(
    ("weights", "exponent", "bits"),
    [
        (np.arange(0, 255), 0, 8),  # test_optimize_weight_bits_excitatory_8bit
        (np.arange(-255, 0), 0, 8),  # test_optimize_weight_bits_inhibitory_8bit
        (np.arange(-256, 255, 2), 0, 8),  # test_optimize_weight_bits_mixed_8bit
        (np.arange(-256, 255, 4), 0, 7),  # test_optimize_weight_bits_mixed_7bit
        (np.arange(-512, 511, 4), 1, 8),  # test_determine_num_weight_bits_mixed_8_exp_1
        (np.arange(-512, 511, 8), 1, 7),  # test_determine_num_weight_bits_mixed_7_exp_1
        (np.arange(0, 511, 2), 1, 8),  # test_determine_num_weight_bits_excitatory_8_exp_1
        (np.array([10, 10, 10]), -4, 4),  # test_optimize_weight_bits_weight_exp, and a sign bit
        (np.zeros(3, int), -8, 1),  # test_optimize_weight_bits_wgts_all_zero; no synapse of ours has 0 bits
    ],
)
def test_integer_weights_get_the_exponent_and_bits_of_lava_and_stay_exact(weights, exponent, bits):
    mantissas, num_bits, weight_exp, sign = exact_mantissas(weights)
    assert (weight_exp, num_bits) == (exponent, bits)
    node = DenseNode("d", (1,), mantissas.reshape(-1, 1), num_bits, weight_exp, sign=sign)
    np.testing.assert_array_equal(fp.activation(node.weight[:, 0].astype(np.int64), weight_exp), weights)


@pytest.mark.wheels
@pytest.mark.parametrize("number", range(10))
def test_convolutions_equal_lavas_saved_results(number):
    """proc/conv/test_utils.py, test_conv_saved_data: kernels as Lava has them, flipped and in (x, y, channel) order.

    Lava's inputs and results are floats; ours are the inputs in units of 2^-36, so only their rounding is left.
    """
    path = f"gt_conv_paris_{number}.npz"
    with np.load(wheel("lava-nc==0.10.0", "tests/lava/proc/conv/ground_truth").stream(path)) as saved:
        image, kernel, golden = saved["input"], saved["weights"], saved["out_gt"]
        window = {name: tuple(int(n) for n in saved[name][::-1]) for name in ("stride", "padding", "dilation")}
        groups = int(saved["groups"])
    weight = kernel[:, ::-1, ::-1].transpose(0, 3, 2, 1)
    mantissas, bits, exponent, sign = exact_mantissas(weight.astype(np.int64))
    node = Conv2dNode(
        "c", image.transpose(2, 1, 0).shape, mantissas, bits, exponent, groups=groups, sign=sign, **window
    )
    events = np.rint(image.transpose(2, 1, 0) * 2.0**36).astype(np.int64)[None]
    ours = conv_sums(node, events).reshape(node.out_shape).transpose(2, 1, 0) * 2.0 ** (exponent - 36)
    assert ours.shape == golden.shape
    assert np.abs(ours - golden).max() < 2e-3  # of 600 to 2000: the saved results are float32
