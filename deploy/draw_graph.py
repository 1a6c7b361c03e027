"""A graph of nodes as SVG, in layers from input to output; needs no program beside Python.

The well-kept drawers (graphviz, and nirviz on top of it) need a system binary, grandalf has had no release for years,
and networkx places nodes but draws with matplotlib: hence these lines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from pathlib import Path

from lavatube.errors import UnsupportedError
from lavatube.files import whole_file

NODES_MAX = 400
CHARACTER, LINE, PAD, GAP_X, GAP_Y, MARGIN, SIDE = 6.6, 15, 8, 24, 34, 24, 26  # pixels
STYLE = """
  svg { background: #fff; color-scheme: light dark }
  text { font: 11px ui-monospace, monospace; fill: #1b1f24; text-anchor: middle }
  .name { font-weight: 600 }
  .head { font: 600 14px system-ui, sans-serif; text-anchor: start }
  rect { stroke: #5b6773; fill: #eef2f6 }
  .end { fill: #e1f0e3 } .neurons { fill: #fdeccf } .synapse { fill: #dfeafa }
  path { fill: none; stroke: #5b6773; stroke-width: 1.3 } .late { stroke: #b3362b; stroke-dasharray: 5 3 }
  .tip { fill: #5b6773; stroke: none } .late-tip { fill: #b3362b; stroke: none }
  @media (prefers-color-scheme: dark) {
    svg { background: #14181d }
    text { fill: #e6e9ed }
    rect { stroke: #8b97a3; fill: #272e36 }
    .end { fill: #1f3a26 } .neurons { fill: #463514 } .synapse { fill: #1d3149 }
    path { stroke: #8b97a3 } .late { stroke: #f0796c } .tip { fill: #8b97a3 } .late-tip { fill: #f0796c }
  }
"""


@dataclass(frozen=True)
class Picture:
    """nodes: {name: (role, lines of text)}, role one of end, neurons, synapse, other; edges: (from, to, late)."""

    title: str
    nodes: Mapping[str, tuple[str, Sequence[str]]]
    edges: Sequence[tuple[str, str, bool]]


@dataclass(frozen=True)
class _Box:
    x: float
    y: float
    width: float
    height: float


def draw_graph(picture: Picture) -> str:
    """The SVG text; edges that carry an earlier timestep are dashed. raises: UnsupportedError for too many nodes."""
    if len(picture.nodes) > NODES_MAX:
        expected = f"at most {NODES_MAX} nodes"
        raise UnsupportedError("too large a graph to draw", expected=expected, got=str(len(picture.nodes)))
    layers = _layers(picture)
    boxes, width, height = _places(picture, layers)
    layer_of = {name: number for number, layer in enumerate(layers) for name in layer}
    later = sum(late for _, _, late in picture.edges)
    text = "; ".join(f"{name}: {', '.join(lines)}" for name, (_, lines) in picture.nodes.items())
    wires = ", ".join(f"{a} to {b}{' a timestep late' if late else ''}" for a, b, late in picture.edges)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-labelledby="title desc" '
        f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}">',
        f'<title id="title">{escape(picture.title)}</title>',
        f'<desc id="desc">{escape(f"Nodes: {text}. Edges: {wires}.")}</desc>',
        f"<style>{STYLE}</style>",
        '<defs><marker id="tip" markerWidth="8" markerHeight="8" refX="7" refY="4" orient="auto">'
        '<path class="tip" d="M0 0L8 4L0 8z"/></marker><marker id="late-tip" markerWidth="8" markerHeight="8" refX="7" '
        'refY="4" orient="auto"><path class="late-tip" d="M0 0L8 4L0 8z"/></marker></defs>',
        f'<text class="head" x="{MARGIN}" y="{MARGIN}">{escape(picture.title)}'
        f"{' (dashed: a timestep late)' if later else ''}</text>",
    ]
    lane = 0
    for a, b, late in picture.edges:
        passes = layer_of[b] - layer_of[a]
        lane += passes != 1
        parts.append(_edge(boxes[a], boxes[b], late, passes, width - SIDE * (1 + lane % 3) / 2))
    for name, (role, lines) in picture.nodes.items():
        parts += _box(boxes[name], name, role, lines)
    return "\n".join([*parts, "</svg>"]) + "\n"


def write_picture(picture: Picture, path: Path) -> None:
    """Draw to a file."""
    text = draw_graph(picture)
    with whole_file(path) as temporary:
        Path(temporary).write_text(text, encoding="utf-8")


def _layers(picture: Picture) -> list[list[str]]:
    """Names by the longest way from a start, each layer in the order of what leads into it."""
    depth = dict.fromkeys(picture.nodes, 0)
    now = [(a, b) for a, b, late in picture.edges if not late]
    for _ in picture.nodes:  # as many rounds as the longest way has nodes, at most
        moved = False
        for a, b in now:
            if depth[b] <= depth[a] < len(picture.nodes):
                depth[b], moved = depth[a] + 1, True
        if not moved:
            break
    used = sorted(set(depth.values()))
    layers = [[name for name in picture.nodes if depth[name] == level] for level in used]
    for above, layer in pairwise(layers):
        place = {name: index for index, name in enumerate(above)}
        middle = {name: _mean([place[a] for a, b in now if b == name and a in place], len(place)) for name in layer}
        layer.sort(key=middle.__getitem__)
    return layers


def _mean(places: Sequence[int], without: int) -> float:
    return sum(places) / len(places) if places else without


def _places(picture: Picture, layers: Sequence[Sequence[str]]) -> tuple[dict[str, _Box], float, float]:
    sizes = {
        name: (2 * PAD + CHARACTER * max(map(len, (name, *lines))), LINE * (1 + len(lines)) + PAD)
        for name, (_, lines) in picture.nodes.items()
    }
    spans = [sum(sizes[name][0] for name in layer) + GAP_X * (len(layer) - 1) for layer in layers]
    inner = max([*spans, CHARACTER * 1.3 * (len(picture.title) + 28)])
    boxes, y = dict[str, _Box](), 2.0 * MARGIN
    for layer, span in zip(layers, spans, strict=True):
        x, tallest = MARGIN + (inner - span) / 2, max(sizes[name][1] for name in layer)
        for name in layer:
            boxes[name] = _Box(x, y + (tallest - sizes[name][1]) / 2, *sizes[name])
            x += sizes[name][0] + GAP_X
        y += tallest + GAP_Y
    return boxes, inner + 2 * MARGIN + 2 * SIDE, y - GAP_Y + MARGIN


def _edge(a: _Box, b: _Box, late: bool, passes: int, lane: float) -> str:
    """To the layer below: a curve; past others, or back: along a lane at the side."""
    name = "late" if late else "now"
    tip = "late-tip" if late else "tip"
    if passes == 1:
        x0, y0, x1, y1 = a.x + a.width / 2, a.y + a.height, b.x + b.width / 2, b.y
        middle = (y0 + y1) / 2
        way = f"M{x0:.1f} {y0:.1f}C{x0:.1f} {middle:.1f} {x1:.1f} {middle:.1f} {x1:.1f} {y1:.1f}"
    else:
        y0, y1, x0, x1 = a.y + a.height * 0.65, b.y + b.height * 0.35, a.x + a.width, b.x + b.width
        way = f"M{x0:.1f} {y0:.1f}C{lane:.1f} {y0:.1f} {lane:.1f} {y0:.1f} {lane:.1f} {(y0 + y1) / 2:.1f}"
        way += f"C{lane:.1f} {y1:.1f} {lane:.1f} {y1:.1f} {x1:.1f} {y1:.1f}"
    return f'<path class="{name}" d="{way}" marker-end="url(#{tip})"/>'


def _box(box: _Box, name: str, role: str, lines: Sequence[str]) -> list[str]:
    center = box.x + box.width / 2
    size = f'width="{box.width:.1f}" height="{box.height:.1f}"'
    parts = [f'<rect class="{role}" x="{box.x:.1f}" y="{box.y:.1f}" {size} rx="5"/>']
    for number, line in enumerate((name, *lines)):
        kind = ' class="name"' if not number else ""
        parts.append(f'<text{kind} x="{center:.1f}" y="{box.y + LINE * (number + 1):.1f}">{escape(line)}</text>')
    return parts
