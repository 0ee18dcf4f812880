"""From a run, a registered version or a model ID to one immutable artifact with a digest.

Decides rule 3 of the contract: MLflow 3 logged models, else the ``mlflow.log-model.history`` tag of MLflow 2; several
need a name; the ``MLmodel`` file must exist. Leaves the choice of the run to :mod:`.mlflow_runs` and of the way to
:mod:`.mlflow_resolve`. No I/O: functions are conversations (:mod:`.mlflow_api`).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_mlops_provider.exceptions import AmbiguousModelError, ModelNotFoundError, TransientError
from airflow_mlops_provider.hooks.mlflow_api import (
    ApiError,
    Conversation,
    Request,
    call,
    fetch,
    get,
    logged_model_file,
    post,
    rows,
    run_file,
)
from airflow_mlops_provider.hooks.mlflow_cache import ModelCache, ModelFacts
from airflow_mlops_provider.hooks.mlflow_runs import HISTORY_TAG, Run

MODEL_FILE = "MLmodel"
_UNUSABLE = {"LOGGED_MODEL_PENDING": "is not completely uploaded", "LOGGED_MODEL_UPLOAD_FAILED": "failed to upload"}


@dataclass(frozen=True, kw_only=True)
class LoggedModel:
    """The part of MLflow 3's logged model that resolution reads."""

    model_id: str
    name: str
    artifact_uri: str
    run_id: str | None
    experiment_id: str | None
    status: str


def read_logged_model(row: Mapping[str, Any]) -> LoggedModel:
    info = row.get("info") or {}
    return LoggedModel(
        model_id=str(info.get("model_id", "")),
        name=str(info.get("name", "")),
        artifact_uri=str(info.get("artifact_uri", "")),
        run_id=info.get("source_run_id") or None,
        experiment_id=str(info["experiment_id"]) if info.get("experiment_id") else None,
        status=str(info.get("status", "")),
    )


def model_of_run(
    run: Run, wanted: str | None, cache: ModelCache, *, subject: str
) -> Conversation[tuple[str, ModelFacts]]:
    """Return URI and facts of the run's model.

    :param wanted: name or ID, where the run may have several.
    :param subject: what was asked for, to begin messages with.
    :raises ModelNotFoundError: the run has no such model. :raises AmbiguousModelError: it has several, none is named.
    """
    history = _history(run)
    who = f"{subject}: run {run.run_id}"
    if run.model_ids:
        model = yield from _pick_logged(run, wanted, cache, also=history, who=who)
        if model is not None:
            facts = yield from logged_model_facts(model, cache)
            return f"models:/{facts.model_id}", facts
    path = _pick_path(wanted, history, who)
    return f"runs:/{run.run_id}/{path}", (yield from run_model_facts(run, path, cache, key=history.get(path)))


def logged_model_facts(model: str | LoggedModel, cache: ModelCache) -> Conversation[ModelFacts]:
    """Ask for what never changes about a logged model: two requests for one never seen, none afterwards."""
    model_id = model if isinstance(model, str) else model.model_id
    if known := cache.model(model_id):
        return known
    info = (yield from _get_logged_model(model)) if isinstance(model, str) else model
    subject = f"model {info.name!r} ({model_id})" + (f" of run {info.run_id}" if info.run_id else "")
    if info.status in _UNUSABLE:
        raise ModelNotFoundError(f"{subject} {_UNUSABLE[info.status]}; log it again, or choose another run")
    content = yield from fetch_mlmodel(logged_model_file(model_id, MODEL_FILE, subject))
    facts = ModelFacts(
        name=info.name,
        source_uri=_folder(info.artifact_uri),
        digest=digest_of(content),
        model_id=model_id,
        run_id=info.run_id,
        experiment_id=info.experiment_id,
    )
    cache.remember_model(model_id, facts)
    return facts


def run_model_facts(run: Run, path: str, cache: ModelCache, *, key: str | None) -> Conversation[ModelFacts]:
    """Ask the same about a model in a run's own artifacts. Without ``key``, its identity, nothing is remembered."""
    if key and (known := cache.model((run.run_id, path, key))):
        return known
    subject = f"model {path!r} of run {run.run_id}"
    content = yield from fetch_mlmodel(run_file(run.run_id, f"{path}/{MODEL_FILE}", subject))
    facts = ModelFacts(
        name=path.rpartition("/")[2],
        source_uri=_folder(f"{run.artifact_uri}/{path}"),
        digest=digest_of(content),
        run_id=run.run_id,
        experiment_id=run.experiment_id,
        git_commit=run.git_commit,
    )
    if key:
        cache.remember_model((run.run_id, path, key), facts)
    return facts


def fetch_mlmodel(request: Request) -> Conversation[bytes]:
    """Fetch a model's ``MLmodel`` file.

    :raises ModelNotFoundError: it is not there, or is none. :raises TransientError: the server cannot read its store.
    """
    try:
        content = yield from fetch(request)
    except ApiError as error:
        if not error.is_not_found:
            raise
        raise _no_mlmodel(request) from error
    except TransientError as error:
        if (yield from _is_absent(request)):
            raise _no_mlmodel(request) from error
        raise TransientError(f"{error} (it must be able to read its artifact store itself)") from error
    if not re.search(rb"^flavors:", content, re.MULTILINE):
        raise ModelNotFoundError(
            f"{request.subject}: its {MODEL_FILE} file is not one (it lists no flavors); log the model again"
        )
    return content


