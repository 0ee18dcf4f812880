"""The operators' own wall: what the platform allows is asked again just before something is created.

Decides which file is asked: the one that Airflow's ``[mlops] environments_file`` names; without it, the one under which
the DAG factory built the task's DAG in this very process. A task that the DAG factory made may name no environment but
those of the file; one written by hand may. Reads that file while a task runs, never while a DAG is parsed.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlops_provider.exceptions import PolicyError, Problem

if TYPE_CHECKING:
    from airflow_mlops_provider.declaration.environment import Environment
    from airflow_mlops_provider.declaration.policy import Violation

log = logging.getLogger(__name__)

# A worker parses the DAG before it runs a task of it. Not an argument of the operators: where a checkout lies would
# then be a part of the DAG, and differ from one machine to the next.
_built_under: dict[str, Path] = {}


def remember_environments_file(dag_ids: Iterable[str], file: Path) -> None:
    """Note the platform's file under which DAGs were built, for their tasks in this process."""
    _built_under.update(dict.fromkeys(dag_ids, file))


def find_platform_settings(environment: str, *, task: str, dag_id: str, declared: bool) -> Environment | None:
    """Return what the platform says of *environment*, or None where it says nothing and need not.

    :param task: as messages call it.
    :param declared: the task comes of a declaration, so its environment has to exist.
    :raises DeclarationError: the file cannot be used: nothing is allowed then.
    :raises PolicyError: a declared task names an environment that the file does not have.
    """
    from airflow.sdk import conf

    file = conf.get("mlops", "environments_file", fallback=None) or _built_under.get(dag_id)
    if not file:
        if declared:
            log.warning("No rule of the platform was asked: [mlops] environments_file is not set, see docs/policy.md")
        return None
    from airflow_mlops_provider.declaration.loader import load_environments
    from airflow_mlops_provider.declaration.policy import Violation
    from airflow_mlops_provider.declaration.wording import advice, quoted

    environments = load_environments(file)
    if environment not in environments and declared:
        message = f"{quoted(environment)} is unknown; {advice(environment, list(environments))}"
        refuse_violations([Violation(("environment",), message, "environment")], environment, task=task)
    return environments.get(environment)


def refuse_violations(violations: Sequence[Violation], environment: str, *, task: str) -> None:
    """Raise if there are any.

    :raises PolicyError: names the task, and for each the field and the rule.
    """
    if violations:
        raise PolicyError(
            [
                Problem(task, 0, 0, ".".join(map(str, item.path)), f"in '{environment}': {item.message}", item.rule)
                for item in violations
            ]
        )
