"""What a section is made of. The template turns each into HTML, with everything escaped there or in `pictures`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from markupsafe import Markup


@dataclass(frozen=True)
class Words:
    """A paragraph. tone: plain, or a verdict that is coloured and marked by a word, too."""

    kind: ClassVar[str] = "words"
    text: str
    tone: Literal["plain", "good", "bad", "note"] = "plain"


@dataclass(frozen=True)
class Table:
    """left: columns of text, from the left; the others are numbers. bad: rows that are wrong."""

    kind: ClassVar[str] = "table"
    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[object]]
    left: int = 1
    bad: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Picture:
    """svg: with a title and a description of its own. table: the same for who does not see it.

    series: (class, name) of what can be hidden.
    """

    kind: ClassVar[str] = "picture"
    title: str
    svg: Markup
    table: Table | None = None
    series: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class Choice:
    """One of several panels is shown, by a menu; without scripts all are."""

    kind: ClassVar[str] = "choice"
    label: str
    panels: Sequence[tuple[str, Sequence[Part]]]


@dataclass(frozen=True)
class Folded:
    """Parts that are shown on demand."""

    kind: ClassVar[str] = "folded"
    title: str
    parts: Sequence[Part]


@dataclass(frozen=True)
class Missing:
    """What is not there, and the command that makes it."""

    kind: ClassVar[str] = "missing"
    what: str
    command: str


Part = Words | Table | Picture | Choice | Folded | Missing


@dataclass(frozen=True)
class Section:
    """name: its anchor."""

    name: str
    title: str
    parts: Sequence[Part] = field(default_factory=tuple)
