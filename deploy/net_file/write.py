"""LoihiProgram -> lava-dl .net file, for what that format can say exactly; the rest is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from lavatube import fixed_point as fp
from lavatube.deploy.net_file.integers import exact_mantissas
from lavatube.errors import UnsupportedError
from lavatube.files import whole_file
from lavatube.program import (
    Conv2dNode,
    DenseNode,
    LoihiProgram,
    NeuronNode,
    ReadoutNode,
    Source,
    SparseNode,
    Synapse,
    floors_sums,
)

Fields = dict[str, Any]
LOWEST, HIGHEST = -256, 255  # what lava-dl's loader keeps
NEVER = fp.THRESHOLD_MAX + 1  # a threshold that no voltage reaches


def write_net(program: LoihiProgram, path: Path | str) -> tuple[str, ...]:
    """Write a program that is a chain of blocks (with recurrence of a population onto itself) as a .net file.

    Returns what the format has no place for, as arguments to give to lava-dl's `netx.hdf5.Network`.
    raises: UnsupportedError naming the node that a .net file cannot say exactly.
    """
    blocks, source = [_input(program)], _first_population(program) or program.input
    if isinstance(source, NeuronNode):
        blocks[0] |= _neuron(source)
    for target in program.targets:
        if target is source or (isinstance(target, ReadoutNode) and target.reads != "current"):
            continue
        shape = source.shape
        forward = [node for node in program.inbound(target) if program.source_of(node) is source]
        back = [node for node in program.inbound(target) if program.source_of(node) is target]
        if not forward or len(forward) + len(back) != len(program.inbound(target)):
            raise _refusal(target.name, "a connection from another block than the one before")
        dense = not isinstance(forward[0], Conv2dNode)
        if dense and len(shape) == 3 and (shape[1:] != (1, 1) or source is not program.input):
            blocks.append({"type": "flatten", "shape": [int(np.prod(shape)), 1, 1]})
        block = _dense(forward, back, target) if dense else _conv(forward, back)
        if isinstance(target, NeuronNode):
            block |= {**_neuron(target), **_bias(target, by_channel=not dense)}
            source = target
        elif target.bias.any():
            raise _refusal(target.name, "a bias of the read-out")
        blocks.append(block)
    _check_readout(program, source)
    arguments = _arguments(program)
    with whole_file(Path(path)) as temporary, h5py.File(temporary, "w") as file:
        for number, block in enumerate(blocks):
            for name, value in block.items():
                text = name.endswith("type")
                value = np.array([value], "S10") if text else np.asarray(value)
                file.create_dataset(f"layer/{number}/{name}", data=value)
        file["simulation/Ts"], file["simulation/tSample"] = 1, program.num_steps
    return arguments


def _refusal(where: str, what: str) -> UnsupportedError:
    return UnsupportedError(f"{what} has no exact place in a .net file", where=where)


def _first_population(program: LoihiProgram) -> NeuronNode | None:
    """The neurons of an input block: driven by the input, one to one with weight 1, without carried current."""
    for node in program.neurons[:1]:
        inbound = program.inbound(node)
        if len(inbound) == 1 and isinstance(inbound[0], SparseNode) and program.source_of(inbound[0]) is program.input:
            synapse, size = inbound[0], int(np.prod(node.shape))
            one_each = np.array_equal(synapse.indptr, np.arange(size + 1)) and np.array_equal(
                synapse.index, np.arange(int(np.prod(synapse.in_shape)))
            )
            plain = synapse.weight_exp == synapse.delay == 0 and bool((synapse.weight == 1).all())
            if one_each and plain and node.du == fp.DECAY_MAX and not node.bias_mant.any():
                return node
    return None


def _input(program: LoihiProgram) -> Fields:
    said = {name: program.source.get(f"input_{name}") for name in ("weight", "bias")}
    numbers = {name: [float(value)] for name, value in said.items() if value is not None}
    return {"type": "input", "shape": list(program.input.shape), **(numbers if _first_population(program) else {})}


def _dense(forward: list[Synapse], back: list[Synapse], target: NeuronNode | ReadoutNode) -> Fields:
    weight, delay, there = _connections(forward, target.name)
    units, inputs = weight.shape
    block: Fields = {"type": "dense_rec" if back else "dense", "shape": [units], "weight": weight}
    block |= {"inFeatures": inputs, "outFeatures": units}
    if back:
        recurrent, late, _ = _connections(back, target.name)
        if late.any() or delay.any():
            raise _refusal(target.name, "a delay in a recurrent block")
        block["weight_rec"] = recurrent
    if delay.any():
        rows = delay.max(1)  # lava-dl's own form is one delay per neuron; those of absent connections do not matter
        by_neuron = bool((delay == rows[:, None])[there].all())
        block["delay"] = rows if by_neuron else delay
    return block


def _connections(synapses: list[Synapse], where: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(weight, delay, present), each (out, in), of dense and sparse synapses together."""
    shape = int(np.prod(synapses[0].out_shape)), int(np.prod(synapses[0].in_shape))
    weight, delay, there = np.zeros(shape, np.int16), np.zeros(shape, np.int16), np.zeros(shape, bool)
    for node in synapses:
        if isinstance(node, Conv2dNode):
            raise _refusal(where, "a convolution beside another synapse")
        part = np.zeros(shape, np.int64)
        if isinstance(node, DenseNode):
            part[:] = _integers(node)
        else:
            part[np.repeat(np.arange(shape[0]), np.diff(node.indptr)), node.index] = _integers(node)
        if (there & (part != 0)).any():
            raise _refusal(where, "two connections between one pair")
        weight[part != 0], delay[part != 0], there[part != 0] = part[part != 0], node.delay, True
    _require_fit(weight.astype(np.int64), where)
    return weight, delay, there


