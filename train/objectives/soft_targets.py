"""Learning from a teacher's logits."""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field

from lavatube.train.recipe_model import Number

Temperature = Annotated[Number, Field(ge=0.01, le=1000)]  # beyond, softened logits leave float32 or differ by nothing


def divergence(own: torch.Tensor, taught: torch.Tensor, temperature: float) -> torch.Tensor:
    """temperature^2 x mean over samples of KL(softmax(taught / temperature) || softmax(own / temperature)), a scalar.

    own, taught: logits [B, classes]. The square keeps the gradient's size whatever the temperature.
    source: Hinton, Vinyals, Dean 2015, arXiv 1503.02531.
    """
    log_own, log_taught = (F.log_softmax(logits / temperature, -1) for logits in (own, taught))
    return temperature**2 * F.kl_div(log_own, log_taught, reduction="batchmean", log_target=True)
