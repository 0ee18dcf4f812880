"""What an environment allows a declaration to ask for.

Decides, for one merged model in one environment, which of the platform's rules it breaks; default deny. Works on
values alone, so that the command line, the DAG factory and an operator each enforce it by themselves. Where a value was
written is the loader's knowledge. No I/O.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from airflow_mlops_provider.declaration.batch_policy import TEMPLATED_FIELDS, check_batch
from airflow_mlops_provider.declaration.environment import Environment
from airflow_mlops_provider.declaration.jobs import batch_jobs, job_path
from airflow_mlops_provider.declaration.model import ModelDeclaration
from airflow_mlops_provider.declaration.online_policy import check_online
from airflow_mlops_provider.declaration.rules import Violation, listed, texts
from airflow_mlops_provider.declaration.template import has_template
from airflow_mlops_provider.declaration.wording import quoted

__all__ = ["Violation", "check_names", "check_policy"]


def check_policy(declaration: ModelDeclaration, environment: Environment) -> list[Violation]:
    """Return every rule of the environment that the merged declaration breaks."""
    names = {"experiment": declaration.experiment, "registered_model": declaration.registered_model}
    found: list[Violation] = [*check_names(names, environment), *_check_fixed_texts(declaration)]
    for kind, batch in batch_jobs(declaration).items():
        found += check_batch(batch, environment, job_path(kind))
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


def _check_fixed_texts(declaration: ModelDeclaration) -> Iterator[Violation]:
    """Refuse templates wherever they are not meant: what is not checked here, Airflow might render."""
    templated = set(TEMPLATED_FIELDS)
    rest = declaration.model_dump(exclude={"batch": templated, "batch_jobs": {"__all__": templated}})
    for path, text in texts(rest, ()):
        if has_template(text):
            yield Violation(path, "templates are not allowed here; write the value out", "jinja")
