"""The DAG factory's one call: declaration files → DAGs.

Decides which files are read, which DAGs are built of them, and how a broken file shows. What a DAG looks like is
decided by the module of its kind. Reads files and Airflow's configuration, nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import conf, get_parsing_context

from airflow_mlops_provider.dag_factory.offer import Offer
from airflow_mlops_provider.declaration.loader import (
    EnvironmentModel,
    find_environments,
    find_repository,
    load_declaration,
    load_environments,
)
from airflow_mlops_provider.exceptions import DeclarationError, Problem
from airflow_mlops_provider.operators.platform_policy import remember_environments_file

if TYPE_CHECKING:
    from airflow.sdk import DAG

    from airflow_mlops_provider.declaration.environment import Environments
    from airflow_mlops_provider.declaration.online_spec import OnlineSpec

    _Loader = Callable[[Path], tuple[EnvironmentModel, ...]]

_SUFFIXES = (".yaml", ".yml")


def load_model_dags(
    path: str | Path,
    *,
    environments: str | Path | None = None,
    allowed: Sequence[str] | None = None,
    preview: bool = False,
    shown_as: str | None = None,
    globals: MutableMapping[str, Any] | None = None,
) -> dict[str, DAG]:
    """Return the DAGs of one declaration, or of all in a directory.

    A broken file given by name raises, and Airflow shows the message as an import error of the DAG file. In a directory
    a broken file harms none of the others: it becomes a DAG that says what is wrong and cannot run. So does each of two
    files that would make the same DAG.

    Relative paths start at the DAG file whose *globals* are given, otherwise at the working directory.

    :param path: a YAML file, or a directory that is searched for ``*.yaml``.
    :param environments: the platform's ``environments.yaml``; without it, what ``[mlops] environments_file`` in
        Airflow's configuration names, otherwise the nearest one above *path*.
    :param allowed: build DAGs for these environments only. A file that names others as well is right; one that names
        none of these is refused.
    :param preview: the declarations come of an unreviewed branch: build DAGs for ephemeral environments only, and never
        look for ``environments.yaml`` beside the declarations. Without it ephemeral environments are left out.
    :param shown_as: how messages and DAGs call the file; default: its path in the repository.
    :param globals: the DAG file's ``globals()``; the DAGs are put there, where Airflow looks for them.
    :return: by dag_id.
    :raises DeclarationError: the named file cannot be used; every problem with file, line and column.
    """
    place = _absolute(path, globals)
    environments = _absolute(environments, globals) if environments else None
    source = _Source(environments, Offer(preview=preview, names=tuple(allowed) if allowed is not None else None))
    dags = _dags_in(place, source) if place.is_dir() else _dags_of(place, source, shown_as)
    if globals is not None:
        globals.update({dag_id.replace(".", "__"): dag for dag_id, dag in dags.items()})
    return dags


@dataclass(frozen=True, slots=True)
class _Source:
    """What holds for every file of one call.

    :param environments: the platform's file, where the call names one.
    """

    environments: Path | None
    offer: Offer


def _absolute(path: str | Path, module: MutableMapping[str, Any] | None) -> Path:
    base = Path(str(module["__file__"])).parent if module and module.get("__file__") else Path.cwd()
    return base / path


def _dags_of(file: Path, source: _Source, shown_as: str | None) -> dict[str, DAG]:
    shown = shown_as or _path_in_repository(file)
    return _build(_load(file, shown, source, _environments_for(file, shown, source)))


def _dags_in(directory: Path, source: _Source) -> dict[str, DAG]:
    files = sorted(
        file for suffix in _SUFFIXES for file in directory.rglob(f"*{suffix}") if file.stem != "environments"
    )
    environments: dict[Path, Environments] = {}  # looked up once for each directory

    def load(file: Path) -> tuple[EnvironmentModel, ...]:
        shown = _path_in_repository(file)
        if file.parent not in environments:
            environments[file.parent] = _environments_for(file, shown, source)
        return _load(file, shown, source, environments[file.parent])

    wanted = get_parsing_context().dag_id
    return (_wanted_dag(wanted, files, load) if wanted else {}) or _all_dags(directory, files, load)


def _wanted_dag(dag_id: str, files: Sequence[Path], load: _Loader) -> dict[str, DAG]:
    """Return the one DAG that a worker asks for, without reading all the other files; none where it is not found.

    That no other file would make the same DAG was seen when the DAG processor built it for the scheduler.
    """
    for file in _likely_files(dag_id, files):
        try:
            dags = _build(load(file))
        except DeclarationError:
            continue
        if dags:
            return dags
    return {}


def _likely_files(dag_id: str, files: Sequence[Path]) -> Iterator[Path]:
    """Yield the files called like the model, then those that hold its name."""
    name = dag_id.split(".")[1] if "." in dag_id else ""
    yield from (file for file in files if file.stem == name)
    if name:
        yield from (file for file in files if file.stem != name and name.encode() in file.read_bytes())


def _all_dags(directory: Path, files: Sequence[Path], load: _Loader) -> dict[str, DAG]:
    loaded: dict[Path, tuple[EnvironmentModel, ...]] = {}
    problems: dict[Path, str] = {}
    for file in files:
        try:
            loaded[file] = load(file)
        except DeclarationError as error:
            problems[file] = str(error)
    problems |= _duplicates(loaded)
    dags: dict[str, DAG] = {}
    for file in loaded.keys() - problems.keys():
        try:
            dags |= _build(loaded[file])
        except DeclarationError as error:
            problems[file] = str(error)
    return dict(sorted(dags.items())) | _notices(directory, problems)


def _duplicates(loaded: Mapping[Path, tuple[EnvironmentModel, ...]]) -> dict[Path, str]:
    """Return the files that would overwrite one another's DAGs. Nobody can say which was meant, so none runs."""
    from airflow_mlops_provider.declaration.collection import duplicate_problems, names_of

    by_name = {models[0].file: file for file, models in loaded.items()}
    names = [names_of(models) for models in loaded.values()]
    return {by_name[problem.file]: str(problem) for problem in duplicate_problems(names, same_dags=True)}


