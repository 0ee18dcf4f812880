"""The ``batch`` block: a scheduled job that applies the model to a data set.

Decides its fields, their defaults and what they demand of one another. What an environment allows is left to
``policy``. No I/O.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field, model_validator

from airflow_mlops_provider.declaration.field_types import (
    ColumnName,
    Day,
    Duration,
    Image,
    JobReference,
    Line,
    Slug,
    Strict,
    Text,
    duration_between,
    refuse_together,
)
from airflow_mlops_provider.declaration.parameters import Parameter, ParameterName
from airflow_mlops_provider.declaration.shared_spec import AssetUris, Notify, OptionalSchedule, OwnVariable, Resources
from airflow_mlops_provider.declaration.wording import choices

_Wait = Annotated[Duration, duration_between(timedelta(milliseconds=1), timedelta(days=30))]


class BatchSpec(Strict):
    """A scheduled job that applies the model to a data set."""

    schedule: OptionalSchedule = Field(
        None, description="Cron, preset or {cron, timezone}; without it the job runs only when triggered."
    )
    after: tuple[JobReference, ...] = Field(
        (),
        max_length=20,
        description="Jobs that start this one, once each of them has succeeded in the same environment: churn for the "
        "batch job of that model, churn.weekly for one of its batch_jobs.",
    )
    when: AssetUris = Field(
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
    retry_delay: _Wait = Field(
        timedelta(minutes=5), description="Wait before the first retry.", json_schema_extra={"default": "5m"}
    )
    retry_backoff: bool = Field(
        True, description="Double the wait with every further retry, up to an hour or retry_delay if that is longer."
    )
    timeout: _Wait | None = Field(None, description="A task that runs longer is stopped and failed.")
    catchup: bool = Field(False, description="Run the intervals missed since start_date.")
    start_date: Day | None = Field(None, description="First day, in the schedule's time zone.")
    params: Mapping[ParameterName, Parameter] = Field(
        default_factory=dict,
        max_length=50,
        description="What whoever triggers a run may set; the program gets PARAM_<NAME>, templates params.<name>.",
    )
    notify: Notify = Field(default_factory=Notify)
    extends: Slug | None = Field(None, description="Template of the platform that adds to the pods.")
    pool: Line | None = Field(None, description="Airflow pool.")
    priority: int = Field(1, ge=1, le=1000, description="Airflow priority weight.")

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
