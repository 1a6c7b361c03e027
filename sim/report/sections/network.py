"""The network as a graph, with shapes, bits and which Lava process stands for each node."""

from __future__ import annotations

from markupsafe import Markup, escape

from lavatube.bounds import bound_program, never_spiking
from lavatube.deploy.lava_backend.choose import choose_processes
from lavatube.errors import LavatubeError
from lavatube.program import InputNode, LoihiProgram, NeuronNode, Node, Synapse
from lavatube.sim.report.artifacts import Artifacts
from lavatube.sim.report.parts import Missing, Part, Picture, Section, Table, Words
from lavatube.sim.report.pictures import WIDTH, framed
from lavatube.weight_code import weight_code

BOX, GAP, X, ACROSS = 44, 18, 90, 460
DRAWN = 80  # nodes


def network(found: Artifacts) -> Section:
    program = found.program
    if program is None:
        return Section(
            "network", "Network", [Missing("program.safetensors", f"lavatube lower {found.folder}/model.nir")]
        )
    processes = _built(found) or _processes(program)
    rows = [(n.name, n.kind, _shape(n), _settings(program, n), processes.get(n.name, "")) for n in program.nodes]
    table = Table("Nodes in order of execution", ("node", "kind", "shape", "settings", "Lava process"), rows, left=5)
    neurons = sum(node.bias_mant.size for node in program.neurons)
    weights = sum(synapse.weight.size for synapse in program.synapses)
    parts: list[Part] = [Words(f"{neurons:,} neurons, {weights:,} stored weights, {len(program.nodes)} nodes.")]
    for name in never_spiking(program, bound_program(program)):
        parts.append(Words(f"{name} never spikes within {program.num_steps} timesteps, whatever the input.", "note"))
    if len(program.nodes) <= DRAWN:
        parts.append(Picture("The graph of the program", _graph(program, processes), table))
    else:
        parts += [Words(f"A graph of more than {DRAWN} nodes is not drawn.", "note"), table]
    return Section("network", "Network", parts)


def _built(found: Artifacts) -> dict[str, str]:
    """{node: its Lava process, and whether it is stock}, as the run of the parity report built them."""
    for engine in (found.parity or {}).get("engines", ()):
        rows = engine["meta"].get("processes") or {}
        if engine["engine"] == "lava" and rows:
            return {name: f"{one['process']} ({'stock' if one['stock'] else 'ours'})" for name, one in rows.items()}
    return {}


def _processes(program: LoihiProgram) -> dict[str, str]:
    """{node: its Lava process, and whether it is stock}; nothing where Lava cannot run the program."""
    try:
        chosen = choose_processes(program)
    except LavatubeError:
        return {}
    return {name: f"{one.process} ({'stock' if one.stock else 'ours: ' + one.why_own})" for name, one in chosen.items()}


def _shape(node: Node) -> str:
    shape = node.out_shape if isinstance(node, Synapse) else node.shape
    return " x ".join(map(str, shape))


def _settings(program: LoihiProgram, node: Node) -> str:
    if isinstance(node, InputNode):
        return f"{node.message_bits} bit{'s' * (node.message_bits > 1)}"
    if isinstance(node, NeuronNode):
        return f"vth {node.vth}, du {node.du}, dv {node.dv}, reset {node.reset}, {node.output}"
    if isinstance(node, Synapse):
        kernel = f", kernel {node.weight.shape[2]} x {node.weight.shape[3]}" if node.kind == "conv2d" else ""
        delay = f", {program.lag(node)} late" if program.lag(node) else ""
        code = weight_code(node.weight, node.num_weight_bits)
        return f"{node.num_weight_bits}-bit weights{code}, exponent {node.weight_exp}{kernel}{delay}"
    return f"reads {node.reads}"


def _graph(program: LoihiProgram, processes: dict[str, str]) -> Markup:
    """Top down in order of execution; edges that skip are arcs on the right, those back in time on the left."""
    place = {node.name: number for number, node in enumerate(program.nodes)}
    height = len(place) * (BOX + GAP) + 8
    parts = [
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto-start-reverse"><path class="head" d="M0 0L8 4L0 8z"/></marker></defs>'
    ]
    for a, b in program.edges:
        i, j = place[a], place[b]
        y0, y1 = 4 + i * (BOX + GAP) + BOX, 4 + j * (BOX + GAP)
        if j == i + 1:
            parts.append(f'<path class="edge" marker-end="url(#arrow)" d="M{X + ACROSS / 2} {y0}V{y1}"/>')
            continue
        reach = min(70, 20 + 4 * abs(j - i))
        side, out = (X + ACROSS, reach) if j > i else (X, -reach)
        y0, y1 = y0 - BOX // 2, y1 + BOX // 2
        parts.append(
            f'<path class="edge{"" if j > i else " back"}" marker-end="url(#arrow)" '
            f'd="M{side} {y0}C{side + out} {y0} {side + out} {y1} {side} {y1}"/>'
        )
    for node in program.nodes:
        y = 4 + place[node.name] * (BOX + GAP)
        process = processes.get(node.name, "")
        own = " own" if "(ours" in process else ""
        label = f"{node.name}: {node.kind} {_shape(node)}"
        detail = _settings(program, node) + (f"; {process}" if process else "")
        parts.append(
            f'<g><title>{escape(label)}; {escape(detail)}</title><rect class="node {node.kind}{own}" x="{X}" y="{y}" '
            f'width="{ACROSS}" height="{BOX}" rx="6"/><text class="strong" x="{X + 10}" y="{y + 18}">'
            f'{escape(_cut(label, 62))}</text><text class="small" x="{X + 10}" y="{y + 35}">{escape(_cut(detail, 84))}'
            "</text></g>"
        )
    says = f"{len(place)} nodes and {len(program.edges)} edges, in the table below"
    return framed("The graph of the program", says, WIDTH, height, "".join(parts), css="graph")


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
