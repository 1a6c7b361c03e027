"""What an ONNX step model says of itself in its metadata: enough to loop it without lavatube (docs/onnx.md)."""

from __future__ import annotations

import hashlib
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from lavatube.end_nodes import Readout
from lavatube.errors import LavatubeError
from lavatube.fixed_point import MESSAGE_BITS_MAX

METADATA_KEY = "lavatube"
DIGEST_KEY = "lavatube_sha256"
NUM_STEPS_MAX = 1 << 24  # as of a program
PREDICTION = "index of the largest read-out after the last step, the lowest index winning ties"


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class StepInput(_Row):
    """A graph input [batch, *shape] of integers 0..2^message_bits - 1, new in every step."""

    name: str
    shape: tuple[int, ...]
    message_bits: int = Field(ge=1, le=MESSAGE_BITS_MAX)


class StepState(_Row):
    """A graph input `name` that starts as `initial`, broadcast to its shape, and goes on as output `next/<name>`."""

    name: str
    shape: tuple[int | str, ...]
    initial: int | tuple[int, ...]


class StepSpikes(_Row):
    """A graph output with the events of a population; its `next/u/<layer>` and `next/v/<layer>` are in a trace."""

    name: str
    layer: str
    shape: tuple[int, ...]
    event_range: tuple[int, int]


class StepReadout(_Row):
    """The state that holds the read-out; after a sample's last step it is the answer."""

    name: str
    reads: Readout
    prediction: str = PREDICTION


class StepWeights(_Row):
    """Quantization of a synapse: initializer `<name>.weight` holds mantissas; one is `scale` units, if known.

    grid: mantissa = integer x grid.
    """

    name: str
    num_weight_bits: int
    sign: str
    grid: int
    weight_exp: int
    scale: float | None


class StepDescription(_Row):
    """The metadata of an ONNX step model."""

    kind: Literal["onnx-step"] = "onnx-step"
    schema_version: Literal["1.0"] = "1.0"
    program_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    source: dict[str, str]
    num_steps: int = Field(ge=1, le=NUM_STEPS_MAX)
    input: StepInput
    states: tuple[StepState, ...]
    spikes: tuple[StepSpikes, ...]
    readout: StepReadout
    weights: tuple[StepWeights, ...]

    @model_validator(mode="after")
    def _names_agree(self) -> StepDescription:
        states = [row.name for row in self.states]
        layers = [row.layer for row in self.spikes]
        if len(set(states)) < len(states) or len(set(layers)) < len(layers):
            raise ValueError("two states or two layers of one name")
        if self.readout.name not in states:
            raise ValueError("the read-out is no state")
        if any(row.name != f"spikes/{row.layer}" or row.event_range[0] > row.event_range[1] for row in self.spikes):
            raise ValueError("spikes: expected names spikes/<layer> and ranges of events")
        return self


def digest_of(text: str) -> str:
    """SHA-256 of a description."""
    return hashlib.sha256(text.encode()).hexdigest()


def described(model: Any, *, where: str) -> StepDescription | None:
    """What a model says of itself, None if it is none of ours.

    raises: LavatubeError naming the field, or if the text is not the one that was written.
    """
    texts = {row.key: row.value for row in model.metadata_props}
    if METADATA_KEY not in texts:
        return None
    said = read_description(texts[METADATA_KEY], where=where)
    if texts.get(DIGEST_KEY) != digest_of(texts[METADATA_KEY]):
        what, remedy = "the description is not the one that was exported", "export the program again"
        raise LavatubeError(what, where=where, expected=f"the text of {DIGEST_KEY}", remedy=remedy)
    return said


def read_description(text: str, *, where: str) -> StepDescription:
    """raises: LavatubeError naming the field."""
    try:
        return StepDescription.model_validate_json(text)
    except ValidationError as error:
        first: Any = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise LavatubeError(f"description: {field}: {first['msg']}", where=where) from error
