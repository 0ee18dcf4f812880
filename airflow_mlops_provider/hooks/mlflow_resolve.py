"""Which model a selector means now (:func:`resolve`), and whether a pinned one still is what it was (:func:`verify`).

Decides the rules of the contract's chapter «which model» for the registry and for URIs, and joins them with those for
runs (:mod:`.mlflow_runs`) and for models (:mod:`.mlflow_models`). Leaves sending to :mod:`.mlflow_client`. No I/O:
functions are conversations (:mod:`.mlflow_api`) that yield requests and receive answers.

Requests to choose: by tag or latest 2 (1 with the experiment remembered), by alias, version or URI 1. For a model
never seen in this process its name and its ``MLmodel`` file, for a registered version its run and its ``MLmodel``
file, are 2 more.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from airflow_mlops_provider.declaration.selector import ModelSelector, ResolvedModel
from airflow_mlops_provider.exceptions import AccessDeniedError, ModelChangedError, ModelNotFoundError
from airflow_mlops_provider.hooks.mlflow_api import (
    ApiError,
    Conversation,
    Request,
    call,
    get,
    logged_model_file,
    run_file,
    version_file,
)
from airflow_mlops_provider.hooks.mlflow_cache import ModelCache, ModelFacts
from airflow_mlops_provider.hooks.mlflow_models import (
    MODEL_FILE,
    digest_of,
    fetch_mlmodel,
    field_of,
    logged_model_facts,
    model_of_run,
    run_model_facts,
)
from airflow_mlops_provider.hooks.mlflow_runs import Run, find_run, get_run
from airflow_mlops_provider.hooks.mlflow_settings import MLflowSettings

log = logging.getLogger(__name__)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def resolve(
    selector: ModelSelector, settings: MLflowSettings, cache: ModelCache, *, now: Callable[[], str] = _now
) -> Conversation[ResolvedModel]:
    """Find the one model that a selector means at this moment.

    :raises ModelNotFoundError: nothing answers. :raises AmbiguousModelError: several do.
    :raises AccessDeniedError: 401 or 403. :raises NotMLflowError: it is no MLflow server. :raises TransientError: try
        later.
    """
    version: str | None = None
    run: Run | None = None
    kind, name, reference = _way(selector)
    if kind == "registry":
        uri, version, facts = yield from _registered(name, reference, cache)
    elif kind == "model":
        facts = yield from logged_model_facts(reference, cache)
        run = (yield from _active_run(facts.run_id, selector)) if facts.run_id else None
        uri = f"models:/{reference}"
    elif kind == "run":
        run = yield from _active_run(name, selector)
        if reference:
            uri, facts = yield from _model_at(run, reference, cache)
        else:
            uri, facts = yield from model_of_run(run, selector.logged_model, cache, subject=str(selector))
    else:
        run = yield from find_run(selector, cache)
        uri, facts = yield from model_of_run(run, selector.logged_model, cache, subject=str(selector))
    run_id, experiment_id = (run.run_id, run.experiment_id) if run else (facts.run_id, facts.experiment_id)
    return ResolvedModel(
        uri=uri,
        source_uri=facts.source_uri,
        run_id=run_id,
        experiment_id=experiment_id,
        model_id=facts.model_id,
        name=facts.name,
        version=version,
        digest=facts.digest,
        git_commit=run.git_commit if run else facts.git_commit,
        run_url=settings.run_page_url(experiment_id, run_id) if run_id and experiment_id else None,
        resolved_at=now(),
    )


def verify(resolved: ResolvedModel) -> Conversation[None]:
    """Check that a pinned model is still what it was. A registered version outlives its run; other models do not.

    :raises ModelChangedError: the run is deleted, the model or its ``MLmodel`` file is gone, or the file differs.
    """
    try:
        if resolved.run_id and not resolved.version:
            run = yield from get_run(resolved.run_id)
            if run.deleted:
                raise ModelChangedError(
                    f"{resolved.uri}: its run {run.run_id} was deleted after this task had pinned the model; "
                    "restore the run, or clear the task to choose again"
                )
        content = yield from fetch_mlmodel(_mlmodel_request(resolved))
    except ModelNotFoundError as error:
        raise ModelChangedError(
            f"{resolved.uri} was pinned by this task and is gone: {error}; clear the task to choose again"
        ) from error
    if digest_of(content) != resolved.digest:
        raise ModelChangedError(
            f"{resolved.uri}: its {MODEL_FILE} file is another one than when this task pinned it "
            f"({digest_of(content)} instead of "
            f"{resolved.digest}); clear the task to choose again"
        )


def _way(selector: ModelSelector) -> tuple[str, str, str]:
    """Return kind, name and reference. ``@alias`` and a bare version are references into the registry."""
    if selector.uri:
        scheme, _, rest = selector.uri.partition(":/")
        head, _, tail = rest.partition("/")
        if scheme == "runs":
            return "run", head, tail.strip("/")
        if "@" in head:
            name, _, alias = head.partition("@")
            return "registry", name, f"@{alias}"
        return ("registry", head, tail) if tail else ("model", "", head)
    if selector.registered_model and (selector.alias or selector.version):
        return "registry", selector.registered_model, f"@{selector.alias}" if selector.alias else str(selector.version)
    return "tag", "", ""


def _active_run(run_id: str, selector: ModelSelector) -> Conversation[Run]:
    run = yield from get_run(run_id)
    if run.deleted:
        raise ModelNotFoundError(f"{selector}: run {run_id} is deleted; restore it in MLflow, or choose another run")
    return run


def _model_at(run: Run, path: str, cache: ModelCache) -> Conversation[tuple[str, ModelFacts]]:
    """A ``runs:/`` URI: the logged model of that name, else whatever lies at that path of the run's artifacts."""
    try:
        return (yield from model_of_run(run, path, cache, subject=f"runs:/{run.run_id}/{path}"))
    except ModelNotFoundError as error:
        if run.model_ids:
            raise
        try:
            return f"runs:/{run.run_id}/{path}", (yield from run_model_facts(run, path, cache, key=None))
        except ModelNotFoundError:
            raise error from None


