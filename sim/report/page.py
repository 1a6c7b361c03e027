"""lavatube report: one self-contained HTML file from the artifacts of a folder."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from lavatube.errors import LavatubeError
from lavatube.files import require_writable_file, whole_file
from lavatube.sim.report.artifacts import Artifacts, load_artifacts
from lavatube.sim.report.parts import Section
from lavatube.sim.report.sections.accuracy import accuracy
from lavatube.sim.report.sections.activity import activity
from lavatube.sim.report.sections.energy import energy
from lavatube.sim.report.sections.identity import identity
from lavatube.sim.report.sections.lossy import lossy
from lavatube.sim.report.sections.mapping import mapping
from lavatube.sim.report.sections.membrane import membrane
from lavatube.sim.report.sections.mismatch import mismatch
from lavatube.sim.report.sections.network import network
from lavatube.sim.report.sections.parity import parity
from lavatube.sim.report.sections.training import training
from lavatube.sim.report.watched import watch

TEMPLATES = Path(__file__).parent / "templates"


def report(folder: Path | str, *, out: Path | str | None = None, data_dir: Path | None = None) -> Path:
    """Write report.html into the folder, or to `out`; return its path.

    It is made from whatever artifacts are there, of which missing ones are named with the command that makes them. A
    few samples are run with the fast engine and the reference, where the folder has samples or its data are at hand.
    raises: LavatubeError if there is no such folder, nothing of lavatube in it, or the page cannot be written.
    """
    path = Path(out) if out is not None else Path(folder) / "report.html"
    if Path(folder).is_dir():
        require_writable_file(path)
    found = load_artifacts(Path(folder), data_dir)
    page = render(found, sections_of(found))
    with whole_file(path) as temporary:
        temporary.write_text(page, encoding="utf-8", errors="backslashreplace")
    return path


def sections_of(found: Artifacts) -> list[Section]:
    """In the order of the page; it opens on the mismatch where there is one."""
    try:
        watched = watch(found)
    except LavatubeError as error:
        trouble = f"the samples of this page could not be run: {error}"
        watched, found = None, replace(found, troubles=(*found.troubles, trouble))
    makers: tuple[Callable[[], Section | None], ...] = (
        lambda: mismatch(found),
        lambda: identity(found),
        lambda: parity(found),
        lambda: accuracy(found, watched),
        lambda: network(found),
        lambda: activity(found, watched),
        lambda: membrane(found, watched),
        lambda: energy(found),
        lambda: mapping(found),
        lambda: lossy(found),
        lambda: training(found),
    )
    try:
        made = [make() for make in makers]
    except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError) as error:
        raise LavatubeError(
            "an artifact is not of the form that this version writes", where=str(found.folder), got=repr(error),
            remedy="make parity.json, counts.json and energy.json again",
        ) from error  # fmt: skip
    return [section for section in made if section is not None]


def render(found: Artifacts, sections: Sequence[Section]) -> str:
    """The page. Its policy allows no address at all, and only the script that is in it."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    style, script = (_text(name) for name in ("style.css", "script.js"))
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    equal = None if found.parity is None else bool(found.parity["equal"])
    return environment.get_template("page.html").render(
        name=found.folder.resolve().name,
        sha256=found.sha256,
        equal=equal,
        sections=sections,
        style=style,
        script=script,
        script_hash=b64encode(sha256(script.encode()).digest()).decode(),
    )


def _text(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")
