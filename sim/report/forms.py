"""What the page reads of JSON artifacts, checked when they are loaded; keys beyond these are not its concern."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from lavatube.errors import LavatubeError

Natural = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Percent = Annotated[float, Field(ge=0, le=100)]


class Form(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)


class Row(Form):
    layer: str
    quantity: str
    compared: Natural
    mismatches: Natural
    total_a: int
    total_b: int


class Joules(Form):
    equal: bool


class Engine(Form):
    engine: str
    independence: str
    sampled: str = ""
    equal: bool
    counts_equal: bool | None
    energy: Joules | None
    first: dict[str, Any] | None
    explanation: dict[str, Any] | None
    rows: list[Row]
    seconds: Annotated[float, Field(ge=0)]
    meta: dict[str, Any]

    @model_validator(mode="after")
    def _holds(self) -> Engine:
        parts = [row.mismatches == 0 for row in self.rows]
        parts += [self.counts_equal is not False, self.energy is None or self.energy.equal]
        if self.equal != all(parts):
            raise ValueError(f"equal contradicts what is said of {self.engine}")
        return self


class Parity(Form):
    equal: bool
    reference: str
    samples: Natural
    num_steps: Natural
    neuron_steps: Natural
    accuracy: Percent | None
    engines: list[Engine]

    @model_validator(mode="after")
    def _holds(self) -> Parity:
        if self.equal != all(engine.equal for engine in self.engines):
            raise ValueError("equal contradicts the engines")
        return self


class Ends(Form):
    low: Natural | None
    high: Natural | None


class Bounds(Ends):
    nominal: Natural | None


class Term(Form):
    events: Natural
    energy: Bounds
    share: float | None
    grade: str


class Table(Form):
    name: str
    grade: str
    sha256: str
    dynamic: Bounds | None
    layers: dict[str, Bounds]
    terms: dict[str, Term]
    unpriced: list[str]


class Energy(Form):
    samples: Positive
    interval: Ends
    labels: list[str]
    tables: list[Table]
    unpriced: list[str]


class Metrics(Form):
    test_accuracy: Percent | None = None
    test_samples: Positive | None = None


class Config(Form):
    recipe: dict[str, Any] = {}
    metrics: Metrics = Metrics()


FORMS: Mapping[str, type[Form]] = {"config.json": Config, "parity.json": Parity, "energy.json": Energy}


def require_form(value: Mapping[str, Any], form: type[Form], where: str) -> None:
    """raises: LavatubeError naming the first key that is not as this version writes it."""
    try:
        form.model_validate(dict(value))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise LavatubeError(
            "not of the form that this version writes", where=where, got=f"{place}: {first['msg']}".lstrip(": "),
            remedy="make it again",
        ) from error  # fmt: skip
