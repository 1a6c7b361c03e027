"""Fine-tuning through time: integers forward, and the gradient of the float network that has the same spikes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from lavatube.convert.export import export
from lavatube.convert.registers import FoldedLayer, FoldedNeuron, FoldedSynapse, choose_registers
from lavatube.deploy.lower import lower
from lavatube.integer_layer import population_name
from lavatube.sim.run import run
from lavatube.train.layout import INPUT
from lavatube.train.neuron import NeuronSpec
from lavatube.train.neuron_run import at_rest, step
from lavatube.train.quantized import QuantizedModule
from lavatube.train.through_integers import logits_through_time
from lavatube.trained import QuantizedNetwork, save_quantized

T, BATCH = 7, 5
KINDS: dict[str, dict[str, Any]] = {
    "leak": {"decay": 0.5},
    "no leak": {"decay": 1},
    "soft reset": {"decay": 1, "reset": "subtract", "v_initial": 0.5, "detach_reset": False},
    "gated": {"decay": 1, "reset": "subtract", "output": "signed", "v_threshold_low": 0.25, "memory_gate": True},
    "refractory": {"decay": 1, "refractory": 1},
}


def module_of(spec: NeuronSpec, *, recurrent: bool = True, seed: int = 0) -> QuantizedModule:
    """6 inputs of 3 bits, 9 neurons (with feedback), 7 neurons, 4 classes; master weights off the grid."""
    rng = np.random.default_rng(seed)
    neuron = FoldedNeuron(
        spec.dv, reset=spec.reset, output=spec.output, low=spec.v_threshold_low or 0.0, memory_gate=spec.memory_gate,
        v_initial=spec.v_initial, refractory=spec.refractory,
    )  # fmt: skip

    def synapse(name: str, source: str, into: int, out: int, size: float) -> FoldedSynapse:
        return FoldedSynapse(name, source, {"kind": "dense", "in_shape": [into]}, rng.normal(0.02, size, (out, into)))

    first = [synapse("layer1", INPUT, 6, 9, 0.06)] + [synapse("again", "layer1", 9, 9, 0.2)] * recurrent
    folded = [
        FoldedLayer("layer1", [9], tuple(first), rng.normal(0, 0.05, 9), neuron),
        FoldedLayer("layer2", [7], (synapse("layer2", "layer1", 9, 7, 0.4),), rng.normal(0, 0.1, 7), neuron),
        FoldedLayer("layer3", [4], (synapse("layer3", "layer2", 7, 4, 1.0),), rng.normal(0, 0.1, 4), None),
    ]
    chosen = choose_registers(folded, message_bits=3, weight_bits=8, headroom=0.9, num_steps=T)
    rows = [dict(layer.layout) for layer in chosen]
    module = QuantizedModule({"num_steps": T, "input": {"shape": [6], "message_bits": 3}, "layers": rows})
    for layer, values in zip(module.in_order(), chosen, strict=True):
        for each, weight in zip(layer.inbound(), values.weights, strict=True):
            each.set_master(weight)
        layer.bias.data.copy_(torch.tensor(values.bias))
    return module


def events(steps: int = T) -> torch.Tensor:
    return torch.tensor(np.random.default_rng(3).integers(0, 8, (steps, BATCH, 6)))


def gradients(module: QuantizedModule, logits: torch.Tensor) -> dict[str, torch.Tensor]:
    module.zero_grad()
    torch.nn.functional.cross_entropy(logits * 3, torch.arange(BATCH) % 4).backward()  # type: ignore[no-untyped-call]
    return {name: value.grad.clone() for name, value in module.named_parameters() if value.grad is not None}


def float_twin(module: QuantizedModule, spec: NeuronSpec, x: torch.Tensor) -> tuple[torch.Tensor, dict[str, Any]]:
    """(mean read-out, spikes by layer) in floats, by autograd alone, of the weights that the integers stand for."""
    layers = module.in_order()
    maps = {layer.name: layer.straight_through() for layer in layers}
    made = {layer.name: torch.zeros(BATCH, *layer.layout["out_shape"]) for layer in layers}
    state = {layer.name: at_rest(spec, made[layer.name]) for layer in layers}
    spikes, total = {layer.name: [] for layer in layers}, torch.zeros(BATCH, 4)  # type: ignore[var-annotated]
    for now in x:
        made[INPUT] = now.float()
        for layer in layers:
            current = maps[layer.name](made)
            if layer is layers[-1]:
                total = total + current
                continue
            scaled = current * (spec.v_threshold / layer.theta)
            made[layer.name], state[layer.name], _ = step(spec, state[layer.name], scaled, differentiable=True)
            spikes[layer.name].append(made[layer.name].detach())
    return total / len(x), {name: torch.stack(value) for name, value in spikes.items() if value}


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_is_that_of_the_float_network_with_the_same_spikes(kind: str) -> None:
    spec = NeuronSpec(**KINDS[kind])
    module, x = module_of(spec), events()
    ours = logits_through_time(module, x, spec)
    theirs, spikes = float_twin(module, spec, x)
    runs = {each.name: each.neurons.events for each in module.run(x) if each.neurons is not None}
    for name, value in spikes.items():  # the premise
        assert torch.equal(value, runs[name].float())
        assert 0.05 < float(value.abs().mean()) < 0.9
    found, wanted = gradients(module, ours), gradients(module, theirs)
    assert set(found) == set(wanted) == set(dict(module.named_parameters()))
    for name, value in wanted.items():
        assert float(value.abs().max()) > 0
        # truncation by the leak moves v by less than a unit in thousands
        close = {"rtol": 1e-2, "atol": 1e-2 * float(value.abs().max())} if kind == "leak" else {}
        torch.testing.assert_close(found[name], value, **close)


@pytest.mark.parametrize("kind", KINDS)
def test_in_one_timestep_it_is_the_rate_rules_gradient(kind: str) -> None:
    spec = NeuronSpec(**KINDS[kind])
    module, x = module_of(spec, recurrent=False), events(1)
    found, wanted = (
        gradients(module, make(module, x, spec)) for make in (logits_through_time, QuantizedModule.rate_logits)
    )
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value)


def test_the_forward_is_the_programs_and_the_loss_falls(tmp_path: Any) -> None:
    spec = NeuronSpec(**KINDS["leak"])
    module, x, losses = module_of(spec), events(), []
    labels, optimizer = torch.arange(BATCH) % 4, torch.optim.Adam(module.parameters(), 1e-2)
    for _ in range(15):
        logits = logits_through_time(module, x, spec)
        losses.append(torch.nn.functional.cross_entropy(logits * 3, labels))
        optimizer.zero_grad()
        losses[-1].backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert float(losses[-1].detach()) < 0.8 * float(losses[0].detach())
    tensors = {name: value.detach().numpy() for name, value in module.state_dict().items()}
    save_quantized(QuantizedNetwork({}, module.layout, tensors, (), {}), tmp_path / "quantized.safetensors")
    export(tmp_path)
    lower(tmp_path / "model.nir", out=tmp_path / "program.safetensors", overflow="hardware")
    trace = run(tmp_path, x.numpy(), backend="reference")
    for each in module.run(x):
        if each.neurons is not None:
            np.testing.assert_array_equal(trace.spikes[population_name(each.name)], each.neurons.events.numpy())
    made = logits_through_time(module, x, spec).detach().double() * T / module.in_order()[-1].activation_scale
    assert np.array_equal(np.rint(made.numpy()), trace.readout)
