"""Samples to compare engines on."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lavatube.deploy.lower_float import EVENTS
from lavatube.errors import LavatubeError
from lavatube.inputs import InputBatch, load_inputs, make_inputs
from lavatube.program import LoihiProgram
from lavatube.sim.lava_parts import connection_steps
from lavatube.trained import load_quantized

LAVA_STEPS = 2e11  # connections x timesteps x samples that parity runs in Lava, unless told how many samples: minutes


def lava_takes_every(program: LoihiProgram, steps: int, length: np.ndarray) -> int:
    """k: of a set of samples Lava takes each k-th, 1 up to LAVA_STEPS connection-steps. length: [B] timesteps; of the
    samples that are taken some have any.
    """
    every = max(1, -(-int(connection_steps(program, steps, len(length))) // int(LAVA_STEPS)))
    while every > 1 and not length[::every].any():
        every -= 1
    return every


def sampled_words(samples: int, every: int) -> str:
    """For the report: which samples an engine took, "" for all of them."""
    if every == 1:
        return ""
    few = len(range(0, samples, every))
    return f"on {few:,} of {samples:,} samples, one in {every}: all are above {LAVA_STEPS:g} connection-steps"


def is_post_training(folder: Path) -> bool:
    """Whether `quantize FILE.nir` made a folder: it has no checkpoint."""
    return (folder / "float.nir").is_file() and not (folder / "quantized.safetensors").is_file()


def samples_for(
    program: LoihiProgram,
    folder: Path | None,
    data: str | Path | None = None,
    data_dir: Path | None = None,
    count: int | None = None,
) -> InputBatch:
    """Samples to compare on: X.npz, a data set's test split, or the test split that a run folder was trained beside.

    By default for a folder of `quantize FILE.nir` its calibration data.
    count: only the first so many. A data set goes through the encoder of the run folder's recipe; a program alone does
    not know its encoder, so there it is `direct`.
    """
    if data is None and folder is not None and is_post_training(folder):
        data = folder / EVENTS
        if not data.is_file():
            remedy = "give --data X.npz with events of the program, or quantize with --data"
            raise LavatubeError("no samples", where=str(folder), expected=EVENTS, remedy=remedy)
    if data is not None and (str(data).endswith(".npz") or Path(data).is_file()):
        batch = load_inputs(Path(data), program.inputs, default_steps=program.num_steps)
        return batch if count is None else batch.samples(count)
    from lavatube.train.datasets.catalog import load_data
    from lavatube.train.encoders import Direct
    from lavatube.train.recipe import Data, parse_recipe
    from lavatube.train.samples import EncodedData, prepare

    if folder is not None:
        recipe = parse_recipe(dict(load_quantized(folder / "quantized.safetensors").recipe), where=str(folder))
        if data is not None:
            recipe = recipe.model_copy(update={"data": Data(name=str(data))})
        encoded = prepare(recipe, data_dir)
    elif data is not None:
        encoded = EncodedData(load_data(str(data), data_dir, num_steps=program.num_steps), Direct(), program.num_steps)
    else:
        raise LavatubeError("no samples", where="parity", expected="--data NAME or --data X.npz")
    split = encoded.dataset.test
    return make_inputs(
        encoded.events(split, count),
        program.input,
        default_steps=program.num_steps,
        label=split.label[:count],
        where=f"data {encoded.dataset.name}",
    )
