"""For mkdocstrings: the fields of our docstrings (`name:  what it is`, with hanging lines) become a list."""

from __future__ import annotations

import re
from typing import Any

import griffe

FIELD = re.compile(r"(?P<name>[a-z_][\w, ]*):\s+(?P<text>\S.*)")


class DocstringFields(griffe.Extension):
    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = "\n\n".join(map(listed, obj.docstring.value.split("\n\n")))


def listed(paragraph: str) -> str:
    """A paragraph as it is, or as a list if its first line is a field. Several fields of a line stay together."""
    lines = paragraph.splitlines()
    if not lines or not FIELD.fullmatch(lines[0]):
        return paragraph
    rows: list[str] = []
    for line in lines:
        found = FIELD.fullmatch(line)
        if found:
            names = ", ".join(f"`{name.strip()}`" for name in found["name"].split(","))
            rows.append(f"- {names}: {found['text']}")
        else:
            rows.append(f"  {line.strip()}")
    return "\n".join(rows)
