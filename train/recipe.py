"""A recipe: what to train, on what, how. Pydantic models; an unknown key or a wrong type is an error."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from lavatube.targets import with_combined
from lavatube.train.augment import Augment
from lavatube.train.composition import refusal
from lavatube.train.encoders import Direct, Encoder
from lavatube.train.extension_points import (
    ARCHITECTURES,
    ENCODERS,
    ESTIMATORS,
    EXTENSION_POINTS,
    GRADIENTS,
    SPARSITY,
    TERMS,
    WEIGHTS,
)
from lavatube.train.gradients.rate import RateBased
from lavatube.train.gradients.rule import GradientRule
from lavatube.train.networks.chain import LAYER_KINDS
from lavatube.train.networks.network import Architecture
from lavatube.train.neuron import NeuronSpec
from lavatube.train.norms.estimators import Estimator, Pooled
from lavatube.train.objectives.cross_entropy import CrossEntropy
from lavatube.train.objectives.term import Term
from lavatube.train.plugin import Plugin
from lavatube.train.recipe_file import list_recipes, parse, read_recipe_file
from lavatube.train.recipe_model import Natural, Number, OneOf, Positive, Strict, kind_of
from lavatube.train.sparsity.sparsity import Sparsity
from lavatube.train.teachers.kinds import TEACHERS, TeacherSpec
from lavatube.train.weights.rule import WeightRule


class Data(Augment):
    """A data set by name, and how its training images change at random."""

    name: str


class Optimizer(Strict):
    """lr: of the first epoch after warm-up; schedule: over the epochs. step: lr x step_factor every step_epochs epochs.

    warmup_epochs: lr rises linearly over them. clip_norm: largest norm of the whole gradient, null for any.
    """

    name: Literal["adam", "sgd"] = "adam"
    lr: Annotated[Number, Field(gt=0)]
    weight_decay: Annotated[Number, Field(ge=0)] = 0.0
    epochs: Positive
    batch_size: Positive
    schedule: Literal["cosine", "constant", "step"] = "cosine"
    step_epochs: Positive = 30
    step_factor: Annotated[Number, Field(gt=0, le=1)] = 0.1
    warmup_epochs: Natural = 0
    clip_norm: Annotated[Number, Field(gt=0)] | None = None


def _only_labels() -> list[Term]:
    return [CrossEntropy()]


class Expected(Strict):
    """What the recipe should reach: accuracy in %, and where that number comes from. run_here: else by others only."""

    test_accuracy: Annotated[Number, Field(ge=0, le=100)]
    source: str
    run_here: bool = True


class Recipe(Strict):
    """A complete training run; `model_dump(mode="json")` is the resolved recipe that the artifacts carry."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] = 0
    num_steps: Positive
    data: Data
    encoder: Annotated[Encoder, OneOf(ENCODERS)] = Direct()
    network: Annotated[Architecture, OneOf(ARCHITECTURES)]
    normalization: Annotated[Estimator, OneOf(ESTIMATORS)] | None = Pooled()
    neuron: NeuronSpec
    weight: Annotated[WeightRule, OneOf(WEIGHTS)] | None = None
    gradient: Annotated[GradientRule, OneOf(GRADIENTS)] = RateBased()
    sparsity: Annotated[Sparsity, OneOf(SPARSITY)] | None = None
    objective: Annotated[list[Annotated[Term, OneOf(TERMS)]], Field(min_length=1)] = Field(default_factory=_only_labels)
    optimizer: Optimizer
    precision: Literal["float32", "bf16", "fp16"] = "float32"
    teacher: Annotated[Annotated[TeacherSpec, OneOf(TEACHERS)] | None, Field(validate_default=True)] = None
    expected: Expected | None = None

    @field_validator("objective")
    @classmethod
    def _each_once(cls, terms: list[Term]) -> list[Term]:
        kinds = [term.kind for term in terms]
        twice = [kind for kind in kinds if kinds.count(kind) > 1]
        if twice:
            raise PydanticCustomError("twice", "each kind of term once, not {kind} twice", {"kind": twice[0]})
        if "cross_entropy" not in kinds:
            raise PydanticCustomError("no_labels", "cross_entropy among the terms")
        return terms

    @field_validator("teacher")
    @classmethod
    def _teacher_for_pupils(cls, teacher: TeacherSpec | None, info: ValidationInfo) -> TeacherSpec | None:
        # sees the keys above it: every method is one of them
        chosen = [each for value in info.data.values() for each in (value if isinstance(value, list) else [value])]
        pupils = [method.kind for method in chosen if isinstance(method, Plugin) and method.needs_teacher]
        if pupils and teacher is None:
            raise PydanticCustomError("no_teacher", "a network for {kind} to learn from", {"kind": pupils[0]})
        if teacher is not None and not pupils:
            raise PydanticCustomError("no_pupil", "none, as no method of this recipe learns from one")
        return teacher

    @model_validator(mode="after")
    def _go_together(self) -> Recipe:
        if found := refusal((*self.chosen, ("neuron", self.neuron))):
            raise PydanticCustomError("composition", "{what}", {"what": found})
        return self

    @property
    def chosen(self) -> tuple[tuple[str, Plugin], ...]:
        """Every method that this recipe chooses, with its point; sparsity last: it masks what all others made."""
        points = (
            ("encoder", self.encoder),
            ("network", self.network),
            ("surrogate", self.neuron.surrogate),
            ("normalization", self.normalization),
            ("weight", self.weight),
            ("gradient", self.gradient),
            *(("objective", term) for term in self.objective),
            ("sparsity", self.sparsity),
        )
        return tuple((point, method) for point, method in points if method is not None)

    @property
    def methods(self) -> tuple[Plugin, ...]:
        """Every method that this recipe chooses, in the order in which they attach and finalize."""
        return tuple(method for _, method in self.chosen)

    @property
    def needs(self) -> frozenset[str]:
        """Every capability that a target has to offer to the network of this recipe."""
        return with_combined(self.neuron.needs.union(*(method.needs for method in self.methods)))

    def digest(self) -> str:
        """SHA-256 of the resolved recipe, in hex."""
        return hashlib.sha256(json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()


def load_recipe(name_or_path: object) -> Recipe:
    """Read a shipped recipe by name, or any other from its YAML file.

    raises: LavatubeError naming the file, the key, what was expected and what was there.
    """
    return parse_recipe(read_recipe_file(str(name_or_path)), where=f"recipe {name_or_path}")


def parse_recipe(value: Any, *, where: str) -> Recipe:
    """A checked Recipe from plain values, as YAML or a run's config.json hold them. raises: LavatubeError."""
    choices = {**EXTENSION_POINTS, "teacher": TEACHERS}
    kinds = tuple(kind_of(row) for rows in choices.values() for row in rows)
    return parse(Recipe, value, where=where, tags=(*LAYER_KINDS, *kinds), choices=choices)


__all__ = ["Recipe", "list_recipes", "load_recipe", "parse_recipe"]
