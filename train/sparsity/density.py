"""How many synapses each layer keeps of a network's overall density."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lavatube.errors import LavatubeError


def erdos_renyi(shapes: Sequence[tuple[int, ...]], density: float) -> list[int]:
    """Live synapses per layer: P = eps (n_out + n_in + kernel sizes) / (n_out n_in kernel sizes), at most 1.

    shapes: of the weights. eps is such that all layers together have `density`; layers that would exceed 1 are dense.
    source: Mocanu et al. 2018 (SET), with kernel sizes Evci et al. 2020 (RigL).
    raises: LavatubeError if that leaves fewer synapses than layers.
    """
    sizes = [math.prod(shape) for shape in shapes]
    total = round(density * sum(sizes))
    if total < len(shapes):
        raise LavatubeError(
            "density leaves a layer without synapses", where="recipe sparsity", expected=f"{len(shapes)} or more",
            got=f"{total} of {sum(sizes)}", remedy="raise sparsity.density",
        )  # fmt: skip
    raw = [sum(shape) / size for shape, size in zip(shapes, sizes, strict=True)]
    dense: set[int] = set()
    while True:
        free = [i for i in range(len(sizes)) if i not in dense]
        left = total - sum(sizes[i] for i in dense)
        eps = left / sum(raw[i] * sizes[i] for i in free) if free else 0.0
        full = {i for i in free if eps * raw[i] >= 1}
        if not full:
            return [sizes[i] if i in dense else max(1, round(eps * raw[i] * sizes[i])) for i in range(len(sizes))]
        dense |= full
