"""NeuronNode: a population of identical neurons in Loihi integers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from lavatube import fixed_point as fp
from lavatube.node_checks import Shape, check_name, check_shape, frozen, require, require_int

Reset = Literal["zero", "subtract"]
Output = Literal["binary", "signed", "graded", "none"]
RESETS, OUTPUTS = ("zero", "subtract"), ("binary", "signed", "graded", "none")
REFRACTORY_MAX = 63
PAYLOAD_SHIFT_MAX = 23


@dataclass(frozen=True)
class NeuronNode:
    """Current-based leaky integrate-and-fire neurons; one timestep is `neuron_step.step`.

    du, dv:     decays in 1/4096 per step; du = 4095 keeps no current (plain LIF), dv = 0 no leak (IF).
    vth:        threshold in weight units; without meaning where output is "none".
    bias_mant:  (shape) int16; bias_mant << bias_exp is added to v every step, in 1/64 of a weight unit.
    reset:      after a spike, v = 0 ("zero", as on the chip) or v - 64 vth s ("subtract").
    output:     "binary" 0 or 1; "signed" 1 above the threshold, -1 below -vth_low; "graded" min(v >> payload_shift,
                2^payload_bits - 1) above the threshold, else 0; "none" (leaky integrator: it never spikes or resets).
    memory_gate: of signed neurons: -1 only while the sum of the neuron's spikes is positive.
    v_initial:  voltage before the first step, in 1/64 of a weight unit.
    refractory: steps after a spike in which v stays and nothing is emitted; u goes on.
    reset_interval, reset_offset: where t mod interval = offset the population starts anew before the step; 0: never.
    """

    kind: ClassVar[str] = "neuron"
    name: str
    shape: Shape
    du: int
    dv: int
    vth: int
    bias_mant: np.ndarray
    bias_exp: int
    reset: Reset = "zero"
    output: Output = "binary"
    vth_low: int = 0
    memory_gate: bool = False
    payload_shift: int = 0
    payload_bits: int = 0
    v_initial: int = 0
    refractory: int = 0
    reset_interval: int = 0
    reset_offset: int = 0

    def __post_init__(self) -> None:
        check_name(self.name)
        check_shape(self.name, "shape", self.shape, (1, 2, 3))
        for what, low, high in (
            ("du", 0, fp.DECAY_MAX),
            ("dv", 0, fp.DECAY_MAX),
            ("vth", 0, fp.THRESHOLD_MAX),
            ("bias_exp", 0, fp.BIAS_EXPONENT_MAX),
            ("v_initial", -fp.VOLTAGE_MAX, fp.VOLTAGE_MAX),
            ("refractory", 0, REFRACTORY_MAX),
            ("reset_interval", 0, 1 << 24),
            ("reset_offset", 0, max(self.reset_interval - 1, 0)),
        ):
            require_int(self.name, what, getattr(self, what), low, high)
        for what, known in (("reset", RESETS), ("output", OUTPUTS), ("memory_gate", (False, True))):
            value = getattr(self, what)
            ok = any(value is each or (isinstance(each, str) and value == each) for each in known)
            require(ok, self.name, what, expected=", ".join(map(str, known)), got=value)
        self._check_output()
        self._check_bias()

    def _check_output(self) -> None:
        """Settings of one kind of output are at rest where the output is another, so that a file has one form."""
        signed, graded = self.output == "signed", self.output == "graded"
        require_int(self.name, "vth_low", self.vth_low, 0, fp.THRESHOLD_MAX if signed else 0)
        require(signed or not self.memory_gate, self.name, "memory_gate", expected="output signed", got=self.output)
        require_int(self.name, "payload_shift", self.payload_shift, 0, PAYLOAD_SHIFT_MAX if graded else 0)
        low, high = (1, fp.MESSAGE_BITS_MAX) if graded else (0, 0)
        require_int(self.name, "payload_bits", self.payload_bits, low, high)
        ok = not graded or (self.vth << fp.ACTIVATION_SHIFT) + 1 >= 1 << self.payload_shift
        require(ok, self.name, "payload_shift", expected="payloads of at least 1", got=self.payload_shift)
        ok = self.output in ("binary", "signed") or self.reset == "zero"
        require(ok, self.name, "reset", expected=f"zero, for output {self.output}", got=self.reset)
        ok = self.output != "none" or self.refractory == 0
        require(ok, self.name, "refractory", expected="0, for output none", got=self.refractory)

    def _check_bias(self) -> None:
        bias = self.bias_mant
        require(bias.dtype == np.int16, self.name, "bias_mant dtype", expected="int16", got=str(bias.dtype))
        require(bias.shape == self.shape, self.name, "bias_mant shape", expected=str(self.shape), got=bias.shape)
        ok = bool(bias.min() >= fp.BIAS_MANTISSA_MIN and bias.max() <= fp.BIAS_MANTISSA_MAX)
        limits = f"{fp.BIAS_MANTISSA_MIN}..{fp.BIAS_MANTISSA_MAX} (13 bits)"
        require(ok, self.name, "bias_mant", expected=limits, got=f"{bias.min()}..{bias.max()}")
        object.__setattr__(self, "bias_mant", frozen(bias))

    @property
    def event_range(self) -> tuple[int, int]:
        """(lowest, highest) event that it emits."""
        ranges = {"binary": (0, 1), "signed": (-1, 1), "graded": (0, (1 << self.payload_bits) - 1), "none": (0, 0)}
        return ranges[self.output]

    @property
    def is_plain(self) -> bool:
        """Whether it is stock Lava's LIF: binary output, reset to zero, at rest at first, no refractory period."""
        return (self.reset, self.output, self.v_initial, self.refractory) == ("zero", "binary", 0, 0)

    def needs(self) -> frozenset[str]:
        """Capabilities that a target must offer, beyond a leaky neuron with binary spikes and reset to zero."""
        found = {
            "soft reset": self.reset == "subtract",
            "initial potential": self.v_initial != 0,
            "signed spikes": self.output == "signed",
            "graded spikes": self.output == "graded",
            "refractory period": self.refractory > 0,
            "voltage read-out": self.output == "none",
        }
        return frozenset(name for name, needed in found.items() if needed)
