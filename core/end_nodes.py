"""Where events enter a program and where its answer is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from lavatube import fixed_point as fp
from lavatube.node_checks import Shape, check_name, check_shape, frozen, require, require_int

Readout = Literal["current", "spikes", "voltage"]
READOUTS = ("current", "spikes", "voltage")


@dataclass(frozen=True)
class InputNode:
    """Where events enter: non-negative integers below 2^message_bits; message_bits = 1 is a binary spike."""

    kind: ClassVar[str] = "input"
    name: str
    shape: Shape
    message_bits: int

    def __post_init__(self) -> None:
        check_name(self.name)
        check_shape(self.name, "input shape", self.shape, (1, 2, 3))
        require_int(self.name, "message_bits", self.message_bits, 1, fp.MESSAGE_BITS_MAX)

    @property
    def max_value(self) -> int:
        return (1 << self.message_bits) - 1

    @property
    def event_range(self) -> tuple[int, int]:
        """(lowest, highest) event."""
        return 0, self.max_value


@dataclass(frozen=True)
class ReadoutNode:
    """The host's int64 read-out; the prediction is the lowest index of its largest value.

    bias:  (classes,) int64, added at every step of the sample.
    reads: "current": sum over the sample's steps of the activation of its synapses; "spikes": sum of the events of a
           population; "voltage": a population's v after the sample's last step (there the bias counts once).
    """

    kind: ClassVar[str] = "readout"
    name: str
    bias: np.ndarray
    reads: Readout = "current"

    def __post_init__(self) -> None:
        check_name(self.name)
        ok = self.bias.dtype == np.int64 and self.bias.ndim == 1 and self.bias.size > 0
        got = (str(self.bias.dtype), self.bias.shape)
        require(ok, self.name, "readout bias", expected="(classes,) int64", got=got)
        bounded = int(np.abs(self.bias).max()) <= fp.INT32_MAX
        require(bounded, self.name, "readout bias", expected="at most 2^31 - 1", got=self.bias.tolist())
        require(self.reads in READOUTS, self.name, "reads", expected=", ".join(READOUTS), got=self.reads)
        object.__setattr__(self, "bias", frozen(self.bias))

    @property
    def shape(self) -> Shape:
        return (int(self.bias.size),)