def _conv(forward: list[Synapse], back: list[Synapse]) -> Fields:
    node = forward[0]
    assert isinstance(node, Conv2dNode)
    if len(forward) > 1 or back:
        raise _refusal(node.name, "a convolution beside another synapse")
    if node.delay:
        raise _refusal(node.name, "a delay of a convolution")
    return {
        "type": "conv",
        "shape": list(node.out_shape),
        "inChannels": node.in_shape[0],
        "outChannels": node.out_shape[0],
        "kernelSize": list(node.weight.shape[2:]),
        "stride": list(node.stride),
        "padding": list(node.padding),
        "dilation": list(node.dilation),
        "groups": node.groups,
        "weight": _integers(node).astype(np.int16),
    }


def _integers(node: Synapse) -> np.ndarray:
    """Effective integer weights, int64."""
    weight = node.weight.astype(np.int64)
    if floors_sums(node):
        raise _refusal(node.name, "a weight that is no integer after its exponent")
    effective = fp.shift(weight, node.weight_exp)
    _require_fit(effective, node.name)
    return effective


def _require_fit(weight: np.ndarray, where: str) -> None:
    """raises: UnsupportedError for weights of one block that lava-dl's loader would clip or round."""
    if weight.min() < LOWEST or weight.max() > HIGHEST or exact_mantissas(weight) is None:
        raise _refusal(where, f"weights that are not 8 bits within {LOWEST}..{HIGHEST}")


def _neuron(node: NeuronNode) -> Fields:
    silent = node.output == "none"
    if not (node.is_plain or (silent and node.v_initial == 0)):
        raise _refusal(node.name, "a neuron that is not Loihi's plain integrate-and-fire")
    return {
        "neuron/type": "CUBA",
        "neuron/iDecay": node.du + fp.CURRENT_DECAY_OFFSET,
        "neuron/vDecay": node.dv,
        "neuron/vThMant": NEVER if silent else node.vth,
        "neuron/refDelay": 1,
        "neuron/gradedSpike": False,
    }


def _bias(node: NeuronNode, *, by_channel: bool) -> Fields:
    register = fp.bias_register(node.bias_mant, node.bias_exp)
    if (register % (1 << fp.ACTIVATION_SHIFT)).any():
        raise _refusal(node.name, "a bias that is no whole number of weight units")
    bias = register >> fp.ACTIVATION_SHIFT
    flat = bias.reshape(len(bias), -1) if by_channel else bias.reshape(-1, 1)
    if (flat != flat[:, :1]).any():
        raise _refusal(node.name, "a bias that differs within a channel")
    return {"bias": flat[:, 0].astype(np.int32)} if bias.any() else {}


def _check_readout(program: LoihiProgram, last: Source) -> None:
    """The format says no read-out: its reader takes voltages where no spike can be, else spikes."""
    readout = program.readout
    if readout.reads == "current":
        return
    population = program.read_by(readout)
    silent = population.output == "none" or population.vth == fp.THRESHOLD_MAX
    if population is not last or readout.bias.any() or (readout.reads == "voltage") != silent:
        raise _refusal(readout.name, f"a read-out of {readout.reads} of {population.name}")


def _arguments(program: LoihiProgram) -> tuple[str, ...]:
    resets = {(node.reset_interval, node.reset_offset) for node in program.neurons}
    if len(resets) > 1 or any(offset for _, offset in resets):
        raise _refusal("program", "a periodic reset that differs between populations")
    bits, interval = program.input.message_bits, max((interval for interval, _ in resets), default=0)
    graded = bits > 1 and _first_population(program) is None
    found = {f"input_message_bits={bits}": graded, f"reset_interval={interval}": interval > 0}
    return tuple(text for text, needed in found.items() if needed)
