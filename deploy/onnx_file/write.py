"""LoihiProgram -> .onnx: one timestep in integer operators, its states as inputs and outputs (docs/onnx.md)."""

from __future__ import annotations

from functools import reduce
from pathlib import Path
from typing import Any

from lavatube.deploy.onnx_file.description import (
    DIGEST_KEY,
    METADATA_KEY,
    StepDescription,
    StepInput,
    StepReadout,
    StepSpikes,
    StepState,
    StepWeights,
    digest_of,
)
from lavatube.deploy.onnx_file.graph import BATCH, StepGraph, batched
from lavatube.deploy.onnx_file.neurons import add_neurons, states_of
from lavatube.deploy.onnx_file.synapses import add_synapse, weight_size
from lavatube.errors import UnsupportedError
from lavatube.files import whole_file
from lavatube.fixed_point import weight_range
from lavatube.program import InputNode, LoihiProgram, NeuronNode, ReadoutNode, Source, Synapse, Target
from lavatube.program_file import program_sha256

WEIGHTS_MAX = 1 << 29  # int16 values; protobuf ends at 2 GiB
DOC = "One timestep of a spiking network in Loihi's integers. Loop it: feed each output next/X back as input X."


def write_onnx(program: LoihiProgram, path: Path) -> StepDescription:
    """Write the model, whole or not at all; see `step_model`. Returns its description."""
    model, description = step_model(program)
    with whole_file(path) as temporary:
        temporary.write_bytes(model.SerializeToString(deterministic=True))
    return description


def step_model(program: LoihiProgram) -> tuple[Any, StepDescription]:
    """(onnx.ModelProto, what its metadata says). Every node and option of docs/program.md has a form in ONNX.

    raises: UnsupportedError for several inputs or read-outs, or weights that do not fit in one file (a sparse synapse
    is written with its zeros); LavatubeError without the package onnx.
    """
    size = sum(map(weight_size, program.synapses))
    if size > WEIGHTS_MAX:
        expected = f"at most {WEIGHTS_MAX:,} weights, zeros of sparse synapses included"
        raise UnsupportedError("too large for an ONNX file", where="program", expected=expected, got=f"{size:,}")
    writer = _Writer(program)
    for node in program.nodes:
        writer.add(node)
    description = writer.finish()
    text = description.model_dump_json()
    return writer.graph.model("step", DOC, {METADATA_KEY: text, DIGEST_KEY: digest_of(text)}), description