def digest_of(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def field_of(content: bytes, key: str) -> str | None:
    """Read one plain top-level line of an ``MLmodel`` file. Values that YAML quotes or folds are not needed here."""
    found = re.search(rf"^{key}: ([^\s'\"]+)$", content.decode("utf-8", "replace"), re.MULTILINE)
    return found.group(1) if found else None


def _get_logged_model(model_id: str) -> Conversation[LoggedModel]:
    try:
        data = yield from call(get(f"logged-models/{model_id}", f"model {model_id}"))
    except ApiError as error:
        if error.is_not_found:
            raise ModelNotFoundError(
                f"model {model_id} does not exist or is deleted; copy the model ID from its page in MLflow "
                "(an MLflow 2 server has no such models: use runs:/<run id>/<path> or the registry)"
            ) from error
        raise
    return read_logged_model(data.get("model") or {})


def _pick_logged(
    run: Run, wanted: str | None, cache: ModelCache, *, also: Mapping[str, str], who: str
) -> Conversation[str | LoggedModel | None]:
    """Return the ID where that is enough, the model where its name had to be asked for, None where ``also`` has it."""
    if wanted in run.model_ids:
        return wanted
    if len(run.model_ids) == 1:
        known = cache.model(run.model_ids[0])
        if wanted is None or (known is not None and known.name == wanted):
            return run.model_ids[0]
    models = yield from _search_models(run, who)
    if wanted is None:
        raise _ambiguous(who, [f"{model.name} ({model.model_id})" for model in models], [m.model_id for m in models])
    named = [model for model in models if model.name == wanted]
    if not named and wanted in also:
        return None
    if not named:
        listed = ", ".join(f"{model.name} ({model.model_id})" for model in models)
        raise ModelNotFoundError(f"{who} has no model {wanted!r}; it has {listed}")
    if len(named) > 1:
        ids = [model.model_id for model in named]
        raise AmbiguousModelError(
            f"{who} has {len(ids)} models named {wanted!r}: {', '.join(ids)}; name one by its ID, or log "
            f"them by different names",
            candidates=ids,
        )
    return named[0]


def _search_models(run: Run, who: str) -> Conversation[list[LoggedModel]]:
    body: dict[str, Any] = {
        "experiment_ids": [run.experiment_id],
        "filter": f"source_run_id = '{run.run_id}'",
        "max_results": 50,
    }
    data = yield from call(post("logged-models/search", f"models of run {run.run_id}", **body))
    found = [model for model in map(read_logged_model, rows(data, "models")) if model.model_id in run.model_ids]
    if not found:
        raise ModelNotFoundError(
            f"{who} names models {', '.join(run.model_ids)}, but none can be read: deleted, or the user "
            f"of this "
            "connection lacks READ permission"
        )
    return sorted(found, key=lambda model: (model.name, model.model_id))


def _history(run: Run) -> dict[str, str]:
    """Read MLflow 2's tag as path → identity. A path logged twice lies in the store once, so the last entry wins."""
    try:
        entries = json.loads(run.tags.get(HISTORY_TAG, "[]"))
    except ValueError:
        entries = []
    found: dict[str, str] = {}
    for entry in rows({"history": entries}, "history"):
        if path := str(entry.get("artifact_path", "")).strip("/"):
            found[path] = str(entry.get("model_uuid") or entry.get("utc_time_created") or "")
    return found


def _pick_path(wanted: str | None, history: Mapping[str, str], who: str) -> str:
    if wanted in history:
        return str(wanted)
    if not history:
        raise ModelNotFoundError(
            f"{who} has no model; log one with mlflow.<flavor>.log_model(model, name='model') and tag "
            f"that run "
            "(if the run's page shows one, the user of this connection lacks READ permission on it)"
        )
    if wanted is not None:
        raise ModelNotFoundError(f"{who} has no model {wanted!r}; it has {', '.join(sorted(history))}")
    if len(history) > 1:
        raise _ambiguous(who, sorted(history), sorted(history))
    return next(iter(history))


def _ambiguous(who: str, listed: Sequence[str], candidates: Sequence[str]) -> AmbiguousModelError:
    return AmbiguousModelError(
        f"{who} has {len(listed)} models: {', '.join(listed)}; set logged_model to one of the names",
        candidates=candidates,
    )


def _is_absent(request: Request) -> Conversation[bool]:
    """Whether a listing shows that the file is not there: some stores answer 500 for a missing file."""
    file = request.query.get("path", "")
    if "run_uuid" not in request.query or "/" not in file:
        return False
    folder = file.rpartition("/")[0]
    listing = get("artifacts/list", request.subject, run_id=request.query["run_uuid"], path=folder)
    try:
        data = yield from call(listing)
    except (ApiError, TransientError):
        return False
    return all(row.get("path") != file for row in rows(data, "files"))


def _no_mlmodel(request: Request) -> ModelNotFoundError:
    return ModelNotFoundError(
        f"{request.subject}: the artifact has no {MODEL_FILE} file (never uploaded, or deleted from the store); "
        "log the model again, or choose another run"
    )


def _folder(uri: str) -> str:
    return uri.rstrip("/") + "/"
