"""lavatube quantize"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lavatube.cli.options import DataDir, Device, Json, Overwrite


def quantize(
    source: Annotated[Path, typer.Argument(metavar="DIR", help="A run folder made by `lavatube train`.")],
    out: Annotated[Path | None, typer.Option("--out", help="Folder for quantized.safetensors; default DIR.")] = None,
    weight_bits: Annotated[int, typer.Option("--weight-bits", help="2..8, signed.")] = 8,
    headroom: Annotated[
        float,
        typer.Option(
            "--headroom", help="Share of the registers' proven range to use; the rest is left to fine-tuning."
        ),
    ] = 0.85,
    epochs: Annotated[int, typer.Option("--epochs", help="Epochs of quantization-aware fine-tuning.")] = 8,
    data: Annotated[str | None, typer.Option("--data", help="Data set; default: the one it was trained on.")] = None,
    device: Device = "cpu",
    data_dir: DataDir = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> int:
    """Fold batch norm, choose Loihi's registers, and fine-tune with a forward that is the integer timestep itself."""
    from lavatube.cli.output import print_json, progress_bar, say
    from lavatube.convert.quantize import quantize as quantize_run

    folder = out or source
    with progress_bar("fine-tuning") as update:
        network = quantize_run(
            source, out=folder, weight_bits=weight_bits, headroom=headroom, epochs=epochs, data=data, device=device,
            data_dir=data_dir, overwrite=overwrite, progress=update,
        )  # fmt: skip
    say(f"wrote {folder / 'quantized.safetensors'}")
    if json:
        print_json({"folder": str(folder), "metrics": dict(network.metrics), "lossy": [dict(r) for r in network.lossy]})
        return 0
    for name, value in network.metrics.items():
        print(f"{name}: {value}")
    for record in network.lossy:
        print("lossy: " + ", ".join(f"{key} {value}" for key, value in record.items()))
    return 0
