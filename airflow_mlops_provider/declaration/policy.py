"""What an environment allows a declaration to ask for.

Decides, for one merged model in one environment, which of the platform's rules it breaks; default deny. Works on
values alone, so that the command line, the DAG factory and an operator each enforce it by themselves. Where a value was
written is the loader's knowledge. No I/O.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from airflow_mlops_provider.declaration.batch_spec import BatchSpec
from airflow_mlops_provider.declaration.environment import Environment
from airflow_mlops_provider.declaration.model import ModelDeclaration
from airflow_mlops_provider.declaration.node import Path
from airflow_mlops_provider.declaration.online_policy import check_online
from airflow_mlops_provider.declaration.rules import (
    Violation,
    check_declared_image,
    check_resources,
    check_uri,
    check_variables,
    commands_allowed,
    listed,
)
from airflow_mlops_provider.declaration.template import forbidden_expressions, has_template
from airflow_mlops_provider.declaration.wording import quoted

__all__ = ["Violation", "check_names", "check_policy"]

_TEMPLATED_FIELDS = ("input", "output", "command", "args", "env")


def check_policy(declaration: ModelDeclaration, environment: Environment) -> list[Violation]:
    """Return every rule of the environment that the merged declaration breaks."""
    names = {"experiment": declaration.experiment, "registered_model": declaration.registered_model}
    found: list[Violation] = [*check_names(names, environment), *_check_fixed_texts(declaration)]
    if declaration.batch is not None:
        found += _check_batch(declaration.batch, environment)
    if declaration.online is not None:
        found += check_online(declaration, declaration.online, environment)
    return found


def check_names(model: Mapping[str, Any], environment: Environment) -> Iterator[Violation]:
    """Yield the names in MLflow that are not allowed.

    :param model: ``{"experiment": …, "registered_model": …}``; other keys do not matter.
    """
    allow = environment.allow
    for field, rule, names in (
        ("experiment", "experiments", allow.experiments),
        ("registered_model", "registered_models", allow.registered_models),
    ):
        value = model.get(field)
        if names is not None and value is not None and not any(_matches(name, value) for name in names):
            yield Violation((field,), f"{quoted(value)} is not allowed; use {listed(names)}", rule)


def _matches(pattern: str, value: str) -> bool:
    return value.startswith(pattern[:-1]) if pattern.endswith("*") else value == pattern


def _check_batch(batch: BatchSpec, environment: Environment) -> Iterator[Violation]:
    allow = environment.allow
    yield from check_resources(batch.resources, environment, "batch")
    if batch.partitions > allow.max_partitions:
        yield Violation(
            ("batch", "partitions"),
            f"{batch.partitions} are too many; at most {allow.max_partitions}",
            "max_partitions",
        )
    for field in ("input", "output"):
        yield from check_uri(getattr(batch, field), environment, ("batch", field))
    yield from _check_templates(batch, allow.jinja)
    if not commands_allowed(environment):
        yield from _check_no_command(batch)
    yield from check_variables(batch.env, environment, ("batch", "env"))
    if environment.runner == "kubernetes":
        yield from check_declared_image(batch.image, environment, "batch")
    elif batch.command is None and (batch.input is None or batch.output is None):
        yield Violation(("batch", "image"), "the local runner starts no images; add input and output", "runner")


def _check_no_command(batch: BatchSpec) -> Iterator[Violation]:
    for field in ("command", "args"):
        if getattr(batch, field) is not None:
            yield Violation(("batch", field), "is not allowed; remove it and use input and output", "commands")


def _check_templates(batch: BatchSpec, allowed: tuple[str, ...]) -> Iterator[Violation]:
    for path, text in _texts({name: getattr(batch, name) for name in _TEMPLATED_FIELDS}, ("batch",)):
        for expression in forbidden_expressions(text, allowed):
            # What stands in a variable's value is never repeated: it may be a secret.
            shown = "this template" if path[1] == "env" else f"template {quoted(expression)}"
            hint = f"use {listed(allowed)}" if allowed else "write the value out"
            yield Violation(path, f"{shown} is not allowed; {hint}", "jinja")


def _check_fixed_texts(declaration: ModelDeclaration) -> Iterator[Violation]:
    """Refuse templates wherever they are not meant: what is not checked here, Airflow might render."""
    rest = declaration.model_dump(exclude={"batch": set(_TEMPLATED_FIELDS)})
    for path, text in _texts(rest, ()):
        if has_template(text):
            yield Violation(path, "templates are not allowed here; write the value out", "jinja")
    for name in declaration.batch.env if declaration.batch else ():
        if has_template(name):
            yield Violation(("batch", "env"), "templates are not allowed in names; write the name out", "jinja")


def _texts(value: object, path: Path) -> Iterator[tuple[Path, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _texts(item, (*path, key))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _texts(item, (*path, index))
