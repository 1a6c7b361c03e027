"""The teacher of a recipe: from its run folder, or around the module that was handed over."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from lavatube.errors import LavatubeError
from lavatube.train.datasets.dataset import Split
from lavatube.train.encoders import Encoder
from lavatube.train.networks.build import load_network
from lavatube.train.recipe import Recipe, list_recipes, parse_recipe
from lavatube.train.samples import EncodedData
from lavatube.train.teachers.kinds import ModuleTeacher, OnnxTeacher, RunTeacher
from lavatube.train.teachers.teacher import PlainTeacher, SpikingTeacher, Teacher
from lavatube.trained import load_trained

MEAN_IS_THE_IMAGE = ("direct", "rate")  # encoders: the mean of their events over time is the sample


def load_teacher(recipe: Recipe, data: EncodedData, module: nn.Module | None = None) -> Teacher | None:
    """None if the recipe has no teacher. module: of a teacher of kind `module` or `onnx`.

    raises: LavatubeError for a folder that is no finished run, a module that is missing or not asked for, or a teacher
    that does not fit the events, their encoder or the classes.
    """
    spec, where = recipe.teacher, f"teacher of recipe {recipe.name}"
    if isinstance(spec, RunTeacher):
        if module is not None:
            raise LavatubeError("a module beside a teacher's run folder", where=where, expected="no module")
        return _from_run(Path(spec.folder), recipe, data)
    if not isinstance(spec, ModuleTeacher):
        if module is not None:
            raise LavatubeError("a teacher that the recipe does not name", where=where, expected="teacher: module")
        return None
    if module is None:
        remedy = "in Python: train(recipe, teacher=module)"
        if isinstance(spec, OnnxTeacher):
            remedy = f"lavatube train reads it; in Python: train(recipe, teacher=read_onnx({spec.file!r}))"
        raise LavatubeError("no module was handed over", where=where, remedy=remedy)
    if recipe.encoder.kind not in MEAN_IS_THE_IMAGE and not data.dataset.is_sequence:
        raise _other_events(recipe.encoder, " or ".join(MEAN_IS_THE_IMAGE), where)
    whole = data.input_scale * ((1 << data.message_bits) - 1)
    return PlainTeacher(module, data.shape, data.classes, where, whole=whole, mean=spec.mean, std=spec.std)


def _from_run(folder: Path, recipe: Recipe, data: EncodedData) -> Teacher:
    if not (folder / "config.json").is_file():
        name = folder.name
        remedy = f"lavatube train {name if name in list_recipes() else 'TEACHER'} --out {folder}"
        if folder.exists():
            remedy = "name the folder of a finished run as teacher.folder"
        raise LavatubeError("no trained teacher", where=str(folder), expected="a finished run folder", remedy=remedy)
    trained = load_trained(folder)
    taught = parse_recipe(dict(trained.recipe), where=str(folder))
    means = taught.num_steps == 1 and {taught.encoder.kind, recipe.encoder.kind} <= set(MEAN_IS_THE_IMAGE)
    if taught.encoder != recipe.encoder and not means:
        raise _other_events(recipe.encoder, f"{taught.encoder.kind}, as the teacher's", str(folder))
    static = taught.encoder.kind in ("direct", "binary") and not data.dataset.is_sequence
    if taught.num_steps not in (1, recipe.num_steps) and not static:
        expected = f"1 or {recipe.num_steps} timesteps"
        raise LavatubeError(
            "a teacher of other timesteps", where=str(folder), expected=expected, got=str(taught.num_steps)
        )
    try:
        network = load_network(trained, data.shape, data.classes)
    except LavatubeError as error:  # which does not know that it is a teacher's
        expected = f"of samples {data.shape} and {data.classes} classes"
        raise LavatubeError(
            "a teacher of other samples or classes", where=str(folder), expected=expected, got=str(error)
        ) from error
    return SpikingTeacher(network, data.shape, data.classes, str(folder))


def _other_events(encoder: Encoder, expected: str, where: str) -> LavatubeError:
    return LavatubeError("a teacher of other events", where=where, expected=f"encoder {expected}", got=encoder.kind)


def teacher_accuracy(teacher: Teacher, data: EncodedData, split: Split, batch_size: int = 256) -> float:
    """In %, on what the network sees."""
    device = next((each.device for each in teacher.module.parameters()), torch.device("cpu"))
    correct = 0
    for events, labels in data.batches(split, batch_size, device):
        correct += int((teacher(data.as_floats(events)).logits.argmax(-1) == labels).sum())
    return 100.0 * correct / len(split.label)
