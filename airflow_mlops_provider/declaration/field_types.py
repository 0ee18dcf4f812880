"""The types of single fields that both files share: names, images, quantities, durations, dates.

Decides what one value may look like. How fields depend on one another is left to ``model`` and ``environment``. No I/O.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, timedelta
from typing import Annotated, Any, LiteralString

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    JsonValue,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from airflow_mlops_provider.declaration import cron, quantity
from airflow_mlops_provider.declaration.wording import quoted

TOGETHER: LiteralString = "refused_together"


class Strict(BaseModel):
    """Base of everything read from YAML: frozen, no unknown fields, no guessing of types."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        hide_input_in_errors=True,
        populate_by_name=True,
        regex_engine="rust-regex",
    )

    @model_validator(mode="before")
    @classmethod
    def _null_is_not_written(cls, data: Any) -> Any:
        """Give a known field that is null its default; leave an unknown one to be refused."""
        if not isinstance(data, dict) or None not in data.values():
            return data
        known = {field.alias or name for name, field in cls.model_fields.items()}
        return {key: value for key, value in data.items() if value is not None or key not in known}


def refuse(message: str) -> PydanticCustomError:
    """Return the error that a validator of one field raises."""
    return PydanticCustomError("refused", "{text}", {"text": message})


def refuse_together(message: str, *, field: str | None = None) -> PydanticCustomError:
    """Return the error that a validator of several fields raises; an overlay may still mend it.

    :param field: the field it is about, where that is not the whole object.
    """
    context: dict[str, Any] = {"text": message, "field": field}
    return PydanticCustomError(TOGETHER, "{text}", context)


