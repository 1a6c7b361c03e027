"""What every part of a recipe is made of: checked, immutable values, and a choice of one row of a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, GetCoreSchemaHandler, model_validator
from pydantic_core import CoreSchema, PydanticCustomError, core_schema


def yaml_number(value: Any) -> Any:
    """YAML 1.1 reads 1e-3 (no point) as text; people mean the number."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


COUNT_MAX = 1 << 24
Number = Annotated[float, BeforeValidator(yaml_number), Field(ge=-1e30, le=1e30)]  # what float32 holds with room
Positive = Annotated[int, Field(ge=1, le=COUNT_MAX)]
Natural = Annotated[int, Field(ge=0, le=COUNT_MAX)]


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


@dataclass(frozen=True)
class OneOf:
    """A field that holds one row of a table of `Strict` classes, chosen by `kind`.

    In a recipe: `{kind: NAME, settings...}`, or just `NAME` where every setting has a default.
    """

    rows: Sequence[type[Strict]]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        refuse_bad_rows(self.rows, source)
        known = ", ".join(kind_of(row) for row in self.rows)
        union = core_schema.tagged_union_schema(
            {kind_of(row): handler.generate_schema(row) for row in self.rows},
            discriminator="kind",
            custom_error_type="unknown_kind",
            custom_error_message=f"one of: {known}",
        )
        return core_schema.no_info_before_validator_function(_by_name, union)


def refuse_bad_rows(rows: Sequence[Any], base: Any) -> None:
    """raises: TypeError naming the row that is no class below `base` with a `kind: Literal[NAME] = NAME` of its own."""
    named: dict[str, Any] = {}
    for row in rows:
        where = f"{row!r} in the table of {base.__name__}"
        if not isinstance(row, type) or not issubclass(row, base):
            raise TypeError(f"{where}: expected a class below {base.__name__}")
        field = row.model_fields.get("kind")  # type: ignore[attr-defined]
        if field is None or get_args(field.annotation) != (field.default,) or not str(field.default).isidentifier():
            raise TypeError(f"{where}: expected a field `kind: Literal[NAME] = NAME`, NAME an identifier")
        if named.setdefault(kind_of(row), row) is not row:
            raise TypeError(f"{where}: kind {kind_of(row)} is that of {named[kind_of(row)]!r} too")


def _by_name(value: Any) -> Any:
    return {"kind": value} if isinstance(value, str) else value


def kind_of(row: type[Strict]) -> str:
    """The name under which a recipe chooses a row."""
    return str(row.model_fields["kind"].default)
