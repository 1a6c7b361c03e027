"""For mkdocs: links to the source tree, which the site does not hold, become plain names. A dead one is an error."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError

LINK = re.compile(r"\[([^\]]+)\]\(((?:\.\./)+[^)#]+)(?:#[^)]*)?\)")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    folder = Path(page.file.abs_src_path).parent
    docs = Path(__file__).parents[1]

    def plain(found: re.Match[str]) -> str:
        target = (folder / found[2]).resolve()
        if not target.exists():
            raise PluginError(f"{page.file.src_uri}: a link to {found[2]}, which is not there")
        return found[0] if target.is_relative_to(docs) else f"`{target.relative_to(docs.parent)}`"

    return LINK.sub(plain, markdown)