class _Writer:
    def __init__(self, program: LoihiProgram) -> None:
        self.program, self.graph = program, StepGraph()
        self.states: list[StepState] = []
        self.made: dict[str, str] = {}  # source -> its events of this step, flat
        self.activations: dict[str, str] = {}
        source, self.readout = program.input, program.readout
        self.input = StepInput(name="input", shape=source.shape, message_bits=source.message_bits)
        self.graph.input(self.input.name, batched(source.shape))
        self._state(self.graph.t, (), 0)
        self.history = {node.name: 0 for node in program.sources}
        for synapse in program.synapses:
            name = program.source_of(synapse).name
            self.history[name] = max(self.history[name], program.lag(synapse))
        for node in program.sources:
            if self.history[node.name]:
                self._state(_past(node), (BATCH, self.history[node.name], _size(node)), 0)
        for node in program.neurons:
            for kind, initial in states_of(node).items():
                self._state(f"{kind}/{node.name}", batched(node.shape), initial)
        first = tuple(self.readout.bias.tolist()) if self.readout.reads == "voltage" else 0
        self._state("readout", batched(self.readout.shape), first)

    def add(self, node: InputNode | Synapse | NeuronNode | ReadoutNode) -> None:
        """Append a node of the program; in its order, so that what it uses is there."""
        self.graph.scope = node.name
        if isinstance(node, InputNode):
            self._emit(node, self.input.name)
        elif isinstance(node, NeuronNode):
            self._step(node)
        elif isinstance(node, ReadoutNode):
            self._read(node)
        else:
            self.activations[node.name] = add_synapse(self.graph, node, self._seen(node))

    def finish(self) -> StepDescription:
        """Close what needs all nodes."""
        self.graph.scope = "end"
        self._next(self.graph.t, self.graph.op("Add", self.graph.t, 1))
        for node in self.program.sources:
            if self.history[node.name]:
                self._next(_past(node), self._pushed(node))
        program = self.program
        return StepDescription(
            program_sha256=program_sha256(program),
            source=dict(program.source),
            num_steps=program.num_steps,
            input=self.input,
            states=tuple(self.states),
            spikes=tuple(
                StepSpikes(name=f"spikes/{n.name}", layer=n.name, shape=n.shape, event_range=n.event_range)
                for n in program.neurons
            ),
            readout=StepReadout(name="readout", reads=program.readout.reads),
            weights=tuple(self._weights(synapse) for synapse in program.synapses),
        )

    def _seen(self, synapse: Synapse) -> str:
        """The events that a synapse sees, [batch, inputs]."""
        source, lag = self.program.source_of(synapse), self.program.lag(synapse)
        return self.graph.op("Gather", _past(source), lag - 1, axis=1) if lag else self.made[source.name]

    def _received(self, target: Target) -> str:
        parts = [self.activations[synapse.name] for synapse in self.program.inbound(target)]
        total = reduce(lambda a, b: self.graph.op("Add", a, b), parts)
        return self.graph.shaped(self.graph.int32(total), *target.shape)

    def _step(self, node: NeuronNode) -> None:
        states = {kind: f"{kind}/{node.name}" for kind in states_of(node)}
        events, after = add_neurons(self.graph, node, self._received(node), states)
        self._emit(node, events)
        self.graph.output(f"spikes/{node.name}", events, batched(node.shape))
        for kind, value in after.items():
            self._next(f"{kind}/{node.name}", value)

    def _read(self, node: ReadoutNode) -> None:
        bias = self.graph.tensor(f"{node.name}.bias", node.bias)
        if node.reads == "current":
            value = self._received(node)
        else:
            source = self.program.read_by(node)
            made = self.made[source.name] if node.reads == "spikes" else f"next/v/{source.name}"
            value = self.graph.shaped(made, *node.shape)
        now = self.graph.op("Add", value, bias)
        self._next("readout", now if node.reads == "voltage" else self.graph.op("Add", "readout", now))

    def _emit(self, node: Source, events: str) -> None:
        self.made[node.name] = self.graph.shaped(events, _size(node))

    def _pushed(self, node: Source) -> str:
        """[batch, lag, size] with the newest events first."""
        newest, depth = self.graph.shaped(self.made[node.name], 1, _size(node)), self.history[node.name]
        if depth == 1:
            return newest
        ends = (self.graph.constant([place]) for place in (0, depth - 1, 1))
        return self.graph.op("Concat", newest, self.graph.op("Slice", _past(node), *ends), axis=1)

    def _state(self, name: str, shape: tuple[int | str, ...], initial: int | tuple[int, ...]) -> None:
        self.states.append(StepState(name=self.graph.input(name, shape), shape=shape, initial=initial))

    def _next(self, name: str, value: str) -> None:
        shape = next(state.shape for state in self.states if state.name == name)
        self.graph.output(f"next/{name}", value, shape)

    def _weights(self, synapse: Synapse) -> StepWeights:
        return StepWeights(
            name=synapse.name,
            num_weight_bits=synapse.num_weight_bits,
            sign=synapse.sign,
            grid=weight_range(synapse.num_weight_bits, synapse.sign)[2],
            weight_exp=synapse.weight_exp,
            scale=self.program.scales.get(synapse.name),
        )


def _past(node: Source) -> str:
    return f"past/{node.name}"


def _size(node: Source) -> int:
    size = 1
    for length in node.shape:
        size *= length
    return size
