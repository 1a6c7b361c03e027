"""A block's neurons -> NeuronNode."""

from __future__ import annotations

import numpy as np

from lavatube import fixed_point as fp
from lavatube.deploy.net_file.blocks import Block, require
from lavatube.deploy.net_file.chain import Chain
from lavatube.deploy.net_file.integers import fit_bias
from lavatube.errors import UnsupportedError
from lavatube.program import NeuronNode, Shape


def lower_neurons(chain: Chain, block: Block, shape: Shape, bias: np.ndarray) -> NeuronNode:
    """du = iDecay - 1, dv = vDecay, vth = vThMant, bias in weight units. bias: broadcastable to shape, int64."""
    registers = block.neuron
    assert registers is not None
    for name, only in (("gradedSpike", 0), ("wgtExp", 0), ("weight_exp", 0)):
        if registers.get(name, only) != only:
            remedy = "lava-dl's own loader ignores it; train without it"
            got = str(registers[name])
            raise UnsupportedError(f"neuron/{name}", where=block.where, expected=str(only), got=got, remedy=remedy)
    if registers.get("refDelay", 1) != 1:
        what = f"refDelay {registers['refDelay']} ignored, as lava-dl does"
        chain.lossy.append({"stage": "lower", "layer": block.name, "what": what})
    du = _register(chain, block, "iDecay", registers["iDecay"] - 1)
    dv = _register(chain, block, "vDecay", registers["vDecay"])
    vth = registers["vThMant"]
    require(0 <= vth < 1 << 24, block, "neuron/vThMant", "0..2^24 - 1", str(vth))
    silent = vth > fp.THRESHOLD_MAX  # v saturates below such a threshold: it never spikes
    size = bias.size == 1 or bias.size == int(np.prod(shape)) or bias.ndim == 3
    require(size, block, "bias", f"1 or {int(np.prod(shape))} values", str(bias.size))
    mant, exponent = fit_bias(np.array(np.broadcast_to(bias, shape)), block.name, chain.lossy)
    return NeuronNode(
        block.name, shape, du, dv, 0 if silent else vth, mant, exponent, output="none" if silent else "binary",
        reset_interval=chain.reset_interval,
    )  # fmt: skip


def _register(chain: Chain, block: Block, name: str, value: int) -> int:
    """A decay, clipped to its 12 bits where lava-dl's own range of 0..4096 is one wider."""
    said = value + (name == "iDecay")
    require(0 <= said <= fp.DECAY_ONE, block, f"neuron/{name}", "0..4096", str(said))
    clipped = min(max(value, 0), fp.DECAY_MAX)
    if clipped != value:
        what = f"neuron/{name} {said} clipped to {clipped + (name == 'iDecay')}, the end of its 12-bit register"
        chain.lossy.append({"stage": "lower", "layer": block.name, "what": what})
    return clipped
