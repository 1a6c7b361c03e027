"""A CoreMap as SVG: every core of every chip in its tile, coloured by how full it is."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from pathlib import Path

from lavatube.deploy.mapping.core_map import Core, CoreMap
from lavatube.deploy.mapping.limits import PER_CORE
from lavatube.files import whole_file

CORE, GAP, TILE_GAP, MARGIN, LINE = 30, 2, 8, 16, 18  # pixels
CHIPS_DRAWN = 32
RAMP = ("#e3eefb", "#b6d3f2", "#7fb0e3", "#3a76b5", "#1f5a9c", "#0b3566")  # light to dark; legible on both grounds
STYLE = """
  svg { background: #fff; color-scheme: light dark }
  text { font: 12px system-ui, sans-serif; fill: #1b1f24 }
  .head { font-weight: 600; font-size: 14px }
  .small { font-size: 10px; text-anchor: middle; dominant-baseline: central }
  .light { fill: #10243a } .dark { fill: #fff }
  .core { stroke: #7a8794 } .empty { fill: none; stroke: #c3cad2 }
  @media (prefers-color-scheme: dark) {
    svg { background: #14181d }
    text { fill: #e6e9ed }
    .light { fill: #10243a } .dark { fill: #fff }
    .empty { stroke: #454e58 }
  }
"""


def draw(mapping: CoreMap) -> str:
    """The SVG text. A core shows its population's number and how full its closest limit is, in percent."""
    columns, rows = mapping.limits["tile_columns"], mapping.limits["tile_rows"]
    side = _tile_side(mapping)
    tile = side * (CORE + GAP) + TILE_GAP
    chip_height = rows * tile + 2 * LINE
    drawn = min(mapping.chips, CHIPS_DRAWN)
    legend = [_legend_row(mapping, number, name) for number, name in enumerate(mapping.populations, 1)]
    width = max(columns * tile + 2 * MARGIN, 620)
    height = 2 * MARGIN + drawn * chip_height + (len(legend) + 4) * LINE
    title = f"{len(mapping.cores)} cores on {mapping.limits.chip}, {mapping.chips} chip{'s' * (mapping.chips != 1)}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-labelledby="title desc" '
        f'width="{width}" height="{height}" viewBox="0 0 {width} {height}">',
        f'<title id="title">{escape(title)}</title>',
        f'<desc id="desc">{escape("; ".join(legend))}</desc>',
        f"<style>{STYLE}</style>",
    ]
    for chip in range(drawn):
        top = MARGIN + chip * chip_height
        inside = [core for core in mapping.cores if core.index // mapping.limits["cores"] == chip]
        label = f"chip {chip}: {len(inside)} of {mapping.limits['cores']} cores"
        parts.append(f'<text class="head" x="{MARGIN}" y="{top + LINE - 4}">{label}</text>')
        parts += _cores(mapping, chip, inside, top + LINE + 4, tile, side)
    y = MARGIN + drawn * chip_height
    parts += _scale(y)
    more = [] if drawn == mapping.chips else [f"{mapping.chips - drawn} more chips are not drawn"]
    for line, text in enumerate([*more, *legend]):
        parts.append(f'<text x="{MARGIN}" y="{y + (line + 3) * LINE}">{escape(text)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def save_drawing(mapping: CoreMap, path: Path) -> None:
    """Write the SVG file."""
    with whole_file(path) as temporary:
        temporary.write_text(draw(mapping), encoding="utf-8")


def _tile_side(mapping: CoreMap) -> int:
    """Cores of a tile lie in a square."""
    side = 1
    while side * side < mapping.limits["cores_per_tile"]:
        side += 1
    return side


def _cores(mapping: CoreMap, chip: int, inside: list[Core], top: int, tile: int, side: int) -> Iterator[str]:
    """Used cores, then empty ones."""
    first = chip * mapping.limits["cores"]
    numbers = {name: number for number, name in enumerate(mapping.populations, 1)}
    used = {core.index: core for core in inside}
    for index in range(first, first + mapping.limits["cores"]):
        _, tile_x, tile_y = mapping.position(index)
        row, column = divmod((index - first) % mapping.limits["cores_per_tile"], side)
        x = MARGIN + tile_x * tile + column * (CORE + GAP)
        y = top + tile_y * tile + row * (CORE + GAP)
        box = f'x="{x}" y="{y}" width="{CORE}" height="{CORE}" rx="3"'
        core = used.get(index)
        if core is None:
            yield f'<rect class="empty" {box}/>'
            continue
        _, full = core.closest(mapping.limits)
        shade = min(int(full * len(RAMP)), len(RAMP) - 1)
        tone = "dark" if shade >= len(RAMP) // 2 else "light"
        told = f"core {index}, {core.population}: {_loads(mapping, core)}"
        middle = x + CORE // 2
        yield (
            f'<g><title>{escape(told)}</title><rect class="core" fill="{RAMP[shade]}" {box}/>'
            f'<text class="small {tone}" x="{middle}" y="{y + 10}">{numbers[core.population]}</text>'
            f'<text class="small {tone}" x="{middle}" y="{y + 21}">{full:.0%}</text></g>'
        )


def _loads(mapping: CoreMap, core: Core) -> str:
    return ", ".join(
        f"{PER_CORE[limit.key]} {core.loads[limit.key]:,} of {limit.value:,}" for limit in mapping.limits.per_core
    )


def _legend_row(mapping: CoreMap, number: int, name: str) -> str:
    cores = [core for core in mapping.cores if core.population == name]
    bound, full = max((core.closest(mapping.limits) for core in cores), key=lambda found: found[1])
    count = "1 core" if len(cores) == 1 else f"{len(cores)} cores"
    return f"{number} {name}: {count}, {PER_CORE[bound]} {full:.0%}"


def _scale(y: int) -> Iterator[str]:
    yield f'<text x="{MARGIN}" y="{y + LINE - 4}">closest limit of a core, 0 %</text>'
    for step, colour in enumerate(RAMP):
        yield f'<rect class="core" fill="{colour}" x="{MARGIN + 170 + step * 24}" y="{y + 2}" width="24" height="14"/>'
    yield f'<text x="{MARGIN + 176 + len(RAMP) * 24}" y="{y + LINE - 4}">100 %</text>'
