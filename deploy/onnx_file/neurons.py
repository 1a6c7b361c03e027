"""A population's step as ONNX operators, from docs/program.md; it shares no code with the reference's step."""

from __future__ import annotations

from lavatube import fixed_point as fp
from lavatube.deploy.onnx_file.graph import StepGraph
from lavatube.program import NeuronNode


def states_of(node: NeuronNode) -> dict[str, int]:
    """{state: initial value} of a population, each [batch, shape]."""
    states = {"u": 0, "v": node.v_initial}
    if node.refractory:
        states["rest"] = 0
    if node.memory_gate:
        states["balance"] = 0
    return states


def add_neurons(
    graph: StepGraph, node: NeuronNode, activation: str, state: dict[str, str]
) -> tuple[str, dict[str, str]]:
    """activation: [batch, shape], kept in int32; state: names by `states_of`. Returns (events, new states)."""
    initial = states_of(node)
    if node.reset_interval:
        due = graph.op("Equal", graph.op("Mod", graph.t, node.reset_interval), node.reset_offset)
        state = {kind: graph.op("Where", due, initial[kind], value) for kind, value in state.items()}
    u = _current(graph, node, state["u"], activation)
    v = _voltage(graph, node, state["v"], u)
    awake = None
    if node.refractory:
        awake = graph.op("Equal", state["rest"], 0)
        v = graph.op("Where", awake, v, state["v"])
    if node.output == "none":
        return graph.op("Sub", v, v), {"u": u, "v": v}
    full = node.vth << fp.ACTIVATION_SHIFT
    above = _both(graph, graph.op("Greater", v, full), awake)
    events, fired = graph.int64(above), above
    if node.output == "graded":
        payload = graph.op("Min", graph.floor_shift(v, node.payload_shift), (1 << node.payload_bits) - 1)
        events = graph.op("Where", above, payload, 0)
    elif node.output == "signed":
        below = _both(graph, graph.op("Less", v, -(node.vth_low << fp.ACTIVATION_SHIFT)), awake)
        if node.memory_gate:
            below = _both(graph, below, graph.op("Greater", state["balance"], 0))
        events, fired = graph.op("Sub", events, graph.int64(below)), graph.op("Or", above, below)
    subtracts = node.reset == "subtract"
    v = graph.op("Sub", v, graph.op("Mul", events, full)) if subtracts else graph.op("Where", fired, 0, v)
    after = {"u": u, "v": v}
    if node.refractory:
        less = graph.op("Max", graph.op("Sub", state["rest"], 1), 0)
        after["rest"] = graph.op("Where", fired, node.refractory, less)
    if node.memory_gate:
        after["balance"] = graph.op("Add", state["balance"], events)
    return events, after


def _current(graph: StepGraph, node: NeuronNode, u: str, activation: str) -> str:
    kept = graph.leak(u, fp.DECAY_ONE - node.du - fp.CURRENT_DECAY_OFFSET)
    raw = graph.int32(graph.op("Add", kept, graph.op("Mul", activation, 1 << fp.ACTIVATION_SHIFT)))
    period = 2 * fp.STATE_LIMIT
    high, low = graph.op("Greater", raw, fp.STATE_LIMIT), graph.op("LessOrEqual", raw, -fp.STATE_LIMIT)
    once = graph.op("Where", high, graph.op("Sub", raw, period), raw)
    return graph.op("Where", low, graph.op("Add", raw, period), once)


def _voltage(graph: StepGraph, node: NeuronNode, v: str, u: str) -> str:
    mantissa = graph.int64(graph.tensor(f"{node.name}.bias_mant", node.bias_mant))
    drive = graph.op("Add", u, graph.op("Mul", mantissa, 1 << node.bias_exp))
    raw = graph.int32(graph.op("Add", graph.leak(v, fp.DECAY_ONE - node.dv), drive))
    return graph.op("Clip", raw, -fp.VOLTAGE_MAX, fp.VOLTAGE_MAX)


def _both(graph: StepGraph, a: str, b: str | None) -> str:
    return a if b is None else graph.op("And", a, b)
