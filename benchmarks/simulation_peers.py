"""The benchmark's programs in float frameworks, by their documented ways: inference without gradients.

Same weights, leak, threshold and reset to zero, in float32: v = (1 - dv / 4096) v + W s; so nearly the same spikes.
Each builder returns forward(x: [T, B, ...] float32) -> read-out [B, classes].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from simulation_networks import pairs
from torch import nn

from lavatube.program import Conv2dNode, DenseNode, LoihiProgram, NeuronNode, Synapse, Target

Forward = Callable[[torch.Tensor], torch.Tensor]
Pair = tuple[Synapse, Target]


def _synapse(node: Synapse, scale: float = 1.0) -> list[nn.Module]:
    assert isinstance(node, Conv2dNode | DenseNode)
    weight = torch.tensor(node.weight, dtype=torch.float32) * 2.0**node.weight_exp * scale
    if isinstance(node, DenseNode):
        layer: nn.Module = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
        layer.weight = nn.Parameter(weight)
        return [nn.Flatten(), layer]
    conv = nn.Conv2d(weight.shape[1], weight.shape[0], 3, node.stride, node.padding, bias=False)
    conv.weight = nn.Parameter(weight)
    return [conv.to(memory_format=torch.channels_last)]


def _keep(neuron: NeuronNode) -> float:
    return 1 - neuron.dv / 4096


def build_snntorch(program: LoihiProgram) -> Forward:
    import snntorch
    from snntorch import utils

    def layers(pair: Pair) -> list[nn.Module]:
        node, target = pair
        if not isinstance(target, NeuronNode):
            return _synapse(node)
        leaky: nn.Module = snntorch.Leaky(
            beta=_keep(target), threshold=float(target.vth), init_hidden=True, reset_mechanism="zero", reset_delay=False
        )
        return [*_synapse(node), leaky]

    model = nn.Sequential(*(layer for pair in pairs(program) for layer in layers(pair))).eval()

    def forward(x: torch.Tensor) -> torch.Tensor:
        utils.reset(model)
        total = model(x[0])
        for now in x[1:]:
            total = total + model(now)
        return total

    return forward


def build_spikingjelly(program: LoihiProgram) -> Forward:
    from spikingjelly.activation_based import functional, layer, neuron

    def layers(pair: Pair) -> list[Any]:
        node, target = pair
        found = [layer.SeqToANNContainer(*_synapse(node))]
        if isinstance(target, NeuronNode):
            tau = 1 / (1 - _keep(target))
            found.append(
                neuron.LIFNode(tau=tau, decay_input=False, v_threshold=float(target.vth), v_reset=0.0, step_mode="m")
            )
        return found

    model = nn.Sequential(*(part for pair in pairs(program) for part in layers(pair))).eval()

    def forward(x: torch.Tensor) -> torch.Tensor:
        functional.reset_net(model)
        total: torch.Tensor = model(x).sum(0)
        return total

    return forward


def build_norse(program: LoihiProgram) -> Forward:
    import norse.torch as norse

    parts: list[nn.Module] = []
    for node, target in pairs(program):
        if not isinstance(target, NeuronNode):
            parts += _synapse(node)
            continue
        gain = 1 - _keep(target)  # norse multiplies the input by dt / tau
        p = norse.LIFBoxParameters(
            tau_mem_inv=torch.tensor(gain / 0.001), v_th=torch.tensor(float(target.vth)), v_reset=torch.tensor(0.0)
        )
        parts += [*_synapse(node, 1 / gain), norse.LIFBoxCell(p, dt=0.001)]
    model = norse.SequentialState(*parts).eval()

    def forward(x: torch.Tensor) -> torch.Tensor:
        total, state = model(x[0])
        for now in x[1:]:
            out, state = model(now, state)
            total = total + out
        return torch.as_tensor(total)

    return forward


PEERS = {"snnTorch": build_snntorch, "SpikingJelly": build_spikingjelly, "Norse": build_norse}
