"""One Lava process for a synapse or a population, with the arrays and registers that it wants."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
from lava.proc.conv.process import Conv
from lava.proc.dense.process import Dense
from lava.proc.lif.process import LIFReset
from lava.proc.sparse.process import DelaySparse, Sparse
from lava.utils.weightutils import SignMode
from scipy.sparse import csr_matrix, identity, kron

from lavatube.deploy.lava_backend.choose import Choice
from lavatube.deploy.lava_backend.processes.population import Population
from lavatube.deploy.lava_backend.processes.projection import Projection
from lavatube.deploy.lava_backend.settings import message_bits, neuron_settings, synapse_settings
from lavatube.deploy.lava_backend.synapse_arrays import conv_weight, sparse_weight
from lavatube.program import Conv2dNode, NeuronNode, Source, Synapse


def make_synapse(synapse: Synapse, choice: Choice, origin: Source, wait: int, lanes: int) -> Any:
    """The process of a synapse for so many samples side by side, which holds its sums back for `wait` ticks."""
    if choice.process == "Projection":
        low, high = origin.event_range
        return _projection(synapse, max(-low, high), wait, lanes)
    if choice.process == "Conv":
        (stride_y, stride_x), (pad_y, pad_x) = synapse.stride, synapse.padding  # type: ignore[union-attr]
        channels, height, width = synapse.in_shape
        return Conv(
            weight=conv_weight(synapse),  # type: ignore[arg-type]
            input_shape=(width, height, channels),
            stride=(stride_x, stride_y),
            padding=(pad_x, pad_y),
            num_message_bits=message_bits(origin),
            name=synapse.name,
        )
    # always say the sign mode: Lava's guess fails for layers without positive weights
    exact = {**synapse_settings(synapse, origin), "sign_mode": SignMode[synapse.sign.upper()], "name": synapse.name}
    if choice.process == "Dense" and lanes == 1:
        return Dense(weights=synapse.weight.astype(np.int32), **exact)
    weights = csr_matrix(kron(identity(lanes, np.int32), sparse_weight(synapse), "csr"))
    if choice.process == "DelaySparse":
        delays = csr_matrix((np.full(weights.nnz, wait), weights.indices, weights.indptr), shape=weights.shape)
        return DelaySparse(weights=weights, delays=delays, max_delay=wait, **exact)
    return Sparse(weights=weights, **exact)


def _projection(synapse: Synapse, largest: int, wait: int, lanes: int) -> Projection:
    is_conv, sizes = isinstance(synapse, Conv2dNode), (int(np.prod(synapse.in_shape)), int(np.prod(synapse.out_shape)))
    names = ("in_shape", "stride", "padding", "dilation", "groups")
    return Projection(
        weight=synapse.weight if is_conv else sparse_weight(synapse),
        weight_exp=synapse.weight_exp, lanes=lanes, sizes=sizes, largest=largest, wait=wait, name=synapse.name,
        window={name: getattr(synapse, name) for name in names} if is_conv else None,
    )  # fmt: skip


def make_neurons(node: NeuronNode, choice: Choice, lanes: int, whc: bool, window: int, start: int, pace: int) -> Any:
    """The process of a population; start: tick of its first timestep; window: in timesteps; pace: see `Timing`."""
    bias = node.bias_mant.astype(np.int32)
    bias = np.ascontiguousarray(bias.transpose(2, 1, 0)) if whc else np.tile(bias.reshape(-1), lanes)
    if not choice.stock:
        names = {field.name for field in fields(node)} - {"name", "shape"}
        options = {name: getattr(node, name) for name in names} | {"bias_mant": bias}
        return Population(shape=bias.shape, options=options, start=start, window=window, pace=pace, name=node.name)
    settings = neuron_settings(node, window, start, pace)
    return LIFReset(shape=bias.shape, bias_mant=bias, name=node.name, **settings)
