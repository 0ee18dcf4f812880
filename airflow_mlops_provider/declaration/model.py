"""What a data scientist writes into ``models/<name>.yaml``: the schema of ``mlops/v1``.

Decides which fields exist, their types, defaults and what they demand of one another. What an environment allows is
left to ``policy``, reading and merging to ``loader``. Every field may be left out or null where it has a default, so
that the same schema describes an environment's overlay. No I/O.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from airflow_mlops_provider.declaration.field_types import (
    AssetUri,
    ColumnName,
    Cpu,
    Cron,
    Day,
    Duration,
    Image,
    Line,
    Link,
    Memory,
    Slug,
    Strict,
    Text,
    TimeZone,
    VariableName,
    refuse,
    refuse_together,
)
from airflow_mlops_provider.declaration.wording import choices, quoted

ApiVersion = Literal["mlops/v1"]

#: What the platform tells every container; see "What a batch container receives" in the documentation.
_RESERVED_PREFIXES = ("MODEL_", "MLFLOW_", "MLOPS_", "DATA_INTERVAL_", "INPUT_URI", "OUTPUT_URI")


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
    """When the batch job runs."""

    cron: Cron = Field(
        description="Five cron fields, or @hourly, @daily, @weekly, @monthly, @quarterly, @yearly, @once."
    )
    timezone: TimeZone = Field("UTC", description="IANA time zone in which the cron fields are read.")


def _schedule_from_text(value: object) -> object:
    return {"cron": value} if isinstance(value, str) else value


def _list_from_text(value: object) -> object:
    return (value,) if isinstance(value, str) else value


class BatchSpec(Strict):
    """A scheduled job that applies the model to a data set."""

    schedule: Annotated[
        Schedule | None, BeforeValidator(_schedule_from_text, json_schema_input_type=Schedule | str | None)
    ] = Field(None, description="Cron, preset or {cron, timezone}; without it the job runs only when triggered.")
    after: tuple[Slug, ...] = Field(
        (),
        max_length=20,
        description="Models whose batch jobs start this one, once each of them has succeeded in the same environment.",
    )
    when: Annotated[
        tuple[AssetUri, ...],
        BeforeValidator(_list_from_text, json_schema_input_type=tuple[AssetUri, ...] | AssetUri),
    ] = Field(
        (), max_length=20, description="URIs of Airflow assets that start the job, once each of them has been updated."
    )
    image: Image | None = Field(
        None, description="Container image; without it the platform's standard runtime scores input → output."
    )
    command: tuple[Text, ...] | None = Field(
        None, min_length=1, max_length=500, description="Replaces the image's entry point."
    )
    args: tuple[Text, ...] | None = Field(None, max_length=500, description="Arguments of the command.")
    env: Mapping[OwnVariable, Text] = Field(
        default_factory=dict, max_length=200, description="Plain environment variables; never secrets."
    )
    input: Line | None = Field(
        None, description="URI of the rows to score; may hold the templates the environment allows."
    )
    output: Line | None = Field(None, description="URI where predictions are written.")
    format: Literal["parquet", "csv", "jsonl"] | None = Field(
        None, description="Format of input and output; default: by file name."
    )
    key_columns: tuple[ColumnName, ...] = Field(
        (), max_length=500, description="Input columns kept beside each prediction."
    )
    partitions: int = Field(1, ge=1, le=1000, description="Number of pods that share the input.")
    resources: Resources = Field(default_factory=Resources)
    retries: int = Field(2, ge=0, le=20, description="How often a failed task is tried again.")
    retry_delay: Duration = Field(
        timedelta(minutes=5), description="Wait before the first retry.", json_schema_extra={"default": "5m"}
    )
    retry_backoff: bool = Field(
        True, description="Double the wait with every further retry, up to an hour or retry_delay if that is longer."
    )
    timeout: Duration | None = Field(None, description="A task that runs longer is stopped and failed.")
    catchup: bool = Field(False, description="Run the intervals missed since start_date.")
    start_date: Day | None = Field(None, description="First day, in the schedule's time zone.")
    pool: Line | None = Field(None, description="Airflow pool.")
    priority: int = Field(1, ge=1, le=1000, description="Airflow priority weight.")

    @field_validator("timeout", "retry_delay")
    @classmethod
    def _positive(cls, value: timedelta | None) -> timedelta | None:
        if value is not None and not timedelta(0) < value <= timedelta(days=30):
            raise refuse("must be longer than 0s and at most 30d")
        return value

    @model_validator(mode="after")
    def _check_start(self) -> BatchSpec:
        starts = {"schedule": self.schedule is not None, "after": bool(self.after), "when": bool(self.when)}
        named = [name for name, written in starts.items() if written]
        if len(named) > 1:
            raise refuse_together(
                f"stands beside {choices(named[:-1], last='and')}, but one thing starts a job; "
                "keep one (an environment takes one away with null)",
                field=named[-1],
            )
        if self.catchup and (self.after or self.when):
            raise refuse_together(f"needs a schedule, not {named[0]}; remove it", field="catchup")
        return self

    @model_validator(mode="after")
    def _check_together(self) -> BatchSpec:
        if self.catchup and self.start_date is None:
            raise refuse_together(
                "needs start_date, the first day to catch up on; add start_date or remove catchup", field="catchup"
            )
        if self.image is None and self.command is None and (self.input is None or self.output is None):
            raise refuse_together(
                "the standard runtime needs input and output; add them, or an image or command of your own"
            )
        return self


class Canary(Strict):
    """How traffic moves to a new version."""

    steps: tuple[Annotated[int, Field(ge=1, le=99)], ...] = Field((), description="Percent of the traffic, rising.")
    bake: Duration = Field(
        timedelta(minutes=15), description="How long each step is watched.", json_schema_extra={"default": "15m"}
    )


class SmokeTest(Strict):
    """One prediction that a new version must answer before it gets traffic."""

    source: Literal["input_example"] = Field("input_example", alias="from", description="Where the request comes from.")
    max_latency: Duration | None = Field(None, description="A slower answer is a failure.")


class OnlineSpec(Strict):
    """A KServe InferenceService that answers requests."""

    min_replicas: int = Field(1, ge=0, le=1000, description="Pods that always run.")
    max_replicas: int | None = Field(
        None, ge=1, le=1000, description="Pods under load; default: as many as min_replicas."
    )
    image: Image | None = Field(None, description="Serving image; without it the platform's standard runtime serves.")
    env: Mapping[OwnVariable, Text] = Field(
        default_factory=dict, max_length=200, description="Plain environment variables; never secrets."
    )
    resources: Resources = Field(default_factory=Resources)
    canary: Canary | None = None
    smoke_test: SmokeTest | None = None

    @model_validator(mode="after")
    def _check_together(self) -> OnlineSpec:
        if self.max_replicas is not None and self.max_replicas < self.min_replicas:
            raise refuse_together(
                f"is less than min_replicas ({self.min_replicas}); raise it or lower min_replicas", field="max_replicas"
            )
        return self


class _Identity(Strict):
    api_version: ApiVersion = Field(alias="apiVersion", description="mlops/v1")
    model: Slug = Field(description="Name of the model, part of every DAG and object name.")
    owner: Line = Field(description="Team or person who answers for it, an e-mail address for example.")


class _Changeable(Strict):
    """What an environment's overlay may change besides the owner."""

    description: Line | None = Field(None, description="One line for lists of DAGs.")
    doc: Text | None = Field(None, description="Markdown, shown on the DAG's page.")
    experiment: Line | None = Field(None, description="MLflow experiment whose runs are meant.")
    registered_model: Line | None = Field(None, description="Name in the MLflow model registry.")
    logged_model: Line | None = Field(None, description="Name of the model, where a run has logged several.")
    tags: tuple[Line, ...] = Field((), max_length=20, description="Tags of the DAGs, beside model and environment.")
    links: Mapping[Line, Link] = Field(
        default_factory=dict, max_length=20, description="Web addresses on the DAG's page, by name: runbook, dashboard."
    )
    batch: BatchSpec | None = None
    online: OnlineSpec | None = None

    @field_validator("doc")
    @classmethod
    def _doc_is_text(cls, value: str | None) -> str | None:
        if value is not None and value.rstrip().endswith(".md"):  # Airflow would open such a text as a file
            raise refuse("ends in '.md', but the text itself belongs here; write it with 'doc: |'")
        return value


class ModelOverlay(_Changeable):
    """What differs in one environment. Mappings are merged field by field, null takes a field away."""

    owner: Line | None = Field(None, description="Team or person who answers for it here.")


class ModelDeclaration(_Changeable, _Identity):
    """One model in one environment, merged. ``environments`` is gone by then: it has been merged in."""


class ModelFile(ModelDeclaration):
    """The file as it is written, for the JSON Schema."""

    environments: Mapping[Slug, ModelOverlay | None] = Field(
        min_length=1, description="Where it goes, and what differs there."
    )
