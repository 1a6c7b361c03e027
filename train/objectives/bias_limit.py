"""Keep biases small enough for the chip's bias register, through the normalisation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import nn

from lavatube.errors import LavatubeError
from lavatube.train.objectives.term import Term
from lavatube.train.recipe_model import Number
from lavatube.train.seq import Outputs

if TYPE_CHECKING:
    from lavatube.train.networks.network import SpikingNetwork


class BiasLimit(Term):
    """weight x sum over layers and channels of (|bias| - limit)^2, where positive.

    bias:  what the folded normalisation would add at each timestep, in units of the current.
    limit: the same; with thresholds of 1, in thresholds. Loihi's bias is a 13-bit mantissa.
    """

    kind: Literal["bias_limit"] = "bias_limit"
    source: ClassVar[str] = "our choice, for Loihi's bias register"
    limit: Annotated[Number, Field(ge=0)] = 0.5
    weight: Annotated[Number, Field(ge=0)] = 1.0

    def check(self, network: SpikingNetwork, terms: Sequence[Term]) -> None:
        if not network.norms():
            raise LavatubeError(
                "bias_limit limits the biases of normalisations",
                where="recipe objective",
                expected="a normalization",
                got="normalization: null",
                remedy="leave bias_limit out: quantization chooses a register that holds the synapses' own biases",
            )

    def loss(self, outputs: Outputs, labels: torch.Tensor, heads: nn.ModuleDict) -> torch.Tensor:
        excess = [torch.relu(bias().abs() - self.limit) for bias in outputs.biases.values()]
        total = torch.stack([(e**2).sum() for e in excess]).sum() if excess else outputs.logits.new_zeros(())
        return self.weight * total
