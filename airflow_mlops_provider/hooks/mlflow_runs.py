"""Which run a tag or «the latest» means: experiments, filters, ties, and what to say when there is none.

Decides rules 2 and 5 of the contract: ACTIVE and FINISHED runs only, newest start first, a tie is an error. Leaves
the step from run to model to :mod:`.mlflow_models`. No I/O: functions are conversations (:mod:`.mlflow_api`).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_mlops_provider.declaration.selector import ModelSelector
from airflow_mlops_provider.exceptions import AmbiguousModelError, ModelNotFoundError
from airflow_mlops_provider.hooks.mlflow_api import ApiError, Conversation, call, get, post, rows
from airflow_mlops_provider.hooks.mlflow_cache import ModelCache

GIT_COMMIT_TAG = "mlflow.source.git.commit"
#: Written by MLflow 2 clients only: a JSON list, one entry for each ``log_model``.
HISTORY_TAG = "mlflow.log-model.history"

#: Two are enough to see a tie or a second candidate.
_ENOUGH = 2
_PAGE = 100
_MOST_LISTED = 10
#: mlflow/utils/validation.py (3.17): other keys cannot be set. ``\w`` is any letter, Cyrillic included.
_TAG_KEY = re.compile(r"[/\w.\- :]+")


@dataclass(frozen=True, kw_only=True)
class Run:
    """The part of MLflow's run that resolution reads."""

    run_id: str
    experiment_id: str
    status: str
    deleted: bool
    start_time: int
    artifact_uri: str
    tags: Mapping[str, str]
    model_ids: tuple[str, ...]

    @property
    def git_commit(self) -> str | None:
        return self.tags.get(GIT_COMMIT_TAG)

    @property
    def state(self) -> str:
        return "deleted" if self.deleted else self.status


def read_run(row: Mapping[str, Any]) -> Run:
    info = row.get("info") or {}
    return Run(
        run_id=str(info.get("run_id") or info.get("run_uuid") or ""),
        experiment_id=str(info.get("experiment_id", "")),
        status=str(info.get("status", "")),
        deleted=info.get("lifecycle_stage") == "deleted",
        start_time=int(info.get("start_time") or 0),
        artifact_uri=str(info.get("artifact_uri", "")),
        tags={str(tag.get("key")): str(tag.get("value", "")) for tag in rows(row.get("data") or {}, "tags")},
        model_ids=tuple(dict.fromkeys(str(out["model_id"]) for out in rows(row.get("outputs") or {}, "model_outputs"))),
    )


def get_run(run_id: str) -> Conversation[Run]:
    """Ask for one run, deleted or not.

    :raises ModelNotFoundError: there is none.
    """
    try:
        data = yield from call(get("runs/get", f"run {run_id}", run_id=run_id))
    except ApiError as error:
        if error.is_not_found:
            raise ModelNotFoundError(
                f"run {run_id} does not exist; copy the run ID from the run's page in MLflow"
            ) from error
        raise
    return read_run(data.get("run") or {})


def find_run(selector: ModelSelector, cache: ModelCache) -> Conversation[Run]:
    """Find the run that ``run_tag`` or ``latest_run`` means. One request where the experiment is known, otherwise two.

    :raises ModelNotFoundError: no experiment or no finished run. :raises AmbiguousModelError: a tie, or several and
        ``fail``.
    """
    name = str(selector.experiment)
    tags = {str(key): str(value) for key, value in (selector.run_tag or {}).items()}
    _check_keys(tags)
    known = cache.experiment_id(name)
    experiment_id = known or (yield from _experiment_id(name, cache))
    found = yield from _search(experiment_id, tags, str(selector))
    if not found and known:  # deleted, or deleted and made anew, since it was remembered
        cache.forget_experiment(name)
        experiment_id = yield from _experiment_id(name, cache)
        if experiment_id != known:
            found = yield from _search(experiment_id, tags, str(selector))
    if not found:
        raise (yield from _explain_none(selector, experiment_id, tags))
    if len(found) > 1:
        yield from _check_ambiguous(selector, experiment_id, tags, found)
    return found[0]


def filter_of(tags: Mapping[str, str], *, finished: bool = True) -> str:
    """Write MLflow's filter. It has no escapes: what quotes cannot hold becomes LIKE with wildcards, compared again."""
    clauses = ["attributes.status = 'FINISHED'"] if finished else []
    return " and ".join([*clauses, *(f"tags.`{key}` {_comparison(value)}" for key, value in tags.items())])


def _comparison(value: str) -> str:
    if "\\" in value or ("'" in value and '"' in value):
        return "LIKE '" + re.sub(r"['\"\\]", "_", value) + "'"
    quote = '"' if "'" in value else "'"
    return f"= {quote}{value}{quote}"


