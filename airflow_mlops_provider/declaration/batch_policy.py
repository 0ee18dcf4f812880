"""What an environment allows a batch job to ask for.

Decides which rules one job is asked, and which of its texts may hold templates. No I/O.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from airflow_mlops_provider.declaration.batch_spec import BatchSpec
from airflow_mlops_provider.declaration.environment import Environment
from airflow_mlops_provider.declaration.node import Path
from airflow_mlops_provider.declaration.rules import (
    Violation,
    check_declared_image,
    check_listed,
    check_notify,
    check_resources,
    check_uri,
    check_variables,
    commands_allowed,
    listed,
    texts,
)
from airflow_mlops_provider.declaration.template import forbidden_expressions, has_template
from airflow_mlops_provider.declaration.wording import quoted

#: Airflow renders these.
TEMPLATED_FIELDS: Final = ("input", "output", "command", "args", "env")


def check_batch(batch: BatchSpec, environment: Environment, at: Path) -> Iterator[Violation]:
    """Yield every rule of the environment that the job breaks.

    :param at: path of the job in the declaration.
    """
    most = environment.allow.max_partitions
    yield from check_resources(batch.resources, environment, at)
    if batch.partitions > most:
        yield Violation((*at, "partitions"), f"{batch.partitions} are too many; at most {most}", "max_partitions")
    for field in ("input", "output"):
        yield from check_uri(getattr(batch, field), environment, (*at, field))
    yield from _check_templates(batch, environment, at)
    if not commands_allowed(environment):
        yield from _check_no_command(batch, at)
    yield from check_variables(batch.env, environment, (*at, "env"))
    if batch.extends is not None:
        yield from check_listed(batch.extends, environment.allow.templates, (*at, "extends"), "templates")
    yield from check_notify(batch.notify, environment, (*at, "notify"))
    if environment.runner == "kubernetes":
        yield from check_declared_image(batch.image, environment, at)
    elif batch.extends is not None:
        yield Violation((*at, "extends"), "the local runner has no pods; take it away with extends: null", "runner")
    elif batch.command is None and (batch.input is None or batch.output is None):
        yield Violation((*at, "image"), "the local runner starts no images; add input and output", "runner")


def _check_no_command(batch: BatchSpec, at: Path) -> Iterator[Violation]:
    for field in ("command", "args"):
        if getattr(batch, field) is not None:
            yield Violation((*at, field), "is not allowed; remove it and use input and output", "commands")


def _check_templates(batch: BatchSpec, environment: Environment, at: Path) -> Iterator[Violation]:
    allowed = (*environment.allow.jinja, *(f"params.{name}" for name in batch.params))
    for path, text in texts({name: getattr(batch, name) for name in TEMPLATED_FIELDS}, ()):
        for expression in forbidden_expressions(text, allowed):
            # What stands in a variable's value is never repeated: it may be a secret.
            shown = "this template" if path[0] == "env" else f"template {quoted(expression)}"
            hint = f"use {listed(allowed)}" if allowed else "write the value out"
            yield Violation((*at, *path), f"{shown} is not allowed; {hint}", "jinja")
    for name in batch.env:
        if has_template(name):
            yield Violation((*at, "env"), "templates are not allowed in names; write the name out", "jinja")
