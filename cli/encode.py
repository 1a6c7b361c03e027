"""lavatube encode"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lavatube.cli.options import Json


def encode(
    source: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="A run folder with quantized.safetensors, or one of `quantize FILE.nir`."),
    ],
    inputs: Annotated[
        Path,
        typer.Option(
            "--input",
            help="Samples: X.npy, X.npz with `input` [B, ...] or [T, B, ...] (and `label`, `length`), an image or a "
            "folder of images. Of a run folder 0..255 as in its data set; of `quantize FILE.nir` in that file's units.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="X.npz to write, for run, energy and parity.")] = Path("input.npz"),
    steps: Annotated[
        int | None,
        typer.Option(
            "--steps", min=1, help="Timesteps: of static samples (default: the network's), of sequences the first ones."
        ),
    ] = None,
    json: Json = False,
) -> int:
    """Turn new samples into the events of a program, by the encoder that its network was made with."""
    from lavatube.cli.output import print_json
    from lavatube.sim.encode import encode as encode_samples

    batch = encode_samples(source, inputs, steps=steps, out=out)
    shapes = {name: list(events.shape) for name, events in batch.by_name.items()}
    if json:
        events = {name: int((values > 0).sum()) for name, values in batch.by_name.items()}
        print_json(
            {"input": str(out), "samples": batch.batch, "steps": batch.num_steps, "shapes": shapes, "events": events}
        )
        return 0
    print(f"wrote {out}: {batch.batch} samples x {batch.num_steps} timesteps")
    for name, values in batch.by_name.items():
        print(f"  {name}: {int((values > 0).sum()):,} events, at most {int(values.max())}")
    return 0
