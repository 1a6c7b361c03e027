"""Encoders: 8-bit samples to the integer events that enter the network, on the host."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field

from lavatube.train.plugin import Plugin


class Encoder(Plugin):
    """uint8 samples [B, ...] ([B, T, ...] of sequences) to events [T, B, ...], or [1, B, ...] if they stay the same.

    The generator is on the CPU, so that events are the same on every device.
    """

    for_sequences: ClassVar[bool] = True
    for_static: ClassVar[bool] = True

    @property
    def message_bits(self) -> int:
        """Width of one event: 1 for spikes."""
        return 1

    @property
    def needs(self) -> frozenset[str]:
        return frozenset() if self.message_bits == 1 else frozenset({"graded input"})

    def out_shape(self, sample_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Of the events of one sample at one timestep."""
        return sample_shape

    def in_shape(self, out_shape: tuple[int, ...]) -> tuple[int, ...]:
        """The sample shape that `out_shape` belongs to."""
        return out_shape

    def __call__(
        self, samples: torch.Tensor, num_steps: int, generator: torch.Generator, *, is_sequence: bool
    ) -> torch.Tensor:
        raise NotImplementedError


class Direct(Encoder):
    """Graded events: the 8-bit value itself, at every timestep (a sequence: its frame)."""

    kind: Literal["direct"] = "direct"

    @property
    def message_bits(self) -> int:
        return 8

    def __call__(
        self, samples: torch.Tensor, num_steps: int, generator: torch.Generator, *, is_sequence: bool
    ) -> torch.Tensor:
        return samples.transpose(0, 1) if is_sequence else samples.unsqueeze(0)


class Binary(Encoder):
    """A spike where the value is at least `threshold`: for event frames, whether there was an event."""

    kind: Literal["binary"] = "binary"
    threshold: Annotated[int, Field(ge=1, le=255)] = 1

    def __call__(
        self, samples: torch.Tensor, num_steps: int, generator: torch.Generator, *, is_sequence: bool
    ) -> torch.Tensor:
        spikes = (samples >= self.threshold).to(torch.uint8)
        return spikes.transpose(0, 1) if is_sequence else spikes.unsqueeze(0)


class Rate(Encoder):
    """A spike with probability value / 255, drawn anew at every timestep."""

    kind: Literal["rate"] = "rate"
    source: ClassVar[str] = "Bernoulli approximation of Poisson spike trains, e.g. Diehl, Cook 2015"

    def __call__(
        self, samples: torch.Tensor, num_steps: int, generator: torch.Generator, *, is_sequence: bool
    ) -> torch.Tensor:
        shape = samples.shape if is_sequence else (len(samples), num_steps, *samples.shape[1:])
        drawn = torch.randint(0, 255, shape, generator=generator, dtype=torch.uint8)  # 0..254: 255 always spikes
        value = samples if is_sequence else samples.unsqueeze(1)
        return (drawn < value).to(torch.uint8).transpose(0, 1)


class Latency(Encoder):
    """One spike per value, at timestep round((1 - value / 255) (T - 1)): the larger the sooner; none for 0."""

    kind: Literal["latency"] = "latency"
    source: ClassVar[str] = "time to first spike, linear: Thorpe, Delorme, Van Rullen 2001"
    for_sequences: ClassVar[bool] = False

    def __call__(
        self, samples: torch.Tensor, num_steps: int, generator: torch.Generator, *, is_sequence: bool
    ) -> torch.Tensor:
        numerator = (255 - samples.to(torch.int64)) * (num_steps - 1)
        when = (2 * numerator + 255) // 510  # round half up, in integers
        steps = torch.arange(num_steps).reshape(-1, *(1,) * samples.ndim)
        return ((when == steps) & (samples > 0)).to(torch.uint8)


class Delta(Encoder):
    """Send on delta: an "on" or "off" spike when a value has moved by `threshold` or more since its last spike.

    The reference starts at the first frame and moves by one threshold per spike. Channels double: on first, then off.
    """

    kind: Literal["delta"] = "delta"
    source: ClassVar[str] = "send-on-delta: Miskowicz 2006"
    for_static: ClassVar[bool] = False
    threshold: Annotated[int, Field(ge=1, le=255)] = 16

    def out_shape(self, sample_shape: tuple[int, ...]) -> tuple[int, ...]:
        return (2 * sample_shape[0], *sample_shape[1:])

    def in_shape(self, out_shape: tuple[int, ...]) -> tuple[int, ...]:
        return (out_shape[0] // 2, *out_shape[1:])

    def __call__(
        self, samples: torch.Tensor, num_steps: int, generator: torch.Generator, *, is_sequence: bool
    ) -> torch.Tensor:
        frames = samples.transpose(0, 1).to(torch.int16)
        reference, events = frames[0], []
        for frame in frames:
            on = frame - reference >= self.threshold
            off = reference - frame >= self.threshold
            reference = reference + self.threshold * (on.to(torch.int16) - off.to(torch.int16))
            events.append(torch.cat([on, off], 1))
        return torch.stack(events).to(torch.uint8)
