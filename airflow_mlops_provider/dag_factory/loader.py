"""The DAG factory's one call: declaration files → DAGs.

Decides which files are read, which DAGs are built of them, and how a broken file shows. What a DAG looks like is
decided by the module of its kind. Reads files and Airflow's configuration, nothing else.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import replace
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

    Relative paths start at the DAG file whose *globals* are given, otherwise at the working directory.

    :param path: a YAML file, or a directory that is searched for ``*.yaml``.
    :param environments: the platform's ``environments.yaml``; without it, what ``[mlops] environments_file`` in
        Airflow's configuration names, otherwise the nearest one above *path*.
    :param globals: the DAG file's ``globals()``; the DAGs are put there, where Airflow looks for them.
    :return: by dag_id.
    :raises DeclarationError: the named file cannot be used; every problem with file, line and column.
    """
    place = _absolute(path, globals)
    environments = _absolute(environments, globals) if environments else None
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
    # A worker that runs one task asks for one DAG.
    wanted = get_parsing_context().dag_id
    shown = _path_in_repository(file)
    dags: dict[str, DAG] = {}
    for model in _load(file, shown, environments):
        dag_id = model.dag_id("batch")
        if model.batch is not None and wanted in (None, dag_id):
            from airflow_mlops_provider.dag_factory.batch import build_batch_dag

            dags[dag_id] = build_batch_dag(replace(model, file=shown), model.batch)
    return dags


def _load(file: Path, shown: str, environments: str | Path | None) -> tuple[EnvironmentModel, ...]:
    try:
        return load_declaration(file, _environments_for(file, environments))
    except DeclarationError as error:
        problems = [replace(item, file=shown) if item.file == str(file) else item for item in error.problems]
        raise type(error)(problems) from None


def _path_in_repository(file: Path) -> str:
    """Return *file* as its author knows it. A checkout's own place differs from one bundle version to the next, and
    must not make the DAG differ too."""
    root = next((parent for parent in file.parents if (parent / ".git").exists()), file.parent.parent)
    return file.relative_to(root).as_posix()


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
