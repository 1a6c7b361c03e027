"""A lava-dl .net file -> LoihiProgram: what lava-dl 0.6.0's netx runs in Lava, in logical time (docs/net.md)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from lavatube import fixed_point as fp
from lavatube.deploy.accept import accept
from lavatube.deploy.net_file.blocks import Block, pair_of, read_blocks, require, require_sizes
from lavatube.deploy.net_file.chain import Chain
from lavatube.deploy.net_file.connections import delays_of, matrix_of, split_by_delay
from lavatube.deploy.net_file.integers import fit_weight
from lavatube.deploy.net_file.neurons import lower_neurons
from lavatube.errors import LavatubeError, UnsupportedError
from lavatube.files import sha256_of_file
from lavatube.program import Conv2dNode, DenseNode, LoihiProgram, NeuronNode, Overflow, ReadoutNode, Shape, SparseNode

SPIKE_BITS = 1
CURRENT_BITS = 12  # of what the host feeds an input block's neurons: a bias mantissa, where it is not negative


def lower_net(
    path: Path | str,
    *,
    out: Path | str | None = None,
    target: str = "loihi2",
    overflow: Overflow = "strict",
    strict: bool = False,
    num_steps: int | None = None,
    input_bits: int | None = None,
    input_shape: Shape = (),
    reset_interval: int = 0,
) -> LoihiProgram:
    """Lower a .net file to a program; write `out` if given.

    num_steps:      timesteps; default is what the file's `simulation` says.
    input_bits:     message bits of the input; default 1 (spikes), or 12 for the currents of an input block's neurons.
    input_shape:    (neurons,) or (C, H, W), needed where a file without input block starts with a convolution.
    reset_interval: every population starts anew where t mod this = 0; 0: only at the start of a sample.
    raises: LavatubeError for an unsafe or damaged file, sizes that do not fit, a possible overflow, or a lossy step in
            strict mode; UnsupportedError for a block, neuron or field that has no exact place in a program.
    """
    path = Path(path)
    net = read_blocks(path)
    steps = net.num_steps if num_steps is None else num_steps
    if steps is None:
        remedy = "give the number of timesteps (--num-steps)"
        raise LavatubeError("the file does not say how many timesteps", where=str(path), remedy=remedy)
    chain = Chain(tuple(input_shape), input_bits, reset_interval)
    for block in net.blocks:
        if chain.ended:
            raise UnsupportedError(f"a {block.kind} block after {chain.ended}", where=block.where, expected="no block")
        RULES[block.kind](chain, block)
    if not chain.ended:
        _read_last_population(chain, str(path))
    ignored = [{"stage": "lower", "what": f"ignored /{name} of the file"} for name in net.ignored]
    program = LoihiProgram(
        nodes=tuple(chain.nodes),
        edges=tuple(chain.edges),
        num_steps=steps,
        source={"kind": "lava-dl net", "sha256": sha256_of_file(path), **chain.said},
        scales=chain.scales,
        lossy=(*ignored, *chain.lossy),
        overflow=overflow,
        target=target,
    )
    return accept(program, where=str(path), strict=strict, out=out)


def _input(chain: Chain, block: Block) -> None:
    """Only a shape: events enter. With neurons: the host's integer currents weight * x + bias enter and drive them."""
    require(not chain.nodes, block, "an input block inside the network", "the first block", block.name)
    same = chain.input_shape in ((), block.shape)
    require(same, block, "input_shape", f"{block.shape}, as the file says, or none", str(chain.input_shape))
    require(bool(block.shape), block, "shape", "the sizes of the input", "nothing")
    if block.neuron is None:
        require(not block.values, block, "weight or bias without neurons", "neurons", ", ".join(block.values))
        chain.add_input(block.shape, SPIKE_BITS)
        return
    if block.neuron["iDecay"] != fp.DECAY_ONE:
        remedy = "train the input block with current_decay 1"
        got = str(block.neuron["iDecay"])
        raise UnsupportedError(
            "input neurons that keep current", where=block.where, expected="4096", got=got, remedy=remedy
        )
    chain.add_input(block.shape, CURRENT_BITS)
    for name, default in (("weight", 64), ("bias", 0)):
        value = block.values.get(name, np.array(default))
        require(value.size == 1, block, f"{name} of the input", "one integer", str(value.shape))
        chain.said[f"input_{name}"] = str(int(value.reshape(-1)[0]))
    size = int(np.prod(block.shape))
    index, indptr = np.arange(size, dtype=np.int32), np.arange(size + 1, dtype=np.int64)
    one_each = SparseNode(
        f"{block.name}_current", block.shape, block.shape, np.ones(size, np.int16), index, indptr, 8, 0, 0, "excitatory"
    )
    chain.add_synapse(one_each, "input", block.name)
    chain.add_neurons(lower_neurons(chain, block, block.shape, np.zeros(1, np.int64)), flat=chain.flat)


