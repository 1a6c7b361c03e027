"""What the metadata of a NIR file says of each quantized node, checked before it is used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lavatube import fixed_point as fp
from lavatube.errors import LavatubeError
from lavatube.neuron_layout import NeuronLayout

Scale = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class SynapseRow(_Row):
    """float weight = integer * scale, a = floor((sum of integer * s) * 2^headroom); float bias = integer * bias_scale.

    stands_for: what the node is for us, where others would not read that: "scale", one factor per channel.
    """

    scale: Scale
    bits: Annotated[int, Field(ge=2, le=fp.WEIGHT_BITS_MAX)]
    signed: Literal[True]
    zero_point: Literal[0]
    axis: None
    rounding: Literal["half to even"]
    headroom: Annotated[int, Field(ge=1 - fp.WEIGHT_BITS_MAX, le=fp.WEIGHT_EXPONENT_MAX + fp.WEIGHT_BITS_MAX)]
    bias_scale: Scale
    stands_for: Literal["scale"] | None


class NeuronRow(NeuronLayout):
    """Registers of a population; scale: float value of one activation unit.

    Those with a default are written where a population has another value: NIR's own fields cannot say it.
    """

    scale: Scale


def checked_rows(rows: Any, *, where: str) -> dict[str, dict[str, Any]]:
    """{node name: row} as plain values. raises: LavatubeError naming the node, the field and the rule."""
    if not isinstance(rows, Mapping):
        raise LavatubeError("quantization of nodes", where=where, expected="an object", got=type(rows).__name__)
    found = {}
    for name, row in rows.items():
        kind = SynapseRow if isinstance(row, Mapping) and "bits" in row else NeuronRow
        try:
            found[str(name)] = kind.model_validate(row).model_dump()
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"])) or "row"
            got = repr(first["input"])[:60]
            raise LavatubeError(f"{field}: {first['msg']}", where=f"{where}:{name}", got=got) from error
    return found
