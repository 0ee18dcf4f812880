"""What a data scientist writes into ``models/<name>.yaml``: the schema of ``mlops/v1``.

Decides which fields exist around ``batch`` and ``online``, whose own stand in ``batch_spec`` and ``online_spec``. What
an environment allows is left to ``policy``, reading and merging to ``loader``. Every field may be left out or null
where it has a default, so that the same schema describes an environment's overlay. No I/O.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, field_validator

from airflow_mlops_provider.declaration.batch_spec import BatchSpec
from airflow_mlops_provider.declaration.field_types import Line, Link, Slug, Strict, Text, refuse
from airflow_mlops_provider.declaration.online_spec import OnlineSpec

ApiVersion = Literal["mlops/v1"]


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
    batch_jobs: Mapping[Slug, BatchSpec] = Field(
        default_factory=dict, max_length=20, description="Further batch jobs of the model, by name."
    )
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