def _dense(chain: Chain, block: Block) -> None:
    """Full connections; a `dense_rec` block's `weight_rec` leads back to its own neurons, one timestep late."""
    units = int(np.prod(block.shape))
    weight = matrix_of(block, "weight", units)
    if not chain.nodes:
        chain.add_input(chain.input_shape or (weight.shape[1],), SPIKE_BITS)
    if not chain.flat:
        raise UnsupportedError("a dense block on an image", where=block.where, remedy="put a flatten block before it")
    features = int(np.prod(chain.shape))
    require(weight.shape[1] == features, block, "weight columns", str(features), str(weight.shape[1]))
    require_sizes(block, inFeatures=features, outFeatures=units)
    name = f"{block.name}_dense"
    delays = delays_of(block, weight.shape, chain.lossy)
    target = block.name if block.neuron is not None else "output"
    for synapse in split_by_delay(name, chain.shape, (units,), fit_weight(weight, name, chain.lossy), delays):
        chain.add_synapse(synapse, chain.source, target)
    if block.neuron is None:  # netx puts an integrator without leak there, whose u is the sum of all activations
        require(block.kind == "dense", block, "a recurrent block without neurons", "neurons", "none")
        no_bias = not block.values.get("bias", np.zeros(1)).any()
        require(no_bias, block, "bias of a block without neurons", "none, as lava-dl writes it", "a bias")
        chain.add_readout(ReadoutNode("output", np.zeros(units, np.int64)), "a block without neurons, the read-out")
        return
    if block.kind == "dense_rec":
        if "delay" in block.values:
            remedy = "lava-dl's own loader drops the weight exponent there; train without delays"
            raise UnsupportedError("delays in a recurrent block", where=block.where, remedy=remedy)
        back = matrix_of(block, "weight_rec", units)
        require(back.shape == (units, units), block, "weight_rec", f"({units}, {units})", str(back.shape))
        fitted = fit_weight(back, f"{block.name}_recurrent", chain.lossy)
        weights, bits, exponent, sign = fitted
        synapse = DenseNode(f"{block.name}_recurrent", (units,), weights, bits, exponent, sign=sign)
        chain.add_synapse(synapse, block.name, block.name)
    bias = block.values.get("bias", np.zeros(1, np.int64)).reshape(-1)
    chain.add_neurons(lower_neurons(chain, block, (units,), bias), flat=True)