def _check_keys(tags: Mapping[str, str]) -> None:
    for key in tags:
        if not _TAG_KEY.fullmatch(key):
            raise ModelNotFoundError(
                f"no run can carry the tag {key!r}: MLflow allows letters, digits and _ - . / : and spaces in a "
                f"tag's name"
            )


def _experiment_id(name: str, cache: ModelCache) -> Conversation[str]:
    try:
        data = yield from call(get("experiments/get-by-name", f"experiment {name!r}", experiment_name=name))
    except ApiError as error:
        if not error.is_not_found:
            raise
        near = yield from _near_experiments(name)
        raise ModelNotFoundError(f"experiment {name!r} does not exist; {near}") from error
    experiment = data.get("experiment") or {}
    experiment_id = str(experiment.get("experiment_id", ""))
    if experiment.get("lifecycle_stage") == "deleted":
        raise ModelNotFoundError(
            f"experiment {name!r} (ID {experiment_id}) is deleted; restore it (mlflow experiments restore -x "
            f"{experiment_id}) "
            "or name another experiment"
        )
    cache.remember_experiment(name, experiment_id)
    return experiment_id


def _near_experiments(name: str) -> Conversation[str]:
    data = yield from call(post("experiments/search", "experiments", max_results=1000, view_type="ACTIVE_ONLY"))
    names = [str(row.get("name")) for row in rows(data, "experiments")]
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if near:
        return "did you mean " + " or ".join(map(repr, near)) + "?"
    return "check its name in MLflow (the user of this connection may also lack READ permission on it)"


def _search(
    experiment_id: str, tags: Mapping[str, str], subject: str, *, most: int = _ENOUGH
) -> Conversation[list[Run]]:
    """Collect the newest runs until there are ``most``. Pages only where LIKE lets through what is not meant."""
    exact = " LIKE " not in filter_of(tags)
    found: list[Run] = []
    token = ""
    while True:
        body: dict[str, Any] = {
            "experiment_ids": [experiment_id],
            "filter": filter_of(tags),
            "run_view_type": "ACTIVE_ONLY",
            "order_by": ["attributes.start_time DESC"],
            "max_results": most if exact else _PAGE,
        }
        data = yield from call(post("runs/search", subject, **body, **({"page_token": token} if token else {})))
        found += [run for run in map(read_run, rows(data, "runs")) if _has(run, tags)]
        token = str(data.get("next_page_token") or "")
        if len(found) >= most or not token:
            return found[:most]


def _has(run: Run, tags: Mapping[str, str]) -> bool:
    return all(run.tags.get(key) == value for key, value in tags.items())


def _check_ambiguous(
    selector: ModelSelector, experiment_id: str, tags: Mapping[str, str], found: Sequence[Run]
) -> Conversation[None]:
    """``fail`` concerns tags only: that the latest run is not the only one is what «latest» means."""
    tie = found[0].start_time == found[1].start_time
    if not tie and (selector.latest_run or selector.on_ambiguous == "latest"):
        return
    every = yield from _search(experiment_id, tags, str(selector), most=_MOST_LISTED + 1)
    ids = [run.run_id for run in every if not tie or run.start_time == found[0].start_time]
    listed = ", ".join(ids[:_MOST_LISTED]) + (" and more" if len(ids) > _MOST_LISTED else "")
    why = "started at the same millisecond" if tie else "carry the tag, and on_ambiguous is 'fail'"
    advice = "remove the tag from all but one" if tags else "choose one of them by tag or URI"
    raise AmbiguousModelError(
        f"{selector}: {len(ids[:_MOST_LISTED])} finished runs {why}: {listed}; {advice}", candidates=ids
    )


def _explain_none(
    selector: ModelSelector, experiment_id: str, tags: Mapping[str, str]
) -> Conversation[ModelNotFoundError]:
    """One more request, on the way to the error only: are there runs that nearly fit?"""
    body: dict[str, Any] = {
        "experiment_ids": [experiment_id],
        "filter": filter_of(tags, finished=False),
        "run_view_type": "ALL",
        "order_by": ["attributes.start_time DESC"],
        "max_results": _MOST_LISTED,
    }
    data = yield from call(post("runs/search", str(selector), **body))
    near = [f"{run.run_id} ({run.state})" for run in map(read_run, rows(data, "runs")) if _has(run, tags)]
    text = f"{selector}: no FINISHED run" + (" has the tag" if tags else "")
    if near:
        text += "; only " + ", ".join(near)
    if not tags:
        return ModelNotFoundError(f"{text}; finish a training run in experiment {selector.experiment!r} first")
    key, value = next(iter(tags.items()))
    return ModelNotFoundError(
        f"{text}; tag a FINISHED run of experiment {selector.experiment!r} (ID {experiment_id}), "
        f"e.g. mlflow.MlflowClient().set_tag(run_id, {key!r}, {value!r})"
    )
