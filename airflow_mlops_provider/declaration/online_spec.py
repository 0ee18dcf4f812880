"""The ``online`` block: a KServe InferenceService that answers requests.

Decides its fields, their defaults and what they demand of one another. How the service is made of them is decided
elsewhere, what an environment allows by ``policy``. No I/O.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field, model_validator

from airflow_mlops_provider.declaration.field_types import (
    DnsLabel,
    Duration,
    Image,
    JsonObject,
    Link,
    Slug,
    Strict,
    Text,
    duration_between,
    refuse_together,
)
from airflow_mlops_provider.declaration.shared_spec import (
    AssetUris,
    Notify,
    OptionalSchedule,
    OwnVariable,
    Resources,
)
from airflow_mlops_provider.declaration.union import chosen_by, kind

_SECOND, _MINUTE, _DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(days=1)

Latency = Annotated[Duration, duration_between(timedelta(milliseconds=1), timedelta(minutes=10))]


class Canary(Strict):
    """How traffic moves to a new version."""

    steps: tuple[Annotated[int, Field(ge=1, le=99)], ...] = Field((), description="Percent of the traffic, rising.")
    bake: Duration = Field(
        timedelta(minutes=15), description="How long each step is watched.", json_schema_extra={"default": "15m"}
    )
    max_error_rate: float = Field(0.0, ge=0, le=1, description="Share of the new version's answers that may be errors.")
    min_agreement: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Share of predictions that have to equal the former version's; default: not judged.",
    )
    max_latency: Latency | None = Field(
        None, description="95th percentile of the new version's answers; default: the smoke test's max_latency."
    )


class _SmokeTest(Strict):
    max_latency: Latency | None = Field(None, description="A slower answer is a failure.")
    expect_shape: tuple[Annotated[int, Field(ge=-1)], ...] | None = Field(
        None, min_length=1, max_length=8, description="Shape of the predictions, rows first; -1 stands for any length."
    )


class InputExampleTest(_SmokeTest):
    """The request is the input example that was logged with the model."""

    source: Literal["input_example"] = Field("input_example", alias="from", description="Where the request comes from.")


class RequestTest(_SmokeTest):
    """The request stands in the declaration."""

    source: Literal["request"] = Field("request", alias="from", description="Where the request comes from.")
    request: JsonObject = Field(
        min_length=1, description="Body of the request, in the words of the service's protocol."
    )


#: One prediction that a new version must answer before it gets traffic.
SmokeTest = Annotated[
    Annotated[InputExampleTest, kind("input_example")] | Annotated[RequestTest, kind("request")],
    chosen_by("from", "input_example", "request", default="input_example"),
]


class Scale(Strict):
    """What the number of pods follows, between min_replicas and max_replicas."""

    metric: Literal["cpu", "memory", "concurrency", "rps"] = Field(
        description="Use of cpu or memory in percent, requests at a time, or requests per second, of one pod."
    )
    target: int = Field(ge=1, le=1_000_000, description="What one pod should have of it.")

    @model_validator(mode="after")
    def _percent(self) -> Scale:
        if self.metric in ("cpu", "memory") and self.target > 100:
            raise refuse_together(
                f"is a percentage of the pod's {self.metric}, which is its limit too; use 1 to 100", field="target"
            )
        return self


class Probe(Strict):
    """One prediction at regular times, which tells whether the service is available."""

    every: Annotated[Duration, duration_between(_MINUTE, _DAY)] = Field(
        timedelta(minutes=5), description="Time between two predictions.", json_schema_extra={"default": "5m"}
    )


class PayloadLogger(Strict):
    """Copies of what the service is asked and answers, sent as CloudEvents."""

    url: Link = Field(description="Where they are sent; the environment lists what is allowed.")
    mode: Literal["all", "request", "response"] = Field("all", description="What is copied.")


class OnlineSpec(Strict):
    """A KServe InferenceService that answers requests."""

    min_replicas: int = Field(1, ge=0, le=1000, description="Pods that always run.")
    max_replicas: int | None = Field(
        None, ge=1, le=1000, description="Pods under load; default: as many as min_replicas."
    )
    scale: Scale | None = None
    image: Image | None = Field(None, description="Serving image; without it the platform's standard runtime serves.")
    runtime: DnsLabel | None = Field(
        None, description="ServingRuntime of the cluster instead of an image; the environment lists what is allowed."
    )
    protocol: Literal["v1", "v2"] = Field("v2", description="Protocol of predictions: KServe v1, or open inference.")
    env: Mapping[OwnVariable, Text] = Field(
        default_factory=dict, max_length=200, description="Plain environment variables; never secrets."
    )
    resources: Resources = Field(default_factory=Resources)
    schedule: OptionalSchedule = Field(
        None, description="When the model is chosen and deployed anew; without it only when triggered."
    )
    when: AssetUris = Field(
        (), max_length=20, description="URIs of Airflow assets that deploy anew, once each of them has been updated."
    )
    timeout: Annotated[Duration, duration_between(_SECOND, _DAY)] = Field(
        timedelta(minutes=15),
        description="A deployment that does not answer by then has failed.",
        json_schema_extra={"default": "15m"},
    )
    on_failure: Literal["keep", "rollback", "delete_if_created"] = Field(
        "rollback",
        description="After a failed deployment: leave it, bring the former version back, or delete a service that was "
        "not there before.",
    )
    canary: Canary | None = None
    smoke_test: SmokeTest | None = Field(
        None, description="One prediction that a new version must answer before it gets traffic."
    )
    probe: Probe | None = None
    logger: PayloadLogger | None = None
    notify: Notify = Field(default_factory=Notify)
    extends: Slug | None = Field(None, description="Template of the platform that adds to the pod.")

    @model_validator(mode="after")
    def _check_together(self) -> OnlineSpec:
        if self.max_replicas is not None and self.max_replicas < self.min_replicas:
            raise refuse_together(
                f"is less than min_replicas ({self.min_replicas}); raise it or lower min_replicas", field="max_replicas"
            )
        if self.scale is not None and (self.max_replicas or 0) <= self.min_replicas:
            raise refuse_together("needs room; set max_replicas above min_replicas, or remove scale", field="scale")
        if self.schedule is not None and self.when:
            raise refuse_together(
                "stands beside schedule, but one thing starts a deployment; keep one (an environment takes one away "
                "with null)",
                field="when",
            )
        if self.runtime is not None and self.image is not None:
            raise refuse_together("stands beside image, but one thing serves; keep one", field="runtime")
        return self
