"""Notifiers: code that tells somebody how a run ended. The platform defines them, a declaration only names them.

Decides what a definition holds. Nothing is imported here; the DAG factory does so, for the models that use one. No I/O.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field, StringConstraints

from airflow_mlops_provider.declaration.field_types import JsonObject, Line, Strict

_CLASS = r"^[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)+$"


class Notifier(Strict):
    """A notifier of Airflow's, and what it is made with."""

    class_path: Annotated[Line, StringConstraints(pattern=_CLASS)] = Field(
        alias="class",
        description="Class with its module: airflow.providers.smtp.notifications.smtp.SmtpNotifier.",
        json_schema_extra={"examples": ["airflow.providers.smtp.notifications.smtp.SmtpNotifier"]},
    )
    arguments: JsonObject = Field(
        default_factory=dict, description="Arguments of the class; what it templates may hold templates. No secrets."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class DefinedNotifier:
    """A notifier that an environment knows.

    :param file: the platform's, as messages call it.
    :param line: where the class is written.
    """

    name: str
    class_path: str
    arguments: Mapping[str, Any]
    file: str
    line: int
    column: int
