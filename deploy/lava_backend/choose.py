"""Which stock Lava process stands for a synapse, and the arrays that it wants. No Lava is imported here."""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_matrix, csr_matrix

from lavatube.bounds import bound_layer
from lavatube.errors import LavatubeError, UnsupportedError
from lavatube.fixed_point import STATE_LIMIT
from lavatube.program import Conv2dNode, DenseNode, LoihiProgram, NeuronNode, Synapse, Target

SPARSE_CONNECTIONS = 2_000_000  # up to here Sparse is chosen; beyond, its cost per non-zero passes that of Conv
CONV_CHOICES = ("auto", "conv", "sparse")


def choose_processes(program: LoihiProgram, conv: str = "auto") -> dict[str, str]:
    """{synapse: "Dense" | "Sparse" | "Conv"}.

    conv: "conv" or "sparse" for all convolutions, or "auto": Sparse up to 2 M connections, else Conv if it is exact.
    raises: UnsupportedError for a delay, or where Conv would not be exact and was asked for.
    """
    if conv not in CONV_CHOICES:
        raise LavatubeError("--conv", where="lava", expected=", ".join(CONV_CHOICES), got=conv)
    chosen, max_event = {}, program.input.max_value
    for synapse, target in program.chain():
        if synapse.delay:
            raise UnsupportedError(
                "a delay would leak into the next sample's window",
                where=synapse.name,
                expected="delay 0",
                got=f"delay {synapse.delay}",
                remedy="run it on the reference or the fast engine",
            )
        refuse_unless_stock(synapse, target)
        bound = bound_layer(target, [(synapse, (0, max_event))], program.num_steps)
        low, high = bound.accumulators[synapse.name]
        if low < -(1 << 31) or high >= 1 << 31:
            raise UnsupportedError("sums can leave Lava's int32 channels", where=synapse.name, got=f"{low}..{high}")
        chosen[synapse.name] = "Dense"
        if isinstance(synapse, Conv2dNode):
            obstacle = why_conv_is_not_exact(synapse, bound.activation)
            wants_conv = conv == "conv" or (conv == "auto" and connections(synapse) > SPARSE_CONNECTIONS)
            if conv == "conv" and obstacle:
                raise UnsupportedError(obstacle, where=f"{synapse.name} (Lava Conv)", remedy="use --conv sparse")
            chosen[synapse.name] = "Conv" if wants_conv and not obstacle else "Sparse"
        max_event = 1
    return chosen


def refuse_unless_stock(synapse: Synapse, target: Target) -> None:
    """raises: UnsupportedError for what stock Lava processes do not do, or not yet here."""
    plain = not isinstance(target, NeuronNode) or (target.is_plain and not target.reset_interval)
    simple = isinstance(synapse, DenseNode) or (
        isinstance(synapse, Conv2dNode) and synapse.groups == 1 and synapse.dilation == (1, 1)
    )
    if plain and simple and synapse.sign == "mixed":
        return
    what, where = ("neurons", target.name) if not plain else ("a synapse", synapse.name)
    raise UnsupportedError(
        f"{what} that the Lava backend does not build yet",
        where=where,
        expected="plain LIF neurons; dense or conv2d synapses of mixed sign, without groups and dilation",
        remedy="run it on the reference or the fast engine",
    )


def connections(synapse: Conv2dNode) -> int:
    """Stored connections, borders not subtracted."""
    return int(np.prod(synapse.out_shape[1:])) * synapse.weight.size


def why_conv_is_not_exact(synapse: Conv2dNode, activation: tuple[int, int]) -> str:
    """Lava's Conv ignores the weight exponent and wraps its sums to 24 bits; "" if neither matters here."""
    if synapse.weight_exp < 0 and (synapse.weight % (1 << -synapse.weight_exp)).any():
        return "the weight exponent drops bits of single weights"
    if activation[0] < -STATE_LIMIT or activation[1] >= STATE_LIMIT:
        return f"sums can reach {activation[0]}..{activation[1]}, and Conv wraps at 24 bits"
    return ""


def conv_weight(synapse: Conv2dNode) -> np.ndarray:
    """(out channel, kernel width, kernel height, in channel) int32, exponent applied, for Lava's *true* convolution."""
    weight = synapse.weight.astype(np.int32)
    e = synapse.weight_exp
    applied = weight << e if e >= 0 else weight >> -e
    return np.ascontiguousarray(applied[:, :, ::-1, ::-1].transpose(0, 3, 2, 1))


def sparse_weight(synapse: Synapse) -> csr_matrix:
    """(out neuron, in neuron) mantissas of a convolution, both flattened as (C, H, W)."""
    assert isinstance(synapse, Conv2dNode)
    channels, height, width = synapse.in_shape
    out_channels, out_height, out_width = synapse.out_shape
    rows, columns, values = [], [], []
    o, i = np.meshgrid(np.arange(out_channels), np.arange(channels), indexing="ij")
    for y in range(synapse.weight.shape[2]):
        for x in range(synapse.weight.shape[3]):
            out_y, out_x = np.meshgrid(np.arange(out_height), np.arange(out_width), indexing="ij")
            in_y = out_y * synapse.stride[0] + y - synapse.padding[0]
            in_x = out_x * synapse.stride[1] + x - synapse.padding[1]
            inside = (in_y >= 0) & (in_y < height) & (in_x >= 0) & (in_x < width)
            to, source = (out_y * out_width + out_x)[inside], (in_y * width + in_x)[inside]
            rows.append((o[..., None] * out_height * out_width + to).ravel())
            columns.append((i[..., None] * height * width + source).ravel())
            values.append(np.repeat(synapse.weight[:, :, y, x].ravel(), len(to)))
    shape = (int(np.prod(synapse.out_shape)), int(np.prod(synapse.in_shape)))
    data = np.concatenate(values).astype(np.int32), (np.concatenate(rows), np.concatenate(columns))
    return coo_matrix(data, shape=shape).tocsr()
