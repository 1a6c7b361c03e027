"""Who teaches: a recipe's `teacher`. Not a method but a resource: frozen, and nothing of it is exported."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from lavatube.train.recipe_model import Number, Strict


class TeacherSpec(Strict):
    """A row of TEACHERS."""

    kind: str


class RunTeacher(TeacherSpec):
    """A network that `lavatube train` made, of spikes or, with one timestep and graded outputs, without.

    folder: of the finished run. It gets the events of the network itself, so it was trained with the same encoder; one
    of a single timestep gets their mean over time.
    Features: stages and populations by name, mean over time.
    """

    kind: Literal["run"] = "run"
    folder: str


class ModuleTeacher(TeacherSpec):
    """A torch module that is handed to `lavatube.train.run.train(recipe, teacher=module)`.

    It gets (x - mean) / std, x the mean of the events over time with the largest event as 1 (as torchvision's ToTensor
    gives pixels); mean, std: one number, or one per channel. It returns logits [B, classes].
    Features: the outputs of its submodules by name; of one that runs several times, the last.
    """

    kind: Literal["module"] = "module"
    mean: Annotated[list[Number], Field(min_length=1)] = Field(default_factory=lambda: [0.0])
    std: Annotated[list[Annotated[Number, Field(gt=0)]], Field(min_length=1)] = Field(default_factory=lambda: [1.0])


class OnnxTeacher(ModuleTeacher):
    """A feed-forward network from an ONNX file, as `lavatube.convert.from_onnx.read_onnx` reads it.

    file: `lavatube train` reads it; from Python, read it and hand it to `train`.
    """

    kind: Literal["onnx"] = "onnx"  # type: ignore[assignment]
    file: str


TEACHERS: tuple[type[Strict], ...] = (RunTeacher, OnnxTeacher, ModuleTeacher)
