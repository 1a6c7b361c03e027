"""A Brevitas synapse whose sums are those of its integers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import brevitas.nn as qnn
import numpy as np
import torch
from brevitas.inject.enum import RestrictValueType, ScalingImplType
from brevitas.quant import Int8WeightPerTensorFloat
from torch import nn

from lavatube import fixed_point as fp
from lavatube.errors import LavatubeError
from lavatube.integer_layer import IntegerSynapse
from lavatube.pooling import Pool
from lavatube.train.exact_sums import exact_conv2d, exact_linear, exact_sums
from lavatube.train.integer_step import int32
from lavatube.train.networks.synaptic_current import convolve

WINDOW = {"kernel": (1, 1), "stride": (1, 1), "padding": (0, 0)}  # of what has none


class PopulationWeightQuant(Int8WeightPerTensorFloat):  # type: ignore[misc]
    """Signed weights on the scale of the population that they drive: a constant, given when the layer is made."""

    scaling_impl_type = ScalingImplType.CONST
    restrict_scaling_type = RestrictValueType.FP


class SignedMagnitudes(nn.Module):
    """Weights of one magnitude per output channel; the magnitudes train, the signs (-1, 0, 1) are as they were trained.

    The integers are sign x round(magnitude / scale), so each channel has two values (three with pruned weights).
    """

    def __init__(self, shape: Sequence[int], bits: int, scale: float) -> None:
        super().__init__()
        self.limit, self.scale = 2 ** (bits - 1) - 1, scale
        self.register_buffer("signs", torch.zeros(*shape))
        self.magnitude = nn.Parameter(torch.zeros(shape[0]))

    def spread(self, magnitude: torch.Tensor) -> torch.Tensor:
        """[O] as weights [O, ...]."""
        assert isinstance(self.signs, torch.Tensor)
        return self.signs * magnitude.reshape(-1, *(1,) * (self.signs.ndim - 1))

    def straight_through(self) -> torch.Tensor:
        """The weights on the grid, with the gradient of those that are not."""
        exact = torch.round(self.magnitude.detach() / self.scale).clamp(0, self.limit) * self.scale
        return self.spread(self.magnitude + (exact - self.magnitude).detach())


class QuantizedSynapse(nn.Module):
    """layout: a `SynapseLayout`; master weights are floats in units where one integer weight is its `scale`."""

    def __init__(self, layout: Mapping[str, Any], out_shape: list[int]) -> None:
        super().__init__()
        self.layout, self.name, self.source = layout, str(layout["name"]), str(layout["source"])
        self.pool = Pool(*layout["pool"]) if layout.get("pool") else None
        in_shape = tuple(layout["in_shape"])
        seen = in_shape if self.pool is None else self.pool.out_shape(in_shape)
        bits, scale = layout["bits"], layout["scale"]
        quant = {
            "weight_quant": PopulationWeightQuant,
            "weight_bit_width": bits,
            "weight_scaling_init": scale * max(2 ** (bits - 1) - 1, 1),
        }
        self.kind, channels = str(layout["kind"]), (layout["in_shape"][0], out_shape[0])
        window = {key: tuple(layout.get(key) or default) for key, default in WINDOW.items()}
        self.stride, self.padding = window["stride"], window["padding"]
        self.weights: Any
        if layout["form"] == "signs":
            dense = out_shape[0], math.prod(seen)
            shape = dense if self.kind == "dense" else (*channels[::-1], *window["kernel"])
            self.weights = SignedMagnitudes(shape, bits, scale)
        elif self.kind == "dense":
            self.weights = qnn.QuantLinear(math.prod(seen), out_shape[0], bias=False, **quant)
        elif self.kind == "scale":  # one by one, each channel for itself
            self.weights = qnn.QuantConv2d(*channels, 1, groups=channels[0], bias=False, **quant)
        else:
            self.weights = qnn.QuantConv2d(*channels, window["kernel"], bias=False, **quant)

    @torch.no_grad()
    def set_master(self, weight: np.ndarray) -> None:
        """weight: as the integers are shaped, float32."""
        value = torch.tensor(weight)
        if isinstance(self.weights, SignedMagnitudes):
            assert isinstance(self.weights.signs, torch.Tensor)
            self.weights.signs.copy_(value.sign())
            self.weights.magnitude.copy_(value.abs().flatten(1).amax(1))
        else:
            self.weights.weight.copy_(value)

    def check_signs(self) -> None:
        """raises: LavatubeError if kept signs are none: nothing else bounds the integers that they make."""
        if isinstance(self.weights, SignedMagnitudes):
            assert isinstance(self.weights.signs, torch.Tensor)
            wrong = self.weights.signs[(self.weights.signs != 0) & (self.weights.signs.abs() != 1)]
            if len(wrong):
                raise LavatubeError(
                    "signs of weights", where=self.name, expected="-1, 0, 1", got=f"{float(wrong[0]):g}"
                )

    @property
    def master(self) -> torch.Tensor:
        """Master weights, detached."""
        if isinstance(self.weights, SignedMagnitudes):
            return self.weights.spread(self.weights.magnitude).detach()
        value: torch.Tensor = self.weights.weight.detach()
        return value

    def straight_through(self) -> torch.Tensor:
        """Weights on their grid, with straight-through gradients."""
        if isinstance(self.weights, SignedMagnitudes):
            return self.weights.straight_through()
        value: torch.Tensor = self.weights.quant_weight().value
        return value

    def integer_weight(self) -> torch.Tensor:
        """The integers, int64; exact because the scale is a power of two."""
        return torch.round(self.straight_through().detach() / self.layout["scale"]).to(torch.int64)

    def activation(self, events: torch.Tensor, max_event: int) -> torch.Tensor:
        """[T, B, ...], int32 or int64, of integer events [T, B, ...]; an input expanded over T is summed once."""
        static = events.stride(0) == 0
        seen = events[:1] if static else events
        weight, flat = self.integer_weight(), seen.flatten(0, 1)
        if self.pool is not None:
            flat, max_event = exact_sums(flat, self.pool), max_event * self.pool.kernel**2
        if self.kind == "dense":
            total = exact_linear(flat.flatten(1), weight, max_event)
        elif self.kind == "scale":
            total = flat * weight.reshape(-1, *(1,) * (flat.ndim - 2))
        else:
            total = exact_conv2d(flat, weight, self.stride, self.padding, max_event)
        shifted: Any = self._shifted(total, int(weight.abs().flatten(1).sum(1).max()) * max_event)
        steps: torch.Tensor = shifted.unflatten(0, seen.shape[:2])
        return steps.expand(len(events), -1, *total.shape[1:])

    def _shifted(self, total: torch.Tensor, bound: int) -> torch.Tensor:
        """Sums of integers as activations: `fixed_point.activation` of sums of mantissas. bound: of |total|."""
        k, grid = int(self.layout["headroom"]), fp.WEIGHT_BITS_MAX + 1 - int(self.layout["bits"])
        if bound << max(grid, k) > fp.INT32_MAX:  # with --overflow hardware, or at a read-out that is refused later
            total = int32(total.to(torch.int64) << grid)
            return int32(total << k - grid if k >= grid else total >> grid - k)
        return total << k if k >= 0 else total >> -k

    def current(self, events: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Current of (mean) events [B, ...] float32. weight: `straight_through`, whose unit the current has."""
        if self.pool is not None:
            windows = self.pool.kernel, self.pool.stride
            events = nn.functional.avg_pool2d(events, *windows) * self.pool.kernel**2
        if self.kind == "dense":
            return nn.functional.linear(events.flatten(1), weight)
        if self.kind == "scale":
            return events * weight.reshape(-1, *(1,) * (events.ndim - 2))
        return convolve(events, weight, None, self.stride, self.padding)

    def integers(self, out_shape: list[int]) -> IntegerSynapse:
        """What the exports need."""
        layout, weight = self.layout, self.integer_weight().cpu().numpy().astype(np.int8)
        return IntegerSynapse(
            name=self.name,
            source=self.source,
            kind=self.kind,
            in_shape=tuple(layout["in_shape"]),
            out_shape=tuple(out_shape),
            weight=weight.reshape(-1) if self.kind == "scale" else weight,
            num_weight_bits=layout["bits"],
            headroom=layout["headroom"],
            scale=layout["scale"],
            stride=self.stride,
            padding=self.padding,
            pool=self.pool,
        )
