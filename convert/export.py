"""A quantized checkpoint -> model.nir."""

from __future__ import annotations

from pathlib import Path

import nir

from lavatube.convert.lineage import refuse_stale
from lavatube.convert.to_nir import export_nir
from lavatube.errors import LavatubeError
from lavatube.files import sha256_of_file
from lavatube.program import InputNode
from lavatube.trained import QuantizedNetwork, load_quantized


def export(source: Path | str | QuantizedNetwork, *, nir_path: Path | str | None = None) -> nir.NIRGraph:
    """Export a run folder, a quantized.safetensors or a QuantizedNetwork to NIR.

    nir_path: defaults to model.nir in the run folder.
    raises:   LavatubeError if there is no quantized network, it is not of the model beside it, or no place to write.
    """
    from lavatube.train.quantized import QuantizedModule

    source_sha256 = ""
    if isinstance(source, QuantizedNetwork):
        network = source
    else:
        path = Path(source)
        if path.is_dir():
            refuse_stale(path, ["quantized.safetensors"])
            nir_path = nir_path or path / "model.nir"
            path = path / "quantized.safetensors"
        network = load_quantized(path)
        source_sha256 = sha256_of_file(path)
    if nir_path is None:
        raise LavatubeError("no file to write to", where="export", remedy="give --nir FILE")
    module = QuantizedModule(network.layout, network.tensors)
    layout, layers = module.layout, module.integer_layers()
    node = InputNode("input", tuple(layout["input"]["shape"]), layout["input"]["message_bits"])
    method = network.recipe.get("gradient", {}).get("kind", "unknown")
    return export_nir(
        layers,
        node,
        Path(nir_path),
        num_steps=layout["num_steps"],
        method=method,
        lossy=network.lossy,
        source_sha256=source_sha256,
    )
