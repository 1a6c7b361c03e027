"""A float graph under its contract -> LoihiProgram, with a record of everything that changed on the way."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from lavatube.contract import LOIHI, ExecutionContract
from lavatube.convert.float_graph.check_contract import ignored
from lavatube.convert.float_graph.graph import FloatGraph
from lavatube.convert.float_graph.inputs import checked_inputs
from lavatube.convert.float_graph.simulate import simulate
from lavatube.convert.post_training.assemble import assembled, with_own_names
from lavatube.convert.post_training.choose import Settings, choose
from lavatube.convert.post_training.damage import records
from lavatube.convert.post_training.encoding import Encoding, encoding_of, events_of, negative_of
from lavatube.convert.post_training.integers import Made, units_of
from lavatube.convert.post_training.network import FloatNetwork, float_network, unique
from lavatube.convert.post_training.population import Deviation
from lavatube.convert.post_training.score import Calibration
from lavatube.convert.post_training.split import Parts, split
from lavatube.errors import LavatubeError
from lavatube.fixed_point import ACTIVATION_SHIFT
from lavatube.float_trace import FloatTrace
from lavatube.inputs import lengths_of
from lavatube.program import LoihiProgram, NeuronNode, Overflow
from lavatube.trace import within_length

STEPS_DEFAULT = 128
BITS = (2, 8)


def quantize_graph(
    graph: FloatGraph,
    contract: ExecutionContract,
    *,
    data: Mapping[str, np.ndarray] | None = None,
    length: np.ndarray | None = None,
    weight_bits: int = 8,
    target: str = "loihi2",
    overflow: Overflow = "strict",
    num_steps: int | None = None,
    input_bits: int | None = None,
    stage: str = "quantize",
) -> LoihiProgram:
    """Choose integers for every population; see docs/nir.md.

    data:   {input node: [T, B, ...] real numbers}: the units are chosen by the spikes of the float network on it.
    length: [B] steps of each sample; what is beyond is not looked at.
    num_steps: that the program is made for (and proven, where it has no leak); by default the data's, without data
            STEPS_DEFAULT.
    stage:  of the records of rounding: "quantize", or "lower" where nobody asked for it. Where the program computes
            something else than the contract, a record's stage is "lower".
    raises: UnsupportedError for what no program computes, LavatubeError for bad data or registers that cannot hold it.
    """
    if not BITS[0] <= weight_bits <= BITS[1]:
        raise LavatubeError("--weight-bits", expected=f"{BITS[0]}..{BITS[1]}", got=str(weight_bits))
    network, parts = split(float_network(graph, contract), graph.path)
    if data is not None:
        data = checked_inputs(graph, data)
        steps_given, batch = next(iter(data.values())).shape[:2]
        lengths = lengths_of(None if length is None else np.asarray(length), steps_given, batch, graph.path)
        data = {name: within_length(value, lengths) for name, value in data.items()}
    encodings = {
        name: encoding_of(name, None if data is None else data[name], input_bits, graph.path) for name in network.inputs
    }
    trace = None if data is None else simulate(graph, contract, dict(data), length=length, record=["v"])
    steps = num_steps or (STEPS_DEFAULT if trace is None else trace.num_steps)
    network = _with_negatives(network, encodings, graph.path)
    scales = {node: scale for name, each in encodings.items() for node, scale in each.inputs(name).items()}
    settings = Settings(
        weight_bits, steps, overflow, target, scales, _ranges(network, encodings), contract, graph.path
    )  # fmt: skip
    calibration = None if trace is None else _calibration(network, parts, trace, encodings)
    made = [choose(driven, settings, calibration) for driven in network.driven]
    made = with_own_names(made, network)
    nodes, edges = assembled(network, made, encodings, graph.path)
    lossy = [*_assumed(graph, contract, network, num_steps is None and trace is None, steps)]
    lossy += [
        {"stage": "read", "node": name, "what": f"{len(found)} populations, {', '.join(part.name for part in found)}",
         "why": "its neurons need different registers; no neuron changes"}
        for name, found in parts.items()
    ]  # fmt: skip
    lossy += [record for name, each in encodings.items() if (record := each.record(name, stage)) is not None]
    lossy += [record for one in made for record in records(one, stage)]
    lossy += _deviations(graph, contract, made, trace, data, length)
    return LoihiProgram(
        nodes=nodes, edges=edges, num_steps=steps,
        source={"kind": "nir", "sha256": graph.sha256, "contract": json.dumps(contract.to_json(), sort_keys=True)},
        scales=scales | units_of(made), lossy=tuple(lossy), overflow=overflow, target=target,
        contract=LOIHI.with_overrides(dt=contract.dt),
    )  # fmt: skip


def _with_negatives(network: FloatNetwork, encodings: Mapping[str, Encoding], where: str) -> FloatNetwork:
    """The same with a second input, and its synapses, beside each input that has negative numbers."""
    signed = {name for name, each in encodings.items() if each.signed}
    used, inputs, driven = dict(network.names), dict(network.inputs), []
    for name in signed:
        if (taken := negative_of(name)) in used:
            remedy = "give that node another name"
            raise LavatubeError("no name for the negative part of an input", where=where, got=taken, remedy=remedy)
        inputs[taken] = network.inputs[name]
        used[taken] = 1
    for each in network.driven:
        more = [
            replace(synapse, name=unique(f"{synapse.name[:85]}.neg", used), source=negative_of(synapse.source))
            for synapse in each.synapses if synapse.source in signed
        ]  # fmt: skip
        driven.append(replace(each, synapses=(*each.synapses, *more)))
    return replace(network, inputs=inputs, driven=tuple(driven), names=used)


def _ranges(network: FloatNetwork, encodings: Mapping[str, Encoding]) -> dict[str, tuple[int, int]]:
    found = {node: (0, (1 << each.bits) - 1) for name, each in encodings.items() for node in each.inputs(name)}
    return found | {each.name: (0, 1) for each in network.driven if each.population is not None}


def _calibration(
    network: FloatNetwork, parts: Parts, trace: FloatTrace, encodings: Mapping[str, Encoding]
) -> Calibration:
    def by_part(found: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        made = dict(found)
        for name in set(found) & set(parts):
            value = found[name].reshape(*found[name].shape[:2], -1)
            made |= {each.name: value[:, :, each.index].reshape(*value.shape[:2], *each.shape) for each in parts[name]}
        return made

    events = {
        node: events_of(trace.input[name], scale, each.bits)
        for name, each in encodings.items() for node, scale in each.inputs(name).items()
    }  # fmt: skip
    names = {each.name for each in network.driven}
    spikes = {name: value for name, value in by_part(trace.spikes).items() if name in names}
    voltages = {name: value for name, value in trace.v.items() if name in names and name not in spikes}
    return Calibration({**events, **spikes}, {**spikes, **voltages}, trace.length)


def _assumed(
    graph: FloatGraph, contract: ExecutionContract, network: FloatNetwork, default_steps: bool, steps: int
) -> list[dict[str, Any]]:
    """What was filled in, and what is not in the program; none of it changes a spike."""
    found = [{"stage": "read", **record} for record in (*graph.assumptions, *ignored(graph, contract))
             if not str(record["what"]).endswith("is not done")]  # fmt: skip
    if default_steps:
        found.append({"stage": "read", "node": "", "what": f"num_steps = {steps}",
                      "why": "neither data nor --num-steps says it"})  # fmt: skip
    for name in network.unread:
        found.append({"stage": "read", "node": name, "what": "left out", "why": "no Output reads what it leads to"})
    return found


def _deviations(
    graph: FloatGraph, contract: ExecutionContract, made: list[Made], trace: FloatTrace | None,
    data: Mapping[str, np.ndarray] | None, length: np.ndarray | None,
) -> list[dict[str, Any]]:  # fmt: skip
    """Where the program computes something else than the contract, and what that alone does to the spikes."""
    found = [each for one in made for each in one.deviations]
    if contract.state_rounding != "integer-grid":
        what = "decayed states lose " + ("their" if contract.state_rounding == "none" else "another") + " fraction"
        found += [Deviation(one.node.name, what, {}) for one in made
                  if isinstance(one.node, NeuronNode) and _decays(one.node)
                  and not _truncates_alike(one, contract)]  # fmt: skip
    if contract.output_lag:
        found += [Deviation(name, "counts the spikes decided in the last timestep, which leave after it", {})
                  for one in made if (name := one.node.name) and isinstance(one.node, NeuronNode)]  # fmt: skip
    found = list({(each.layer, each.what): each for each in found}.values())  # parts of one population
    damage: dict[str, dict[str, float]] = {}
    for each in found:
        key = json.dumps(each.change, sort_keys=True)
        if each.change and key not in damage and trace is not None and data is not None:
            other = simulate(graph, contract.with_overrides(**each.change), dict(data), length=length).spikes
            damage[key] = {
                name: float(np.abs(_counts(other[name]) - _counts(spikes)).sum() / max(int(spikes.sum()), 1))
                for name, spikes in trace.spikes.items()
            }
    rows = []
    for each in found:
        row: dict[str, Any] = {"stage": "lower", "layer": each.layer, "what": each.what}
        if each.change:
            row["computes"] = dict(each.change)
            row["spike_count_error"] = damage.get(json.dumps(each.change, sort_keys=True), {}).get(each.layer)
        rows.append(row)
    return rows


def _decays(node: NeuronNode) -> bool:
    return node.du < 4095 or (node.dv > 0 and node.reset_interval != 1)


def _truncates_alike(made: Made, contract: ExecutionContract) -> bool:
    """Whether what the program drops at a decay is what the contract drops: a unit of v is one of the register."""
    if contract.state_rounding != "toward-zero" or made.unit * (1 << ACTIVATION_SHIFT) != 1:
        return False
    return made.driven.population is not None and made.driven.population.own_states


def _counts(spikes: np.ndarray) -> np.ndarray:
    return np.asarray(spikes.sum(0, dtype=np.int64))
