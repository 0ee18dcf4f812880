"""Parameters of a run: what whoever triggers it may set, each with a type, limits and a default.

Decides the kinds of parameters, and what the form shows of them. How a program gets the value is decided by the
contract. No I/O.
"""

from __future__ import annotations

import re
from datetime import date
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import AfterValidator, Field, ValidationError, model_validator

from airflow_mlops_provider.declaration.field_types import (
    Day,
    Line,
    Strict,
    Text,
    json_schema_of,
    refuse,
    refuse_together,
)
from airflow_mlops_provider.declaration.union import chosen_by, kind
from airflow_mlops_provider.declaration.wording import choices, quoted

Value: TypeAlias = str | int | float | bool | date
#: The trigger form has them already.
RESERVED_NAMES: Final = ("model_version", "model_alias", "model_run_id", "data_interval_start", "data_interval_end")
#: Also what may stand in a template as ``params.<name>``, so nothing that Jinja reads otherwise.
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")


def _check_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise refuse(
            f"{quoted(name)} is not a parameter's name; use up to 40 lower-case letters, digits and '_', "
            "starting with a letter"
        )
    if name in RESERVED_NAMES:
        raise refuse(f"{quoted(name)} is a parameter of every job; choose another name")
    return name


ParameterName = Annotated[Line, AfterValidator(_check_name), json_schema_of(_NAME)]


class _Parameter(Strict):
    title: Line | None = Field(None, description="Its name in the form; default: the name here.")
    description: Line | None = Field(None, description="One line for whoever fills the form in.")

    def form_schema(self) -> dict[str, Any]:
        """Return the JSON Schema of the form's field, its texts included."""
        return self.model_dump(mode="json", exclude={"default"}, exclude_none=True)

    def form_default(self) -> Any:
        """Return the default as JSON knows it."""
        return self.model_dump(mode="json")["default"]


class StringParameter(_Parameter):
    """A text, or one of several."""

    type: Literal["string"]
    default: Text
    enum: tuple[Text, ...] | None = Field(None, min_length=1, max_length=100, description="The only values allowed.")

    @model_validator(mode="after")
    def _default_fits(self) -> StringParameter:
        if self.enum is not None and self.default not in self.enum:
            raise refuse_together(f"{quoted(self.default)} is not in enum; use {choices(self.enum)}", field="default")
        return self

    def read(self, text: str) -> Value:
        return text


class _Range(_Parameter):
    def _check_range(self, default: float, minimum: float | None, maximum: float | None) -> None:
        if minimum is not None and maximum is not None and minimum > maximum:
            raise refuse_together(f"is more than maximum ({maximum:g}); lower it", field="minimum")
        if minimum is not None and default < minimum:
            raise refuse_together(f"{default:g} is less than minimum ({minimum:g}); raise it", field="default")
        if maximum is not None and default > maximum:
            raise refuse_together(f"{default:g} is more than maximum ({maximum:g}); lower it", field="default")


class IntegerParameter(_Range):
    """A whole number."""

    type: Literal["integer"]
    default: int
    minimum: int | None = None
    maximum: int | None = None

    @model_validator(mode="after")
    def _default_fits(self) -> IntegerParameter:
        self._check_range(self.default, self.minimum, self.maximum)
        return self

    def read(self, text: str) -> Value:
        return int(text)


class NumberParameter(_Range):
    """A number."""

    type: Literal["number"]
    default: float = Field(allow_inf_nan=False)
    minimum: float | None = Field(None, allow_inf_nan=False)
    maximum: float | None = Field(None, allow_inf_nan=False)

    @model_validator(mode="after")
    def _default_fits(self) -> NumberParameter:
        self._check_range(self.default, self.minimum, self.maximum)
        return self

    def read(self, text: str) -> Value:
        return float(text)


class BooleanParameter(_Parameter):
    """True or false."""

    type: Literal["boolean"]
    default: bool

    def read(self, text: str) -> Value:
        return {"true": True, "false": False}[text]


class DateParameter(_Parameter):
    """A day, 2026-01-31."""

    type: Literal["date"]
    default: Day

    def form_schema(self) -> dict[str, Any]:
        return {**super().form_schema(), "type": "string", "format": "date"}

    def read(self, text: str) -> Value:
        return date.fromisoformat(text)


Parameter = Annotated[
    Annotated[StringParameter, kind("string")]
    | Annotated[IntegerParameter, kind("integer")]
    | Annotated[NumberParameter, kind("number")]
    | Annotated[BooleanParameter, kind("boolean")]
    | Annotated[DateParameter, kind("date")],
    chosen_by("type", "string", "integer", "number", "boolean", "date"),
]
AnyParameter: TypeAlias = StringParameter | IntegerParameter | NumberParameter | BooleanParameter | DateParameter


def read_value(parameter: AnyParameter, text: str) -> Any:
    """Return what somebody wrote on a command line, as JSON knows it.

    :raises ValueError: it is not of the parameter's type, or outside its limits.
    """
    try:
        value = parameter.read(text)
    except (ValueError, KeyError):
        raise ValueError(f"{quoted(text)} is not of type {parameter.type}") from None
    try:
        return (
            type(parameter).model_validate({**parameter.model_dump(exclude_none=True), "default": value}).form_default()
        )
    except ValidationError as error:
        raise ValueError(error.errors()[0]["msg"]) from None
