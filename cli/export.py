"""lavatube export"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lavatube.cli.options import Json


def export(
    source: Annotated[Path, typer.Argument(metavar="DIR", help="A run folder with quantized.safetensors.")],
    nir: Annotated[Path | None, typer.Option("--nir", help="File to write; default DIR/model.nir.")] = None,
    json: Json = False,
) -> int:
    """Write the quantized network as plain NIR, with its integers in the metadata."""
    from lavatube.cli.output import print_json
    from lavatube.convert.export import export as export_network

    graph = export_network(source, nir_path=nir)
    path = nir or source / "model.nir"
    if json:
        print_json({"nir": str(path), "nodes": {name: type(node).__name__ for name, node in graph.nodes.items()}})
    else:
        print(f"wrote {path}: " + " -> ".join(f"{name} ({type(node).__name__})" for name, node in graph.nodes.items()))
    return 0