def _conv(chain: Chain, block: Block) -> None:
    """Cross-correlation, the kernel as in torch: (out, in / groups, height, width), or with a last size of 1."""
    if not chain.nodes:
        if len(chain.input_shape) != 3:
            remedy = "give (C, H, W) as input_shape (--input-shape C,H,W)"
            raise LavatubeError("the file does not say the input's shape", where=block.where, remedy=remedy)
        chain.add_input(chain.input_shape, SPIKE_BITS)
    weight = block.values.get("weight", np.zeros(0, np.int64))
    weight = weight[..., 0] if weight.ndim == 5 and weight.shape[4] == 1 else weight
    require(len(chain.shape) == 3, block, "a conv block", "an image before it", str(chain.shape))
    require(
        weight.ndim == 4 and weight.size > 0, block, "weight", "(out, in / groups, height, width)", str(weight.shape)
    )
    if block.neuron is None:
        raise UnsupportedError("a conv block without neurons", where=block.where, remedy="end with a dense block")
    if block.values.get("delay", np.zeros(1)).any():
        remedy = "lava-dl's own loader ignores them without a word; train without delays in convolutions"
        raise UnsupportedError("delays in a conv block", where=block.where, remedy=remedy)
    name = f"{block.name}_conv"
    weights, bits, exponent, sign = fit_weight(weight, name, chain.lossy)
    groups = block.values.get("groups", np.ones(1, np.int64))
    require(groups.size == 1, block, "groups", "one integer", str(groups.shape))
    synapse = Conv2dNode(
        name, chain.shape, weights, bits, exponent, pair_of(block, "stride", 1), pair_of(block, "padding", 0), 0,
        pair_of(block, "dilation", 1), int(groups.reshape(-1)[0]), sign,
    )  # fmt: skip
    require_sizes(block, inChannels=chain.shape[0], outChannels=len(weight))
    said = pair_of(block, "kernelSize", 0)
    require(said in ((0, 0), weight.shape[2:]), block, "kernelSize", str(weight.shape[2:]), str(said))
    require(block.shape in ((), synapse.out_shape), block, "shape", str(synapse.out_shape), str(block.shape))
    bias = block.values.get("bias", np.zeros(1, np.int64)).reshape(-1)
    fits = bias.size in (1, len(weight))
    require(fits, block, "bias", f"1 or {len(weight)} values, by channel", str(bias.size))
    chain.add_synapse(synapse, chain.source, block.name)
    neurons = lower_neurons(chain, block, synapse.out_shape, bias.reshape(-1, 1, 1))
    chain.add_neurons(neurons, flat=synapse.out_shape[1:] == (1, 1))


def _flatten(chain: Chain, block: Block) -> None:
    """Channel, height, width, as in torch: the program's own flat order, so nothing is added."""
    if not chain.nodes:
        raise UnsupportedError("a flatten block at the start", where=block.where, remedy="put an input block before it")
    sizes = int(np.prod(block.shape)), int(np.prod(chain.shape))
    require(not block.shape or sizes[0] == sizes[1], block, "shape", f"{sizes[1]} values", str(block.shape))
    chain.flat = True


def _average(chain: Chain, block: Block) -> None:
    """The mean of groups of neurons, as the read-out: their summed spikes; 1 / group size is in `scales`."""
    groups, size = int(np.prod(block.shape)), int(np.prod(chain.shape))
    ok = any(isinstance(node, NeuronNode) for node in chain.nodes) and block.shape and size % groups == 0
    require(bool(ok), block, "average", "groups of equal size of the neurons before it", f"{groups} of {size}")
    index, ones = np.arange(size, dtype=np.int32), np.ones(size, np.int16)
    indptr = np.arange(groups + 1, dtype=np.int64) * (size // groups)
    name = f"{block.name}_average"
    chain.add_synapse(
        SparseNode(name, chain.shape, (groups,), ones, index, indptr, 8, 0, 0, "excitatory"), chain.source, "output"
    )
    chain.scales[name] = groups / size
    chain.add_readout(ReadoutNode("output", np.zeros(groups, np.int64)), "an average, the read-out")


RULES: Mapping[str, Callable[[Chain, Block], None]] = {
    "input": _input, "dense": _dense, "dense_rec": _dense, "conv": _conv, "flatten": _flatten, "average": _average,
}  # fmt: skip


def _read_last_population(chain: Chain, where: str) -> None:
    """Spike counts; the voltage of a population whose threshold is beyond the register, as lava-dl's read-outs are."""
    last = chain.nodes[-1]
    if not isinstance(last, NeuronNode):
        raise LavatubeError("a network without neurons", where=where, expected="a dense or conv block")
    silent = last.output == "none" or last.vth == fp.THRESHOLD_MAX
    bias = np.zeros(int(np.prod(last.shape)), np.int64)
    chain.edges.append((last.name, "output"))
    chain.add_readout(ReadoutNode("output", bias, "voltage" if silent else "spikes"), "the read-out")
