"""The quantized checkpoint's own torch forward equals the reference on the program lowered from it, bit for bit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lavatube.cli.app import invoke
from lavatube.convert.export import export
from lavatube.convert.registers import FoldedLayer, FoldedNeuron, FoldedSynapse, choose_registers
from lavatube.deploy.lower import lower
from lavatube.errors import LavatubeError
from lavatube.integer_layer import IntegerNeuron
from lavatube.neuron_step import at_rest, step
from lavatube.sim.run import run
from lavatube.sim.torch_run import run_torch
from lavatube.train.integer_step import IntegerState, run_neurons, step_neurons
from lavatube.train.quantized import QuantizedModule
from lavatube.trained import QuantizedNetwork, save_quantized


def network(seed=0, *, bits=8, dv=2048, inhibition=0.0, message_bits=8, headroom=0.99, **kind):
    """A QuantizedNetwork with random master weights, off the grid as training leaves them."""
    rng, neuron = np.random.default_rng(seed), FoldedNeuron(dv, **kind)

    def conv(name, source, c_in, size_in, c_out, size_out, stride, fan_in):
        geometry = {
            "kind": "conv2d", "in_shape": [c_in, *size_in], "kernel": [3, 3], "stride": [stride, stride],
            "padding": [1, 1],
        }  # fmt: skip
        weight = rng.normal(-inhibition, 1, (c_out, c_in, 3, 3)) / fan_in
        synapse = FoldedSynapse(name, source, geometry, weight)
        return FoldedLayer(name, [c_out, *size_out], (synapse,), rng.normal(0, 0.3, c_out), neuron)

    def dense():
        geometry = {"kind": "dense", "in_shape": [4, 3, 3]}
        return FoldedSynapse("layer3", "layer2", geometry, rng.normal(0, 1, (5, 36)))

    folded = [
        conv("layer1", "input", 2, (6, 5), 3, (6, 5), 1, 2 * 2**message_bits),
        conv("layer2", "layer1", 3, (6, 5), 4, (3, 3), 2, 4),
        FoldedLayer("layer3", [5], (dense(),), rng.normal(0, 1, 5), None),
    ]
    chosen = choose_registers(folded, message_bits=message_bits, weight_bits=bits, headroom=headroom, num_steps=8)
    layout = {
        "num_steps": 8,
        "input": {"shape": [2, 6, 5], "message_bits": message_bits},
        "layers": [dict(layer.layout) for layer in chosen],
    }
    module = QuantizedModule(layout)
    for layer, values in zip(module.layers, chosen, strict=True):
        layer.synapses[0].set_master(values.weights[0])
        layer.bias.data.copy_(torch.tensor(values.bias))
    tensors = {name: value.detach().numpy() for name, value in module.state_dict().items()}
    return QuantizedNetwork({"gradient": {"kind": "rate"}}, layout, tensors, (), {})


def both(quantized, events, tmp_path, steps=None, record=("u", "v")):
    save_quantized(quantized, tmp_path / "quantized.safetensors")
    export(tmp_path)
    lower(tmp_path / "model.nir", out=tmp_path / "program.safetensors")
    return [run(tmp_path, events, backend=name, steps=steps, record=record) for name in ("torch", "reference", "fast")]


def assert_same(a, b):
    assert list(a.spikes) == list(b.spikes)
    for name in a.spikes:
        for group in ("spikes", "u", "v"):
            np.testing.assert_array_equal(getattr(a, group)[name], getattr(b, group)[name], err_msg=f"{group} {name}")
    np.testing.assert_array_equal(a.readout, b.readout)


@pytest.mark.parametrize("bits", [2, 3, 8])
@pytest.mark.parametrize("dv", [410, 2048])
def test_checkpoint_and_program_agree_in_spikes_state_and_readout(tmp_path, bits, dv):
    events = np.random.default_rng(1).integers(0, 256, (9, 2, 6, 5))
    torch_trace, *others = both(network(bits, bits=bits, dv=dv), events, tmp_path)
    for other in others:
        assert_same(torch_trace, other)
    assert all(0.02 < value.mean() < 0.98 for value in torch_trace.spikes.values())


KINDS = {
    "no leak": {"dv": 0},
    "soft reset": {"reset": "subtract"},
    "soft reset without leak, half a threshold at first": {"dv": 0, "reset": "subtract", "v_initial": 0.5},
    "initial potential": {"v_initial": -0.4},
    "signed": {"output": "signed", "low": 1.0},
    "signed and gated": {"dv": 0, "output": "signed", "reset": "subtract", "memory_gate": True, "v_initial": 0.5},
    "graded": {"output": "graded", "graded_max": 3.0, "payload_bits": 4},
    "refractory": {"refractory": 2},
    "all at once": {
        "output": "signed", "low": 0.02, "reset": "subtract", "memory_gate": True, "v_initial": 0.3, "refractory": 1
    },
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_neuron_agrees(tmp_path, kind):
    events = np.random.default_rng(1).integers(0, 256, (9, 2, 6, 5))
    torch_trace, *others = both(network(7, headroom=0.9, **{"dv": 410, **KINDS[kind]}), events, tmp_path)
    for other in others:
        assert_same(torch_trace, other)
    signed, bits = KINDS[kind].get("output") == "signed", KINDS[kind].get("payload_bits", 1)
    for value in torch_trace.spikes.values():
        assert value.dtype == (np.int8 if signed else np.uint8 if bits <= 8 else np.int32)
        assert bits == 1 or 2 ** (bits - 3) < value.max() <= 2**bits - 1
        assert 0.02 < (value != 0).mean() < 0.98
    assert any((value < 0).any() for value in torch_trace.spikes.values()) == signed


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 10**6), du=st.sampled_from([0, 2047, 4095]), dv=st.sampled_from([0, 410, 4095]),
    vth=st.sampled_from([1, 100, 131071]), reset=st.sampled_from(["zero", "subtract"]),
    output=st.sampled_from(["binary", "signed", "graded"]), gate=st.booleans(), low=st.sampled_from([0, 50]),
    v_initial=st.integers(-(2**23) + 1, 2**23 - 1), refractory=st.sampled_from([0, 1, 3]), exp=st.integers(0, 7),
    sizes=st.sampled_from([1, 3, 4, 5, 6, 7]),
)  # fmt: skip
def test_torch_neurons_equal_the_reference_at_the_limits(
    seed, du, dv, vth, reset, output, gate, low, v_initial, refractory, exp, sizes
):
    rng, signed, graded = np.random.default_rng(seed), output == "signed", output == "graded"
    reset = "zero" if graded else reset
    bias = rng.integers(-4096, 4096, 3).astype(np.int16)
    neuron = IntegerNeuron(
        du, dv, vth, bias, exp, reset, output, low * signed, gate and signed, v_initial, refractory,
        (vth << 6).bit_length() - 2 if graded else 0, 3 if graded else 0
    )  # fmt: skip
    largest = [vth // 2, vth, vth * 2, 2**17, 2**22, 2**25, 2**31 - 1][:sizes]  # narrow where the sums are small
    a = rng.integers(-1, 2, (6, 2, 3)) * rng.choice(largest, (6, 2, 3))
    made = run_neurons(neuron, torch.tensor(a), torch.tensor(bias.astype(np.int64) << exp), keep=("u", "v"))
    node = neuron.node("n", (3,))
    state = at_rest(node, 2)
    for t in range(6):
        state, events = step(node, state, a[t], t)
        for name, expected, got in (
            ("u", state.u, made.states["u"][t]), ("v", state.v, made.states["v"][t]),
            ("events", events.events, made.events[t]), ("wrapped", events.wrapped.sum(1), made.wrapped[t]),
            ("saturated", events.saturated.sum(1), made.saturated[t]),
        ):  # fmt: skip
            np.testing.assert_array_equal(expected, got, err_msg=f"{name} at {t}")


@pytest.mark.parametrize("shape", [(1, 1, 2, 6, 5), (3, 7, 2, 6, 5), (1, 2, 6, 5), (70, 2, 6, 5)])
@pytest.mark.parametrize("value", ["random", "zeros", "ones", "full"])
def test_checkpoint_and_program_agree_for_any_input(tmp_path, shape, value):
    fill = {"zeros": 0, "ones": 1, "full": 255}
    events = np.random.default_rng(2).integers(0, 256, shape) if value == "random" else np.full(shape, fill[value])
    torch_trace, *others = both(network(3), events, tmp_path)
    for other in others:
        assert_same(torch_trace, other)


def test_chunks_of_samples_change_nothing(tmp_path, monkeypatch):
    quantized = network(4)
    events = np.random.default_rng(3).integers(0, 256, (6, 2, 6, 5))
    whole = both(quantized, events, tmp_path)[0]
    monkeypatch.setattr("lavatube.sim.torch_run.ELEMENTS_AT_ONCE", 1)
    assert_same(whole, run(tmp_path, events, backend="torch", record=("u", "v")))


def test_strongly_inhibited_neurons_near_the_end_of_the_register_agree_where_float32_fails(tmp_path):
    """v close to -2^23: the integer forward is right, the same step in float32 is not."""
    quantized = network(5, dv=410, inhibition=6.0, headroom=0.8)
    events = np.full((2, 2, 6, 5), 255)
    traces = both(quantized, events, tmp_path, steps=120)
    assert_same(traces[0], traces[1])
    reached = -int(traces[0].v["layer1_lif"].min())
    assert reached > 0.5 * 2**23
    kept = 4096 - 410
    v = torch.arange(-reached, -reached + 4096)
    neuron = IntegerNeuron(4095, 410, 1, np.zeros(1, np.int16), 0)
    exact = step_neurons(neuron, IntegerState(v * 0, v), v * 0, v * 0).state.v
    single = torch.trunc(v.to(torch.float32) * kept / 4096).to(torch.int64)
    assert (single != exact).float().mean() > 0.02
    assert exact.tolist() == [-((-x * kept) // 4096) for x in v.tolist()]


@pytest.mark.parametrize("engine", ["torch", "reference", "fast"])
def test_more_timesteps_than_are_proven_are_refused(tmp_path, engine):
    """Without leak a voltage has a bound for so many steps only."""
    events = np.full((2, 2, 6, 5), 255)
    both(network(5, dv=0, headroom=0.8), events, tmp_path, steps=8)
    with pytest.raises(LavatubeError, match="v can reach"):
        run(tmp_path, events, backend=engine, steps=2000)
    assert run(tmp_path, events, backend=engine, steps=2000, overflow="hardware").num_steps == 2000


def test_what_overflows_in_hardware_mode_is_equal_and_counted(tmp_path):
    """Sums that leave int32, currents that wrap, voltages that saturate; also where sums are rounded down."""
    quantized = network(3, dv=0, message_bits=24, inhibition=1.0, headroom=0.9)
    assert quantized.layout["layers"][0]["synapses"][0]["headroom"] < 0
    name = next(name for name in quantized.tensors if name.startswith("layers.0.synapses"))
    tensors = {**quantized.tensors, name: quantized.tensors[name] * 128}  # the largest integers, on events of 24 bits
    save_quantized(replace(quantized, tensors=tensors), tmp_path / "quantized.safetensors")
    export(tmp_path)
    lower(tmp_path / "model.nir", out=tmp_path / "program.safetensors", overflow="hardware")
    events = np.random.default_rng(1).integers(0, 2**24, (8, 9, 2, 6, 5))
    with pytest.raises(LavatubeError, match=r"can reach.*or --overflow hardware"):
        run(tmp_path, events, backend="torch", overflow="strict")
    np.savez(tmp_path / "x.npz", input=events)
    command = f"run {tmp_path} --input {tmp_path}/x.npz --backend torch --out {tmp_path}/t.npz --overflow hardware"
    assert invoke(command.split()) == 0
    torch_trace = run(tmp_path, events, backend="torch", record=("u", "v"))  # as the folder's program says
    for engine in ("reference", "fast"):
        other = run(tmp_path, events, backend=engine, record=("u", "v"))
        assert_same(torch_trace, other)
        assert torch_trace.meta["overflow"] == other.meta["overflow"]
    assert min(sum(rows.values()) for rows in torch_trace.meta["overflow"].values()) > 0


def test_a_changed_master_weight_is_seen(tmp_path):
    quantized = network(6)
    events = np.random.default_rng(4).integers(0, 256, (5, 2, 6, 5))
    program_trace = both(quantized, events, tmp_path)[1]
    tensors = {name: value.copy() for name, value in quantized.tensors.items()}
    tensors["layers.1.synapses.0.weights.weight"].flat[7] += quantized.layout["layers"][1]["synapses"][0]["scale"] * 40
    from lavatube.inputs import make_inputs
    from lavatube.program import InputNode

    batch = make_inputs(events, InputNode("input", (2, 6, 5), 8), default_steps=8)
    changed = run_torch(replace(quantized, tensors=tensors), batch)
    assert (changed.spikes["layer1_lif"] == program_trace.spikes["layer1_lif"]).all()
    assert (changed.spikes["layer2_lif"] != program_trace.spikes["layer2_lif"]).any()