#: Image references: https://github.com/distribution/reference/blob/v0.6.0/regexp.go, digests sha256 only.
_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_IMAGE = re.compile(
    rf"(?:[A-Za-z0-9][A-Za-z0-9.-]*(?::[0-9]{{1,5}})?/)?{_COMPONENT}(?:/{_COMPONENT})*(?::[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}})?"
    r"(?:@sha256:[0-9a-f]{64})?"
)
_MAX_IMAGE_LENGTH = 512
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_SLUG = re.compile(r"[a-z](?:[a-z0-9-]{0,38}[a-z0-9])?")
_JOB_REFERENCE = re.compile(rf"{_SLUG.pattern}(?:\.{_SLUG.pattern})?")
_DNS_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
#: What Airflow keeps as it is, apart from a slash at the end: no fragment, ASCII only (its MySQL column demands it).
_ASSET_URI = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<authority>[^\s/?#]*)/?[!-\"$-~]*", re.ASCII)
_LINK = re.compile(r"https?://[^\s<>()|\"'\\]+")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")


def _check_slug(value: str) -> str:
    if not _SLUG.fullmatch(value):
        raise refuse(
            f"{quoted(value)} is not a name; use 1 to 40 lower-case letters, digits and '-', "
            "starting with a letter and not ending with '-'"
        )
    return value


def _check_job_reference(value: str) -> str:
    if not _JOB_REFERENCE.fullmatch(value):
        raise refuse(f"{quoted(value)} names no batch job; write a model, churn, or one of its jobs, churn.weekly")
    return value


def _check_dns_label(value: str) -> str:
    if not _DNS_LABEL.fullmatch(value):
        raise refuse(f"{quoted(value)} is not a Kubernetes name; use up to 63 lower-case letters, digits and '-'")
    return value


def _check_variable(value: str) -> str:
    if not _VARIABLE.fullmatch(value):
        raise refuse(f"{quoted(value)} is not the name of an environment variable; use letters, digits and '_'")
    return value


def _check_column(value: str) -> str:
    if "," in value:
        raise refuse(f"{quoted(value)} holds a comma; list each column by itself: [id, region]")
    return value


def _check_asset_uri(value: str) -> str:
    found = _ASSET_URI.fullmatch(value)
    if not found:  # not repeated where it may hold a password
        shown = "this" if "@" in value else quoted(value)
        raise refuse(f"{shown} is not the URI of an asset; write for example s3://bucket/customers")
    if found["scheme"] == "airflow":
        raise refuse("scheme 'airflow' is Airflow's own; write the asset's URI, for example s3://bucket/customers")
    if "@" in found["authority"]:
        raise refuse("holds a user name or password; write the URI without it")
    return value


def _check_link(value: str) -> str:
    if not _LINK.fullmatch(value):
        raise refuse(f"{quoted(value)} is not a web address; write for example https://wiki.example/churn")
    return value


def _check_image(value: str) -> str:
    if len(value) > _MAX_IMAGE_LENGTH or not _IMAGE.fullmatch(value):
        raise refuse(
            f"{quoted(value)} is not an image; write registry/name:tag or registry/name@sha256:<64 hex digits>"
        )
    return value


def _number_to_text(value: object) -> object:
    """``cpu: 2`` and ``cpu: "2"`` are the same amount."""
    return f"{value}" if isinstance(value, int | float) and not isinstance(value, bool) else value


def _whole_number_to_text(value: object) -> object:
    return f"{value}" if isinstance(value, int) and not isinstance(value, bool) else value


def _lists_not_tuples(value: object) -> object:
    """Return the value as JSON knows it; what is read from YAML holds tuples."""
    if isinstance(value, Mapping):
        return {key: _lists_not_tuples(item) for key, item in value.items()}
    return [_lists_not_tuples(item) for item in value] if isinstance(value, tuple | list) else value


def _check_cpu(value: str) -> str:
    quantity.cpu_millicores(value)
    return value


def _check_memory(value: str) -> str:
    quantity.memory_bytes(value)
    return value


def _to_duration(value: object) -> timedelta:
    if isinstance(value, timedelta):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise refuse(f"{value} has no unit; write for example {value}s, 15m or 2h")
    if not isinstance(value, str):
        raise refuse("must be a duration; write for example 15m or 2h")
    return quantity.parse_duration(value)


def duration_between(least: timedelta, most: timedelta) -> AfterValidator:
    """Return what refuses a shorter or longer duration."""

    def check(value: timedelta) -> timedelta:
        if not least <= value <= most:
            lower = "longer than 0s" if least < timedelta(seconds=1) else f"at least {quantity.format_duration(least)}"
            raise refuse(f"must be {lower} and at most {quantity.format_duration(most)}")
        return value

    return AfterValidator(check)


def _to_date(value: object) -> date:
    if isinstance(value, date):
        return value
    if not isinstance(value, str) or not _DATE.fullmatch(value):
        raise refuse("must be a date; write it as 2026-01-31")
    try:
        return date.fromisoformat(value)
    except ValueError:
        raise refuse(f"{quoted(value)} is not a day of the calendar; write an existing date as 2026-01-31") from None


def json_schema_of(pattern: re.Pattern[str]) -> WithJsonSchema:
    """Return what tells an editor that the whole text has to match."""
    return WithJsonSchema({"type": "string", "pattern": f"^(?:{pattern.pattern})$"})


#: One line of text.
Line = Annotated[str, StringConstraints(min_length=1, max_length=1000, pattern=r"^[^\x00-\x1f\x7f]+$")]
#: Columns travel to the container as a comma-separated list.
ColumnName = Annotated[Line, AfterValidator(_check_column)]
#: Text of several lines.
Text = Annotated[str, StringConstraints(max_length=20_000, pattern=r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]*$")]
Slug = Annotated[Line, AfterValidator(_check_slug), json_schema_of(_SLUG)]
#: ``churn``, or ``churn.weekly`` of its ``batch_jobs``.
JobReference = Annotated[Line, AfterValidator(_check_job_reference), json_schema_of(_JOB_REFERENCE)]
DnsLabel = Annotated[Line, AfterValidator(_check_dns_label), json_schema_of(_DNS_LABEL)]
VariableName = Annotated[Line, AfterValidator(_check_variable), json_schema_of(_VARIABLE)]
#: Name of an Airflow asset that something else reports as updated.
AssetUri = Annotated[Line, AfterValidator(_check_asset_uri)]
#: Where a reader may go; shown as a link.
Link = Annotated[Line, AfterValidator(_check_link), json_schema_of(_LINK)]
Image = Annotated[Line, AfterValidator(_check_image), json_schema_of(_IMAGE)]
#: A mapping of whatever JSON can say.
JsonObject = Annotated[Mapping[Line, JsonValue], BeforeValidator(_lists_not_tuples)]
#: ``7`` and ``"7"`` name the same version.
Version = Annotated[
    Line,
    StringConstraints(pattern=r"^[0-9]{1,9}$"),
    BeforeValidator(_whole_number_to_text, json_schema_input_type=str | int),
]
Cpu = Annotated[
    Line, AfterValidator(_check_cpu), BeforeValidator(_number_to_text, json_schema_input_type=str | int | float)
]
Memory = Annotated[
    Line, AfterValidator(_check_memory), BeforeValidator(_number_to_text, json_schema_input_type=str | int)
]
Duration = Annotated[
    timedelta,
    BeforeValidator(_to_duration, json_schema_input_type=str),
    WithJsonSchema({"type": "string", "pattern": f"^(?=.){quantity.DURATION.pattern}$", "examples": ["15m", "2h"]}),
]
Day = Annotated[
    date,
    BeforeValidator(_to_date, json_schema_input_type=str),
    WithJsonSchema({"type": "string", "pattern": f"^{_DATE.pattern}$", "examples": ["2026-01-31"]}),
]
Cron = Annotated[Line, AfterValidator(cron.check_cron)]
TimeZone = Annotated[Line, AfterValidator(cron.check_timezone)]
