"""What an ONNX step model says of itself in its metadata: enough to loop it without lavatube (docs/onnx.md)."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from lavatube.end_nodes import Readout
from lavatube.errors import LavatubeError

METADATA_KEY = "lavatube"
PREDICTION = "index of the largest read-out after the last step, the lowest index winning ties"


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class StepInput(_Row):
    """A graph input [batch, *shape] of integers 0..2^message_bits - 1, new in every step."""

    name: str
    shape: tuple[int, ...]
    message_bits: int


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
    program_sha256: str
    source: dict[str, str]
    num_steps: int
    input: StepInput
    states: tuple[StepState, ...]
    spikes: tuple[StepSpikes, ...]
    readout: StepReadout
    weights: tuple[StepWeights, ...]


def read_description(text: str, *, where: str) -> StepDescription:
    """raises: LavatubeError naming the field."""
    try:
        return StepDescription.model_validate_json(text)
    except ValidationError as error:
        first: Any = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise LavatubeError(f"description: {field}: {first['msg']}", where=where) from error
