"""The cores that hold the program."""

from __future__ import annotations

from base64 import b64encode

from markupsafe import Markup, escape

from lavatube.deploy.mapping.draw import draw
from lavatube.deploy.mapping.map_program import map_program
from lavatube.errors import LavatubeError
from lavatube.sim.report.artifacts import Artifacts
from lavatube.sim.report.parts import Missing, Picture, Section, Table, Words


def mapping(found: Artifacts) -> Section:
    if found.program is None:
        return Section(
            "mapping", "Mapping", [Missing("program.safetensors", f"lavatube lower {found.folder}/model.nir")]
        )
    try:
        cores = map_program(found.program)
    except LavatubeError as error:
        return Section("mapping", "Mapping", [Words(f"It does not fit: {error}", "bad")])
    rows = []
    for name in cores.populations:
        held = [core for core in cores.cores if core.population == name]
        bound, full = max((core.closest(cores.limits) for core in held), key=lambda one: one[1])
        rows.append((name, bound, len(held), f"{full:.0%}"))
    said = f"{len(cores.cores)} cores on {cores.chips} chip{'s' * (cores.chips != 1)} of {cores.limits.chip}"
    table = Table(said, ("population", "closest limit", "cores", "how full"), rows, left=2)
    return Section("mapping", "Mapping", [Words(f"{said}."), Picture(said, _image(draw(cores), said), table)])


def _image(svg: str, said: str) -> Markup:
    """The drawing as an image: its own style stays its own."""
    data = b64encode(svg.encode()).decode()
    return Markup(f'<img class="drawing" alt="{escape(said)}" src="data:image/svg+xml;base64,{data}">')