def _notices(directory: Path, problems: Mapping[Path, str]) -> dict[str, DAG]:
    from airflow_mlops_provider.dag_factory.notice import build_notice_dag

    dags: dict[str, DAG] = {}
    for file in sorted(problems):
        name = file.relative_to(directory)
        shown = name.with_suffix("") if name.suffix == _SUFFIXES[0] else name
        dag = build_notice_dag(file, problems[file], name=shown.as_posix())
        dags[dag.dag_id] = dag
    return dags


def _build(models: tuple[EnvironmentModel, ...]) -> dict[str, DAG]:
    # A worker that runs one task asks for one DAG.
    wanted = get_parsing_context().dag_id
    dags: dict[str, DAG] = {}
    for model in models:
        for kind, batch in model.batch_jobs().items():
            dag_id = model.dag_id(kind)
            if wanted in (None, dag_id):
                from airflow_mlops_provider.dag_factory.batch import build_batch_dag

                dags[dag_id] = build_batch_dag(model, batch, kind)
        if model.online is not None:
            dags |= _build_online(model, model.online, wanted)
    return dags


def _build_online(model: EnvironmentModel, online: OnlineSpec, wanted: str | None) -> dict[str, DAG]:
    dags: dict[str, DAG] = {}
    dag_id, probe_id = model.dag_id("online"), model.dag_id("probe")
    if wanted in (None, dag_id):
        from airflow_mlops_provider.dag_factory.online import build_online_dag

        dags[dag_id] = build_online_dag(model, online)
    if online.probe is not None and wanted in (None, probe_id):
        from airflow_mlops_provider.dag_factory.probe import build_probe_dag

        dags[probe_id] = build_probe_dag(model, online, online.probe)
    return dags


def _load(file: Path, shown: str, source: _Source, environments: Environments) -> tuple[EnvironmentModel, ...]:
    models = source.offer.select(load_declaration(file, environments, shown_as=shown), environments)
    remember_environments_file((dag_id for model in models for dag_id in model.dag_ids()), Path(environments.file))
    return models


def _path_in_repository(file: Path) -> str:
    """Return *file* as its author knows it. A checkout's own place differs from one bundle version to the next, and
    must not make the DAG differ too."""
    root = _repository_above(file.parent) or str(file.parent.parent)
    return str(file)[len(root) :].lstrip(os.sep).replace(os.sep, "/")


@lru_cache(maxsize=64)
def _repository_above(directory: Path) -> str | None:
    return find_repository(directory)


def _environments_for(file: Path, shown: str, source: _Source) -> Environments:
    """Return the platform's file for *file*, read once for all declarations that are parsed in this process."""
    try:
        place = _environments_file(file, source)
    except DeclarationError as error:
        raise DeclarationError([replace(problem, file=shown) for problem in error.problems]) from None
    try:
        state = os.stat(place)
    except OSError:
        return load_environments(place)  # which says what is wrong
    return _environments_at(str(place), state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=8)
def _environments_at(file: str, mtime_ns: int, size_bytes: int) -> Environments:
    """The file in one state: another time or size is another key."""
    return load_environments(file)


def _environments_file(file: Path, source: _Source) -> Path:
    configured = source.environments or conf.get("mlops", "environments_file", fallback=None) or None
    if configured:
        return Path(configured)
    if source.offer.preview:
        message = "a preview may not bring environments of its own; set [mlops] environments_file in Airflow's settings"
        raise DeclarationError([Problem(str(file), 0, 0, "", message)])
    return find_environments(file)
