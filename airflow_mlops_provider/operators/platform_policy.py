"""The operators' own wall: what the platform allows is asked again just before something is created.

Decides when there is a wall: Airflow's ``[mlops] environments_file`` is configured, and the task names one of its
environments. A task that the DAG factory made may name no other; one written by hand may. Reads that file while a task
runs, never while a DAG is parsed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from airflow_mlops_provider.exceptions import PolicyError, Problem

if TYPE_CHECKING:
    from airflow_mlops_provider.declaration.environment import Environment
    from airflow_mlops_provider.declaration.policy import Violation


def find_platform_settings(environment: str, *, task: str, declared: bool) -> Environment | None:
    """Return what the platform says of *environment*, or None where it says nothing and need not.

    :param task: as messages call it.
    :param declared: the task comes of a declaration, so its environment has to exist.
    :raises DeclarationError: the configured file cannot be used: nothing is allowed then.
    :raises PolicyError: a declared task names an environment that the file does not have.
    """
    from airflow.sdk import conf

    file = conf.get("mlops", "environments_file", fallback=None)
    if not file:
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