def _registered(name: str, reference: str, cache: ModelCache) -> Conversation[tuple[str, str, ModelFacts]]:
    row = yield from _version_row(name, reference)
    version, source = str(row.get("version", "")), str(row.get("source", ""))
    subject = f"registered model {name!r} version {version}"
    if (status := str(row.get("status", "READY"))) != "READY":
        raise ModelNotFoundError(f"{subject} is {status}, not READY; wait for the registration, or register it again")
    uri = f"models:/{name}/{version}"
    # A number may be given again after the newest version was deleted: the time belongs to the identity.
    key = (name, version, row.get("creation_timestamp"), source)
    if known := cache.model(key):
        return uri, version, known
    content = yield from fetch_mlmodel(version_file(name, version, MODEL_FILE, subject))
    run = yield from _run_of_version(str(row.get("run_id") or ""), subject)
    facts = ModelFacts(
        name=name,
        source_uri=(yield from _source_uri(name, version, source, content)).rstrip("/") + "/",
        digest=digest_of(content),
        model_id=source.removeprefix("models:/") if source.startswith("models:/m-") else field_of(content, "model_id"),
        run_id=str(row.get("run_id") or "") or None,
        experiment_id=run.experiment_id if run else None,
        git_commit=run.git_commit if run else None,
    )
    cache.remember_model(key, facts)
    return uri, version, facts


def _version_row(name: str, reference: str) -> Conversation[Mapping[str, Any]]:
    alias = reference[1:] if reference.startswith("@") else ""
    if alias:
        request = get("registered-models/alias", f"registered model {name!r} alias {alias!r}", name=name, alias=alias)
    else:
        request = get(
            "model-versions/get", f"registered model {name!r} version {reference}", name=name, version=reference
        )
    try:
        data = yield from call(request)
    except ApiError as error:
        if not error.is_not_found:
            raise
        raise ModelNotFoundError(f"{request.subject} does not exist; {(yield from _what_exists(name))}") from error
    row: Mapping[str, Any] = data.get("model_version") or {}
    return row


def _what_exists(name: str) -> Conversation[str]:
    """One more request, on the way to the error only."""
    try:
        data = yield from call(get("registered-models/get", f"registered model {name!r}", name=name))
    except ApiError:
        return "no model is registered by that name (or the user of this connection may not see it)"
    model = data.get("registered_model") or {}
    aliases = [f"{entry.get('alias')} → {entry.get('version')}" for entry in model.get("aliases") or []]
    latest = [str(entry.get("version")) for entry in model.get("latest_versions") or []]
    newest = max(latest, key=int) if latest and all(number.isdigit() for number in latest) else "none"
    return f"the model has aliases {', '.join(aliases) or 'none'} and its newest version is {newest}"


def _run_of_version(run_id: str, subject: str) -> Conversation[Run | None]:
    """The registry is the authority: a version whose run is deleted or out of sight is a warning, not an error."""
    if not run_id:
        return None
    try:
        run = yield from get_run(run_id)
    except (ModelNotFoundError, AccessDeniedError) as error:
        log.warning("%s: its run cannot be read, commit and experiment stay unknown: %s", subject, error)
        return None
    if run.deleted:
        log.warning("%s: its run %s is deleted in MLflow", subject, run_id)
    return run


def _source_uri(name: str, version: str, source: str, content: bytes) -> Conversation[str]:
    """Where a version lies. A logged model's file says it; asking the registry is one request more."""
    if not source.startswith(("models:/", "runs:/")):
        return source
    written = field_of(content, "artifact_path") or ""
    if source == f"models:/{field_of(content, 'model_id')}" and (
        "://" in written or ":/" in written or written.startswith("/")
    ):
        return written
    subject = f"registered model {name!r} version {version}"
    data = yield from call(get("model-versions/get-download-uri", subject, name=name, version=version))
    return str(data.get("artifact_uri", "")) or source


def _mlmodel_request(resolved: ResolvedModel) -> Request:
    subject = f"model {resolved.name!r}"
    if resolved.version:
        return version_file(resolved.name, resolved.version, MODEL_FILE, subject)
    if resolved.uri.startswith("models:/m-"):
        return logged_model_file(resolved.uri.removeprefix("models:/"), MODEL_FILE, subject)
    run_id, _, path = resolved.uri.removeprefix("runs:/").partition("/")
    return run_file(run_id, f"{path}/{MODEL_FILE}", subject)
