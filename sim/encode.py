"""New samples -> events of the program in a folder, by the encoder that its network was trained or quantized with."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lavatube.errors import LavatubeError
from lavatube.files import refuse_same_file, require_writable_file
from lavatube.inputs import InputBatch, load_inputs, make_inputs, save_inputs
from lavatube.program import InputNode
from lavatube.program_file import load_program
from lavatube.sim.input_parts import mapped
from lavatube.sim.parity_samples import is_post_training
from lavatube.sim.run import program_path
from lavatube.trained import load_quantized

SAMPLE_BITS = 8  # of a data set's samples
IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".pgm", ".ppm")


def encode(
    folder: Path | str, samples: np.ndarray | Path | str, *, steps: int | None = None, out: Path | str | None = None
) -> InputBatch:
    """Events for `run`, `energy` and `parity`; written as X.npz to `out` if given.

    folder:  a run folder with quantized.safetensors, or one of `quantize FILE.nir`.
    samples: [B, ...] static or [T, B, ...] sequences; X.npy, or X.npz with `input` and, if known, `label` and
             `length`; of a run folder also an image, or a folder of images in order of their names.
             Of a run folder they are 8-bit values as in the data set that it was trained on (0..255; of images the grey
             values or RGB), of a folder of `quantize FILE.nir` real numbers in that file's units.
    steps:   of static samples, or so many of sequences; default: all of a sequence, of static samples the recipe's, of
             `quantize FILE.nir` the program's.

    What an encoder draws at random depends only on a sample's place, as in `lavatube parity`.
    raises:  LavatubeError for a folder without an encoder, another shape, NaN, values that the encoding does not reach,
             or sequences where the encoder takes static samples, and the other way round.
    """
    folder = Path(folder)
    refuse_same_file(input=samples, out=out)
    if out is not None:
        if Path(out).suffix != ".npz":
            raise LavatubeError("--out", where=str(out), expected="a file X.npz", got=Path(out).suffix or "no suffix")
        require_writable_file(Path(out))
    if not folder.is_dir():
        expected = "a run folder with quantized.safetensors, or one of `lavatube quantize FILE.nir`"
        raise LavatubeError("no encoder here", where=str(folder), expected=expected)
    batch = _of_floats(folder, samples, steps) if is_post_training(folder) else _of_run(folder, samples, steps)
    if out is not None:
        save_inputs(batch, Path(out), whole=steps is not None)
    return batch


def _of_floats(folder: Path, samples: np.ndarray | Path | str, steps: int | None) -> InputBatch:
    from lavatube.deploy.lower_float import encoded_samples

    program = load_program(program_path(folder))
    data = samples if isinstance(samples, np.ndarray) else Path(samples)
    if isinstance(data, Path):
        data = np.asarray(mapped(data)) if data.suffix == ".npy" else data
    return encoded_samples(program, folder / "float.nir", data, steps, default=program.num_steps)


def _of_run(folder: Path, samples: np.ndarray | Path | str, steps: int | None) -> InputBatch:
    from lavatube.train.datasets.dataset import Dataset, Split
    from lavatube.train.recipe import parse_recipe
    from lavatube.train.samples import EncodedData

    network = load_quantized(folder / "quantized.safetensors")
    recipe, layout = parse_recipe(dict(network.recipe), where=str(folder)), network.layout["input"]
    encoder, shape = recipe.encoder, tuple(int(size) for size in layout["shape"])
    node = InputNode("input", encoder.in_shape(shape), SAMPLE_BITS)
    given = _samples(samples, node, recipe.num_steps, steps)
    where = "samples" if isinstance(samples, np.ndarray) else str(samples)
    is_sequence = given.events.strides[0] != 0
    if not (encoder.for_sequences if is_sequence else encoder.for_static):
        sizes = ", ".join(map(str, node.shape))
        wanted = f"static samples [B, {sizes}]" if is_sequence else f"sequences [T, B, {sizes}]"
        raise LavatubeError(
            f"encoder {encoder.kind}", where=where, expected=wanted, got=str(_shape(given, is_sequence))
        )
    values = given.events.swapaxes(0, 1) if is_sequence else given.events[0]
    label = np.zeros(given.batch, np.int64) if given.label is None else given.label
    split = Split(np.ascontiguousarray(values, np.uint8), label)
    data = EncodedData(Dataset("given", int(label.max()) + 1, is_sequence, *(split,) * 3), encoder, given.num_steps)
    into = InputNode("input", shape, layout["message_bits"])
    return make_inputs(
        data.events(split), into, default_steps=given.num_steps, length=given.length, label=given.label, where=where
    )


def _shape(given: InputBatch, is_sequence: bool) -> tuple[int, ...]:
    return given.events.shape if is_sequence else given.events.shape[1:]


def _samples(samples: np.ndarray | Path | str, node: InputNode, default: int, steps: int | None) -> InputBatch:
    """8-bit samples by their one name; what is static has a stride of 0 over T."""
    if isinstance(samples, np.ndarray):
        return make_inputs(samples, node, default_steps=default, steps=steps, where="samples")
    path = Path(samples)
    if path.is_dir() or path.suffix.lower() in IMAGES:
        return make_inputs(_images(path, node.shape), node, default_steps=default, steps=steps, where=str(path))
    if path.suffix == ".npy":
        return make_inputs(np.asarray(mapped(path)), node, default_steps=default, steps=steps, where=str(path))
    return load_inputs(path, node, default_steps=default, steps=steps)


def _images(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """[B, C, H, W] uint8 of one image or of those in a folder: grey for one channel, RGB for three, as they are."""
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in IMAGES) if path.is_dir() else [path]
    if not files:
        raise LavatubeError("no images in this folder", where=str(path), expected=", ".join(IMAGES))
    if len(shape) != 3 or shape[0] not in (1, 3):
        expected = "a network that sees images of 1 or 3 channels"
        raise LavatubeError("images", where=str(path), expected=expected, got=str(shape))
    try:
        from PIL import Image
    except ImportError as error:
        raise LavatubeError("images need the package pillow", got=str(error), remedy="pip install pillow") from error
    found = []
    for file in files:
        try:
            with Image.open(file) as opened:
                values = np.asarray(opened.convert("L" if shape[0] == 1 else "RGB"), np.uint8)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise LavatubeError("not a readable image", where=str(file), got=str(error)[:200]) from error
        values = values[None] if shape[0] == 1 else values.transpose(2, 0, 1)
        if values.shape != shape:
            sizes, got = (f"{each[2]} x {each[1]} pixels" for each in (shape, values.shape))
            raise LavatubeError("image of another size", where=str(file), expected=sizes, got=got, remedy="resize it")
        found.append(values)
    return np.stack(found)
