"""What batch jobs and online services declare alike: resources, schedules, variables of their own, who is told.

Decides the fields and their defaults. No I/O.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from airflow_mlops_provider.declaration.field_types import (
    AssetUri,
    Cpu,
    Cron,
    Memory,
    Slug,
    Strict,
    TimeZone,
    VariableName,
    refuse,
)
from airflow_mlops_provider.declaration.wording import quoted

#: What the platform tells every container; see "What a batch container receives" in the documentation.
_RESERVED_PREFIXES = ("MODEL_", "MLFLOW_", "MLOPS_", "DATA_INTERVAL_", "INPUT_URI", "OUTPUT_URI", "PARAM_")


def _check_own_variable(name: str) -> str:
    """Refuse names that belong to the contract between provider and container."""
    if name.startswith(_RESERVED_PREFIXES):
        raise refuse(
            f"{quoted(name)} is set by the platform; "
            f"choose a name that starts with none of {', '.join(_RESERVED_PREFIXES)}"
        )
    return name


OwnVariable = Annotated[VariableName, AfterValidator(_check_own_variable)]


class Resources(Strict):
    """What one pod gets: request and limit alike."""

    cpu: Cpu = Field("1", description='Processors: "2", "0.5" or 500m.')
    memory: Memory = Field("2Gi", description="Memory: 512Mi, 4Gi.")
    gpu: int = Field(0, ge=0, le=64, description="Graphics processors.")


class Schedule(Strict):
    """When something runs by itself."""

    cron: Cron = Field(
        description="Five cron fields, or @hourly, @daily, @weekly, @monthly, @quarterly, @yearly, @once."
    )
    timezone: TimeZone = Field("UTC", description="IANA time zone in which the cron fields are read.")


def _schedule_from_text(value: object) -> object:
    return {"cron": value} if isinstance(value, str) else value


#: ``schedule: "@daily"`` or ``schedule: {cron: "0 3 * * *", timezone: Europe/Moscow}``.
OptionalSchedule = Annotated[
    Schedule | None, BeforeValidator(_schedule_from_text, json_schema_input_type=Schedule | str | None)
]


def _list_from_text(value: object) -> object:
    return (value,) if isinstance(value, str) else value


#: ``when: s3://bucket/ready`` or ``when: [s3://bucket/ready, x-dwh://customers/]``.
AssetUris = Annotated[
    tuple[AssetUri, ...],
    BeforeValidator(_list_from_text, json_schema_input_type=tuple[AssetUri, ...] | AssetUri),
]


class Notify(Strict):
    """Who is told how a run ended, by names that the platform's file defines under notifiers."""

    on_failure: tuple[Slug, ...] | None = Field(
        None, max_length=10, description="Called by a failed run. Default: what the environment says."
    )
    on_success: tuple[Slug, ...] | None = Field(
        None, max_length=10, description="Called by a successful run. Default: what the environment says."
    )
