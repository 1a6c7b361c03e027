"""Which stock Lava process stands for a synapse, and the arrays that it wants. No Lava is imported here."""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_matrix, csr_matrix

from lavatube.bounds import bound_layer
from lavatube.deploy.lava_backend.timing import timing
from lavatube.errors import LavatubeError, UnsupportedError
from lavatube.fixed_point import STATE_LIMIT
from lavatube.program import Conv2dNode, DenseNode, LoihiProgram, NeuronNode, SparseNode, Synapse, Target

SPARSE_CONNECTIONS = 2_000_000  # up to here Sparse is chosen; beyond, its cost per non-zero passes that of Conv
CONV_CHOICES = ("auto", "conv", "sparse")


def choose_processes(program: LoihiProgram, conv: str = "auto") -> dict[str, str]:
    """{synapse: "Dense" | "Sparse" | "Conv" | "DelaySparse"}.

    conv: "conv" or "sparse" for all convolutions that are alone in front of their target, or "auto": Sparse up to 2 M
    connections, else Conv if it is exact. Synapses that have to wait for others (see `timing`) are DelaySparse.
    raises: UnsupportedError for delays, cycles and neurons that are not built yet, or where Conv would not be exact and
    was asked for.
    """
    if conv not in CONV_CHOICES:
        raise LavatubeError("--conv", where="lava", expected=", ".join(CONV_CHOICES), got=conv)
    wait, chosen = timing(program).wait, {}
    for target in program.targets:
        _refuse_unless_plain(target)
        inbound = program.inbound(target)
        for synapse in inbound:
            events = program.source_of(synapse).event_range
            bound = bound_layer(target, [(synapse, events)], program.num_steps)
            low, high = bound.accumulators[synapse.name]
            if low < -(1 << 31) or high >= 1 << 31:
                raise UnsupportedError("sums can leave Lava's int32 channels", where=synapse.name, got=f"{low}..{high}")
            if wait[synapse.name]:
                chosen[synapse.name] = "DelaySparse"
            elif isinstance(synapse, Conv2dNode):
                alone = len(inbound) == 1
                chosen[synapse.name] = _conv_process(synapse, bound.activation, conv) if alone else "Sparse"
            else:
                chosen[synapse.name] = "Sparse" if isinstance(synapse, SparseNode) else "Dense"
    return chosen


def _conv_process(synapse: Conv2dNode, activation: tuple[int, int], conv: str) -> str:
    obstacle = why_conv_is_not_exact(synapse, activation)
    wants_conv = conv == "conv" or (conv == "auto" and connections(synapse) > SPARSE_CONNECTIONS)
    if conv == "conv" and obstacle:
        raise UnsupportedError(obstacle, where=f"{synapse.name} (Lava Conv)", remedy="use --conv sparse")
    return "Conv" if wants_conv and not obstacle else "Sparse"


def _refuse_unless_plain(target: Target) -> None:
    if isinstance(target, NeuronNode) and not (target.is_plain and not target.reset_interval):
        raise UnsupportedError(
            "neurons that the Lava backend does not build yet",
            where=target.name,
            expected="LIF neurons with binary spikes and reset to zero",
            got=", ".join(sorted(target.needs())) or "a periodic reset",
            remedy="run it on the reference or the fast engine",
        )


def connections(synapse: Conv2dNode) -> int:
    """Stored connections, borders not subtracted."""
    return int(np.prod(synapse.out_shape[1:])) * synapse.weight.size


def why_conv_is_not_exact(synapse: Conv2dNode, activation: tuple[int, int]) -> str:
    """Lava's Conv ignores the weight exponent and wraps its sums to 24 bits; "" if neither matters here."""
    if synapse.groups > 1 or synapse.dilation != (1, 1):
        return "groups and dilations go through Sparse"
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
    """(out neuron, in neuron) mantissas, both flat in C order."""
    shape = (int(np.prod(synapse.out_shape)), int(np.prod(synapse.in_shape)))
    if isinstance(synapse, DenseNode):
        return csr_matrix(synapse.weight.astype(np.int32))
    if isinstance(synapse, SparseNode):
        return csr_matrix((synapse.weight.astype(np.int32), synapse.index, synapse.indptr), shape=shape)
    return _conv_matrix(synapse, shape)


def _conv_matrix(synapse: Conv2dNode, shape: tuple[int, int]) -> csr_matrix:
    _, height, width = synapse.in_shape
    channels, out_height, out_width = synapse.out_shape
    per_group = synapse.weight.shape[1]
    rows, columns, values = [], [], []
    o, i = np.meshgrid(np.arange(channels), np.arange(per_group), indexing="ij")
    source_channel = i + o // (channels // synapse.groups) * per_group
    for y in range(synapse.weight.shape[2]):
        for x in range(synapse.weight.shape[3]):
            out_y, out_x = np.meshgrid(np.arange(out_height), np.arange(out_width), indexing="ij")
            in_y = out_y * synapse.stride[0] + y * synapse.dilation[0] - synapse.padding[0]
            in_x = out_x * synapse.stride[1] + x * synapse.dilation[1] - synapse.padding[1]
            inside = (in_y >= 0) & (in_y < height) & (in_x >= 0) & (in_x < width)
            to, source = (out_y * out_width + out_x)[inside], (in_y * width + in_x)[inside]
            rows.append((o[..., None] * out_height * out_width + to).ravel())
            columns.append((source_channel[..., None] * height * width + source).ravel())
            values.append(np.repeat(synapse.weight[:, :, y, x].ravel(), len(to)))
    data = np.concatenate(values).astype(np.int32), (np.concatenate(rows), np.concatenate(columns))
    return coo_matrix(data, shape=shape).tocsr()
