"""The DAG factory's one call: declaration files → DAGs.

Decides which files are read, which DAGs are built of them, and how a broken file shows. What a DAG looks like is
decided by the module of its kind. Reads files and Airflow's configuration, nothing else.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import get_parsing_context

from airflow_mlops_provider.declaration.loader import (
    EnvironmentModel,
    find_environments,
    load_declaration,
    load_environments,
)
from airflow_mlops_provider.exceptions import DeclarationError

if TYPE_CHECKING:
    from airflow.sdk import DAG

    from airflow_mlops_provider.declaration.environment import Environments

_SUFFIXES = (".yaml", ".yml")


def load_model_dags(
    path: str | Path,
    *,
    environments: str | Path | None = None,
    globals: MutableMapping[str, Any] | None = None,
) -> dict[str, DAG]:
    """Return the DAGs of one declaration, or of all in a directory.

    A broken file given by name raises, and Airflow shows the message as an import error of the DAG file. In a directory
    a broken file harms none of the others: it becomes a DAG that says what is wrong and cannot run.

    :param path: a YAML file, or a directory that is searched for ``*.yaml``; relative to the DAG file whose *globals*
        are given, otherwise to the working directory.
    :param environments: the platform's ``environments.yaml``; without it, what ``[mlops] environments_file`` in
        Airflow's configuration names, otherwise the nearest one above *path*.
    :param globals: the DAG file's ``globals()``; the DAGs are put there, where Airflow looks for them.
    :return: by dag_id.
    :raises DeclarationError: the named file cannot be used; every problem with file, line and column.
    """
    place = _absolute(path, globals)
    if place.is_dir():
        files = sorted(
            file for suffix in _SUFFIXES for file in place.rglob(f"*{suffix}") if file.stem != "environments"
        )
        dags = {dag_id: dag for file in files for dag_id, dag in _dags_or_notice(file, environments).items()}
    else:
        dags = _dags_of(place, environments)
    if globals is not None:
        globals.update({dag_id.replace(".", "__"): dag for dag_id, dag in dags.items()})
    return dags


def _absolute(path: str | Path, module: MutableMapping[str, Any] | None) -> Path:
    base = Path(str(module["__file__"])).parent if module and module.get("__file__") else Path.cwd()
    return base / path


def _dags_of(file: Path, environments: str | Path | None) -> dict[str, DAG]:
    wanted = get_parsing_context().dag_id
    models = load_declaration(file, _environments_for(file, environments))
    built = [(dag_id, model) for model in models for dag_id in _dag_ids(model) if wanted in (None, dag_id)]
    return {dag_id: _build(model, dag_id) for dag_id, model in built}


def _dag_ids(model: EnvironmentModel) -> list[str]:
    return [model.dag_id("batch")] if model.batch else []


def _build(model: EnvironmentModel, dag_id: str) -> DAG:
    from airflow_mlops_provider.dag_factory.batch import build_batch_dag

    if model.batch is None:  # pragma: no cover - _dag_ids names only what is declared
        raise LookupError(dag_id)
    return build_batch_dag(model, model.batch)


def _dags_or_notice(file: Path, environments: str | Path | None) -> dict[str, DAG]:
    try:
        return _dags_of(file, environments)
    except DeclarationError as error:
        from airflow_mlops_provider.dag_factory.notice import build_notice_dag

        dag = build_notice_dag(file, str(error))
        return {dag.dag_id: dag}


def _environments_for(file: Path, given: str | Path | None) -> Environments:
    from airflow.sdk import conf

    configured = given or conf.get("mlops", "environments_file", fallback=None) or None
    return load_environments(Path(configured) if configured else find_environments(file))
