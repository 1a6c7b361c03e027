"""A recipe: what to train, on what, how. Pydantic models; an unknown key or a wrong type is an error."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from lavatube.fixed_point import DECAY_MAX, DECAY_ONE
from lavatube.train.recipe_file import list_recipes, parse, read_recipe_file


def _yaml_number(value: Any) -> Any:
    """YAML 1.1 reads 1e-3 (no point) as text; people mean the number."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


Number = Annotated[float, BeforeValidator(_yaml_number)]
Positive = Annotated[int, Field(ge=1)]


class Strict(BaseModel):
    """No unknown keys, no silent conversions (true is not 1), no NaN, immutable."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _name_known_keys(cls, value: Any) -> Any:
        unknown = sorted(str(key) for key in set(value) - set(cls.model_fields)) if isinstance(value, dict) else []
        if unknown:
            known = "one of: " + ", ".join(cls.model_fields)
            raise PydanticCustomError("unknown_key", "{known}", {"key": unknown[0], "known": known})
        return value


class Data(Strict):
    name: str
    shift: Annotated[int, Field(ge=0)] = 0


class Conv2d(Strict):
    channels: Positive
    kernel: Positive
    stride: Positive = 1
    padding: Annotated[int, Field(ge=0)] = 0


class Dense(Strict):
    units: Positive


class Conv2dLayer(Strict):
    conv2d: Conv2d


class DenseLayer(Strict):
    dense: Dense


LAYER_KINDS = ("conv2d", "dense")


def _layer_kind(value: Any) -> str | None:
    """The one key of a layer's mapping says its kind."""
    if isinstance(value, dict):
        return str(next(iter(value))) if len(value) == 1 else None
    return next((kind for kind in LAYER_KINDS if hasattr(value, kind)), None)


Layer = Annotated[
    Annotated[Conv2dLayer, Tag("conv2d")] | Annotated[DenseLayer, Tag("dense")],
    Discriminator(
        _layer_kind,
        custom_error_type="layer_kind",
        custom_error_message="a mapping with one key, one of: " + ", ".join(LAYER_KINDS),
    ),
]


class Network(Strict):
    layers: Annotated[list[Layer], Field(min_length=1)]
    batch_norm: bool = True

    @field_validator("layers")
    @classmethod
    def _in_order(cls, layers: list[Conv2dLayer | DenseLayer]) -> list[Conv2dLayer | DenseLayer]:
        kinds = [_layer_kind(layer) for layer in layers]
        if kinds[-1] != "dense" or "conv2d" in kinds[kinds.index("dense") :]:
            raise PydanticCustomError("layer_order", "convolutions first, and a dense layer last (the read-out)")
        return layers


class Surrogate(Strict):
    kind: Literal["sigmoid"] = "sigmoid"
    slope: Annotated[Number, Field(gt=0)] = 4.0


class Neuron(Strict):
    """decay: fraction of the voltage that stays each timestep, snapped to what the chip can hold.

    dv: the chip's register, decay = 1 - dv / 4096; filled in, so that a resolved recipe has it.
    """

    decay: Annotated[Number, Field(ge=0, le=1)]
    dv: Annotated[int, Field(validate_default=True)] = -1
    v_threshold: Annotated[Number, Field(gt=0)] = 1.0
    reset: Literal["zero"] = "zero"
    surrogate: Surrogate = Surrogate()

    @field_validator("decay")
    @classmethod
    def _snap(cls, decay: float) -> float:
        return 1 - _decay_register(decay) / DECAY_ONE

    @field_validator("dv")
    @classmethod
    def _derive(cls, dv: int, info: ValidationInfo) -> int:
        if "decay" not in info.data:
            return dv
        register = _decay_register(info.data["decay"])
        if dv not in (-1, register):
            raise PydanticCustomError("dv", "{register} (from decay), or no dv", {"register": register})
        return register


def _decay_register(decay: float) -> int:
    return min(round((1 - decay) * DECAY_ONE), DECAY_MAX)


class SelfDistillation(Strict):
    alpha: Annotated[Number, Field(ge=0)] = 1.0
    beta: Annotated[Number, Field(ge=0)] = 0.3
    temperature: Annotated[Number, Field(gt=0)] = 3.0
    channels: Positive = 32


class BiasLimit(Strict):
    """limit: of |bias| after folding the normalisation, in thresholds."""

    limit: Annotated[Number, Field(ge=0)] = 0.5
    weight: Annotated[Number, Field(gt=0)] = 1.0


class Method(Strict):
    gradient: Literal["rate", "bptt"] = "rate"
    self_distillation: SelfDistillation | None = None
    bias_limit: BiasLimit | None = None


class Optimizer(Strict):
    name: Literal["adam", "sgd"] = "adam"
    lr: Annotated[Number, Field(gt=0)]
    weight_decay: Annotated[Number, Field(ge=0)] = 0.0
    epochs: Positive
    batch_size: Positive
    schedule: Literal["cosine", "constant"] = "cosine"


class Recipe(Strict):
    """A complete training run; `model_dump(mode="json")` is the resolved recipe that the artifacts carry."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    seed: Annotated[int, Field(ge=0)] = 0
    num_steps: Positive
    data: Data
    network: Network
    neuron: Neuron
    method: Method = Method()
    optimizer: Optimizer

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
    return parse(Recipe, value, where=where, tags=LAYER_KINDS)


__all__ = ["Recipe", "list_recipes", "load_recipe", "parse_recipe"]
