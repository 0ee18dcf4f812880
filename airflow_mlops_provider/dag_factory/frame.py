"""What every DAG of a declaration has alike: its ID, tags, owner, a first day, and the assets that start it.

Decides nothing about tasks. Runs while a DAG file is parsed: no network, no clock; Airflow's configuration, once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final

from airflow.sdk import DAG, Asset, timezone

from airflow_mlops_provider.declaration.loader import EnvironmentModel
from airflow_mlops_provider.exceptions import DeclarationError, Problem

#: Airflow wants a first day. Any fixed one does: without ``catchup`` only the latest interval runs.
FIRST_DAY: Final = timezone.convert_to_utc(datetime(2025, 1, 1, tzinfo=UTC))  # what the constructor would make of it
_MAIL_ADDRESS = re.compile(r"[A-Za-z0-9._+-]+@[A-Za-z0-9.-]+")


def open_dag(
    model: EnvironmentModel,
    kind: str,
    *,
    schedule: Any,
    description: str,
    document: str,
    default_args: Mapping[str, Any],
    **more: Any,
) -> DAG:
    """Return the DAG ``<environment>.<model>.<kind>``, without tasks and run parameters.

    :param more: further arguments of the DAG, which go before those that every DAG has.
    """
    return DAG(
        model.dag_id(kind),
        schedule=schedule,
        description=description,
        doc_md=document,
        tags=sorted({"mlops", kind.partition(".")[0], model.environment, model.model, *model.tags}),
        default_args={"owner": model.owner, **default_args},
        owner_links={model.owner: f"mailto:{model.owner}"} if _MAIL_ADDRESS.fullmatch(model.owner) else {},
        **{"start_date": FIRST_DAY, "catchup": False, **_configured_limits(), **more},
    )


@cache
def _configured_limits() -> dict[str, Any]:
    """Return what the constructor would look up in Airflow's configuration anew for every DAG, half of its time."""
    from airflow.sdk import conf

    return {
        "max_active_tasks": conf.getint("core", "max_active_tasks_per_dag"),
        "max_active_runs": conf.getint("core", "max_active_runs_per_dag"),
        "max_consecutive_failed_dag_runs": conf.getint("core", "max_consecutive_failed_dag_runs_per_dag"),
        "disable_bundle_versioning": conf.getboolean("dag_processor", "disable_bundle_versioning"),
    }


def add_params(dag: DAG, params: Mapping[str, Any]) -> None:
    """Put run parameters into a DAG that has its tasks.

    Only then: the constructor, and that of each task, would check the parameters' schemas anew for every DAG, which
    took more than a third of its time. They are constants, and a test checks them.
    """
    for name, param in params.items():
        dag.params[name] = param


def build_assets(model: EnvironmentModel, uris: tuple[str, ...], field: str) -> list[Asset]:
    """Return the assets that start a DAG.

    :param field: where they are declared.
    :raises DeclarationError: a provider has rules of its own for URIs of its scheme, and refuses one.
    """
    try:
        return [Asset(uri=uri) for uri in uris]
    except ValueError as error:
        _, line = model.origin[field]
        raise DeclarationError([Problem(model.file, line, 1, field, f"Airflow refuses it: {error}")]) from error
