"""lavatube quantize"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lavatube.cli.options import DataDir, Device, Json, Overwrite


def quantize(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="DIR|FILE.nir|FILE.onnx",
            help="A run folder of `lavatube train`, another platform's NIR, or an artificial network to convert.",
        ),
    ],
    out: Annotated[Path | None, typer.Option("--out", help="Folder for what is made; default DIR.")] = None,
    weight_bits: Annotated[int, typer.Option("--weight-bits", help="2..8, signed.")] = 8,
    headroom: Annotated[
        float,
        typer.Option(
            "--headroom", help="Share of the registers' proven range to use; the rest is left to fine-tuning."
        ),
    ] = 0.85,
    epochs: Annotated[int, typer.Option("--epochs", help="Epochs of quantization-aware fine-tuning.")] = 8,
    teach: Annotated[
        str,
        typer.Option("--teach", help="Fine-tuning learns the labels; or float: each layer the float network's rates."),
    ] = "labels",
    data: Annotated[
        str | None,
        typer.Option("--data", help="Data set (default: the one it was trained on); for FILE.nir X.npz in its units."),
    ] = None,
    contract: Annotated[
        str | None, typer.Option("--contract", metavar="NAME[,FIELD=VALUE]", help="How FILE.nir is stepped.")
    ] = None,
    dt: Annotated[float | None, typer.Option("--dt", help="Timestep of FILE.nir in seconds.")] = None,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Timesteps of static data for FILE.nir.")] = None,
    num_steps: Annotated[
        int | None, typer.Option("--num-steps", min=1, help="Timesteps that the program of a file is made for.")
    ] = None,
    input_bits: Annotated[int | None, typer.Option("--input-bits", min=1, help="Of FILE.nir's input.")] = None,
    target: Annotated[str, typer.Option("--target", help="loihi1 or loihi2.")] = "loihi2",
    overflow: Annotated[str, typer.Option("--overflow", help="Of FILE.nir: strict or hardware.")] = "strict",
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse a FILE.nir whose contract the program does not compute.")
    ] = False,
    device: Device = "cpu",
    data_dir: DataDir = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> int:
    """Fold batch norm, choose Loihi's registers, and fine-tune with a forward that is the integer timestep itself."""
    from lavatube.cli.lossy_table import print_lossy
    from lavatube.cli.output import print_json, print_metrics, progress_bar, say
    from lavatube.errors import LavatubeError

    if source.suffix == ".nir" and not source.is_dir():
        from lavatube.cli.quantize_nir import quantize_nir

        given = {"contract": contract, "dt": dt, "data": data, "steps": steps, "num_steps": num_steps,
                 "input_bits": input_bits, "target": target, "overflow": overflow, "strict": strict}  # fmt: skip
        return quantize_nir(source, out, overwrite, json, weight_bits=weight_bits, **given)
    is_onnx = source.suffix == ".onnx" and not source.is_dir()
    of_nir = any(value is not None for value in (contract, dt, steps, input_bits))
    if of_nir or strict or overflow != "strict" or (num_steps and not is_onnx):
        what = "--contract, --dt, --steps, --num-steps, --input-bits, --overflow, --strict: for a .nir file"
        what += " (--num-steps also for a .onnx file)"
        raise LavatubeError(what, where=str(source), remedy="leave it out")
    from lavatube.convert.quantize import quantize as quantize_run

    folder = out or source
    if is_onnx:
        from lavatube.convert.from_ann import convert_onnx

        if out is None or data is None:
            what, expected = "a network to convert", "--data, what it classifies, and --out, a run folder"
            raise LavatubeError(what, where=str(source), expected=expected)
        convert_onnx(source, data=data, num_steps=num_steps or 8, out=out, data_dir=data_dir, overwrite=overwrite)
        source = out
    with progress_bar("fine-tuning") as update:
        network = quantize_run(
            source, out=folder, weight_bits=weight_bits, headroom=headroom, epochs=epochs, teach=teach, data=data,
            target=target, device=device, data_dir=data_dir, overwrite=overwrite, progress=update,
        )  # fmt: skip
    say(f"wrote {folder / 'quantized.safetensors'}")
    if json:
        print_json({"folder": str(folder), "metrics": dict(network.metrics), "lossy": [dict(r) for r in network.lossy]})
        return 0
    print_metrics(network.metrics)
    print_lossy(network.lossy)
    return 0
