"""IntegerLayer: one population of a quantized network in integers, between the checkpoint and its exports."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from lavatube.fixed_point import ACTIVATION_SHIFT, WEIGHT_BITS_MAX
from lavatube.neuron_node import Output, Reset
from lavatube.pooling import Pool
from lavatube.program import Conv2dNode, DenseNode, NeuronNode, Shape, Synapse

Window = tuple[tuple[int, int], tuple[int, int]]  # stride and padding of a convolution


def mantissas(integers: np.ndarray, bits: int, headroom: int) -> tuple[np.ndarray, int, int]:
    """(weight int16, num_weight_bits, weight_exp) of b-bit signed integers q, so that a = (sum of q * s) << headroom.

    q becomes q << (9 - b), which is on Loihi's grid, and weight_exp = b - 9 + headroom. With a headroom below 0 the
    sums are rounded down.
    """
    shift = WEIGHT_BITS_MAX + 1 - bits
    return (integers.astype(np.int16) << shift).astype(np.int16), bits, headroom - shift


def population_name(layer: str) -> str:
    """Of a layer's neurons, as a node in NIR and in the program."""
    return f"{layer}_lif"


def synapse_node(
    name: str, kind: str, in_shape: Shape, integers: np.ndarray, bits: int, headroom: int,
    window: Window = ((1, 1), (0, 0)), pool: Pool | None = None,
) -> Synapse:  # fmt: skip
    """The node of a program for b-bit signed integers, as `IntegerSynapse` has them; pooling becomes part of it.

    One factor per channel is a convolution of one group a channel.
    """
    if kind == "dense":
        integers = integers if pool is None else pool.fused_columns(integers, in_shape)
        return DenseNode(name, in_shape, *mantissas(integers, bits, headroom))
    groups = in_shape[0] if kind == "scale" else 1
    image, integers = (*in_shape, 1, 1)[:3], integers.reshape(-1, 1, 1, 1) if kind == "scale" else integers
    stride, padding = window
    if pool is not None:
        integers = pool.fused_kernel(integers)
        stride, padding = (stride[0] * pool.stride, stride[1] * pool.stride), (
            padding[0] * pool.stride, padding[1] * pool.stride,
        )  # fmt: skip
    return Conv2dNode(name, image, *mantissas(integers, bits, headroom), stride=stride, padding=padding, groups=groups)


@dataclass(frozen=True)
class IntegerNeuron:
    """Registers of a population, as in `NeuronNode`. bias_mant: [out channels or neurons] int16."""

    du: int
    dv: int
    vth: int
    bias_mant: np.ndarray
    bias_exp: int
    reset: Reset = "zero"
    output: Output = "binary"
    vth_low: int = 0
    memory_gate: bool = False
    v_initial: int = 0
    refractory: int = 0
    payload_shift: int = 0
    payload_bits: int = 0

    def node(self, name: str, shape: Shape) -> NeuronNode:
        """The population of `shape` (channels first), each channel with its bias."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        bias = np.broadcast_to(self.bias_mant.reshape(-1, *(1,) * (len(shape) - 1)), shape)
        return NeuronNode(name, shape, **{**values, "bias_mant": bias})


def special(neuron: IntegerNeuron | NeuronNode) -> dict[str, int | str | bool]:
    """The registers in which it differs from a neuron with binary spikes and a reset to zero, from rest."""
    later = fields(IntegerNeuron)[5:]
    return {each.name: value for each in later if (value := getattr(neuron, each.name)) != each.default}


@dataclass(frozen=True)
class IntegerSynapse:
    """b-bit integers between the events of `source` (a layer's name, or "input") and the layer that has this synapse.

    weight:   [O, I, h, w] (conv2d), [O, I] (dense) or [C] (scale: one factor per channel of events that pass as they
              are) int8, in -2^(bits-1)..2^(bits-1)-1.
    headroom: k of a = (sum of weight * s) << k, so that thresholds keep their resolution at few bits; below 0 it is
              floor(sum / 2^-k), so that weights are finer than what the neurons count in.
    scale:    float value of one integer weight; exact power of two.
    pool:     what it sees are sums over these windows of the events of `in_shape`; they do not overlap.
    """

    name: str
    source: str
    kind: str
    in_shape: Shape
    out_shape: Shape
    weight: np.ndarray
    num_weight_bits: int
    headroom: int
    scale: float
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    pool: Pool | None = None

    @property
    def node_name(self) -> str:
        """Of the node in NIR and in the program."""
        return f"{self.name}_{self.kind}"

    @property
    def activation_scale(self) -> float:
        """Float value of one activation unit: the same for all synapses of a layer."""
        return self.scale / 2.0**self.headroom


@dataclass(frozen=True)
class IntegerLayer:
    """A population, or the read-out, and the synapses that drive it.

    A synapse whose source is this layer or a later one sees the timestep before.
    readout_bias: [O] int64 in activation units, only where `neuron` is None.
    """

    name: str
    synapses: tuple[IntegerSynapse, ...]
    neuron: IntegerNeuron | None
    readout_bias: np.ndarray | None = None

    @property
    def node_name(self) -> str:
        """Of the node in NIR and in the program."""
        return population_name(self.name)

    @property
    def out_shape(self) -> Shape:
        return self.synapses[0].out_shape

    @property
    def activation_scale(self) -> float:
        return self.synapses[0].activation_scale

    @property
    def bias_scale(self) -> float:
        """Float value of one step of the bias mantissa."""
        exponent = self.neuron.bias_exp - ACTIVATION_SHIFT if self.neuron else 0
        return self.activation_scale * 2.0**exponent

    @property
    def bias(self) -> np.ndarray:
        """[O] integer bias, in steps of `bias_scale`."""
        if self.neuron is not None:
            return self.neuron.bias_mant.astype(np.int64)
        return np.zeros(len(self.synapses[0].weight), np.int64) if self.readout_bias is None else self.readout_bias
