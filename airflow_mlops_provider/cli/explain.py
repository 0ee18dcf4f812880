"""``airflow-mlops explain``: what a declaration amounts to in one environment, and which line says so.

Decides the presentation, and that a server which does not answer is a remark and no failure. Reads files; asks the
MLflow server where ``MLFLOW_TRACKING_URI`` names one.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from airflow_mlops_provider.cli.chosen_model import add_model_arguments, load_chosen_model
from airflow_mlops_provider.exceptions import MLOpsProviderError

if TYPE_CHECKING:
    from airflow_mlops_provider.declaration import EnvironmentModel
    from airflow_mlops_provider.declaration.batch_spec import BatchSpec
    from airflow_mlops_provider.declaration.online_spec import OnlineSpec

_DEFAULT = "default"
#: A variable may hold what should have been a secret; its place is told instead.
_HIDDEN = "(hidden)"
#: Long enough for a server that is there; nobody waits longer for a remark.
_MLFLOW_SECONDS = 5.0


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser("explain", help="show the merged declaration and what comes of it")
    add_model_arguments(parser)
    parser.add_argument("--output", choices=("text", "json"), default="text")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print, and return the exit code."""
    model = load_chosen_model(arguments)
    explained = {**explain(model), "model_now": _model_now(model)}
    print(json.dumps(explained, indent=2, ensure_ascii=False) if arguments.output == "json" else _as_text(explained))
    return 0


def explain(model: EnvironmentModel) -> dict[str, Any]:
    """Return everything told, as JSON types.

    ``{"model": …, "selector": …, "values": {"batch.retries": {"value": 2, "origin": "models/churn.yaml:14"}}, …}``
    """
    selector = model.selector()
    values = sorted(_leaves(model.declaration.model_dump(by_alias=True), ""), key=lambda leaf: "." in leaf[0])
    return {
        "model": model.model,
        "environment": model.environment,
        "file": model.file,
        "dags": list(model.dag_ids()),
        "selector": {"meaning": str(selector), **selector.to_dict()},
        "values": {field: {"value": value, "origin": _origin(field, model)} for field, value in values},
        "settings": dict(_leaves(model.settings.model_dump(by_alias=True, exclude_unset=True), "")),
        "jobs": {kind: _explain_job(model, kind, batch) for kind, batch in model.batch_jobs().items()},
        "services": _explain_service(model, model.online) if model.online else {},
    }


def _explain_job(model: EnvironmentModel, kind: str, batch: BatchSpec) -> dict[str, Any]:
    """Return the outline of the job's DAG, and the pod's manifest where there is a pod."""
    from airflow_mlops_provider.dag_factory.outline import build_outline
    from airflow_mlops_provider.dag_factory.pod_preview import build_pod_preview

    outline = {"dag": build_outline(model, batch, kind)}
    if model.settings.runner == "local":
        return outline
    pod = build_pod_preview(model, batch, kind=kind)
    for container in pod["spec"]["containers"]:
        _hide(container, {*model.settings.env, *batch.env})
    for container in pod["spec"].get("initContainers", ()):
        _hide(container, {item["name"] for item in container.get("env", ())})
    return {**outline, **_explain_template(model, batch.extends), "pod": pod}


def _explain_template(model: EnvironmentModel, name: str | None) -> dict[str, Any]:
    """Return which template is extended, where it is written and what it adds."""
    if name is None:
        return {}
    template = model.settings.templates[name]
    adds = sorted({*template.spec, *(["volumeMounts"] if template.mounts else ())})
    return {"template": {"name": template.name, "origin": f"{template.file}:{template.line}", "adds": adds}}


def _explain_service(model: EnvironmentModel, online: OnlineSpec) -> dict[str, Any]:
    """Return the outlines of the online DAG and of its probe, and the InferenceService."""
    from airflow_mlops_provider.dag_factory.online_outline import build_online_outline, build_probe_outline
    from airflow_mlops_provider.dag_factory.online_preview import build_service_preview

    manifest = build_service_preview(model, online)
    predictor = manifest["spec"]["predictor"]
    _hide(predictor["model"], {*model.settings.env, *online.env})
    for container in predictor.get("initContainers", ()):
        _hide(container, {item["name"] for item in container.get("env", ())})
    probe = {"probe": {"dag": build_probe_outline(model, online.probe)}} if online.probe else {}
    template = _explain_template(model, online.extends)
    return {"online": {"dag": build_online_outline(model, online), **template, "service": manifest}, **probe}


def _hide(container: dict[str, Any], names: set[str]) -> None:
    container["env"] = [
        {**item, "value": _HIDDEN} if item["name"] in names and "value" in item else item
        for item in container.get("env", ())
    ]


def _model_now(model: EnvironmentModel) -> dict[str, Any]:
    """Return the model that would be used now, or ``{"unknown": "why"}``."""
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        return {"unknown": "MLFLOW_TRACKING_URI names no server to ask"}
    from airflow_mlops_provider.hooks.mlflow_client import resolve_model
    from airflow_mlops_provider.hooks.mlflow_settings import MLflowSettings

    try:
        settings = MLflowSettings.from_environment()
        quick = replace(settings, timeout_seconds=_MLFLOW_SECONDS, total_seconds=_MLFLOW_SECONDS)
        return resolve_model(quick, model.selector()).to_dict()
    except (MLOpsProviderError, ValueError) as error:
        return {"unknown": str(error)}


def _origin(field: str, model: EnvironmentModel) -> str:
    """Return ``models/churn.yaml:12``; a shorthand (``schedule: "@daily"``) is the origin of all it stands for."""
    while field not in model.origin:
        if "." not in field:
            return _DEFAULT
        field = field.rpartition(".")[0]
    return ":".join(map(str, model.origin[field]))


def _leaves(value: Any, field: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            shown = _HIDDEN if field.rpartition(".")[2] == "env" else item
            yield from _leaves(shown, f"{field}.{key}" if field else key)
    elif value is not None:
        yield field, _json_value(value)


def _json_value(value: Any) -> Any:
    from airflow_mlops_provider.declaration.quantity import format_duration

    if isinstance(value, timedelta):
        return format_duration(value)
    if isinstance(value, date):
        return value.isoformat()
    return [_json_value(item) for item in value] if isinstance(value, tuple | list) else value


def _as_text(explained: dict[str, Any]) -> str:
    rows = [(field, _shown(told["value"]), told["origin"]) for field, told in explained["values"].items()]
    settings = [(field, _shown(value), "environments") for field, value in explained["settings"].items()]
    return "\n".join(
        [
            f"{explained['model']} in {explained['environment']}, declared in {explained['file']}",
            f"DAGs: {', '.join(explained['dags'])}",
            f"Model used: {explained['selector']['meaning']}",
            f"Model now: {_now_as_text(explained['model_now'])}",
            "",
            *_table(rows),
            "",
            f"What the platform says of {explained['environment']}:",
            *_table([(field, value, "") for field, value, _ in settings]),
            *(line for part in ("jobs", "services") for dag in explained[part].values() for line in _dag_as_text(dag)),
        ]
    )


def _now_as_text(now: dict[str, Any]) -> str:
    if "unknown" in now:
        return f"unknown; {now['unknown']}"
    return f"{now['uri']} (run {now['run_id']}, {now['digest']})"


def _dag_as_text(told: dict[str, Any]) -> Iterator[str]:
    outline = told["dag"]
    yield from ("", f"DAG {outline['dag_id']}:", f"  starts   {outline['starts']}")
    for task in outline["tasks"]:
        times = f", {task['instances']} instances" if task["instances"] > 1 else ""
        after = f", after {', '.join(task['after'])}" if task["after"] else ""
        yield f"  task     {task['task_id']} ({task['operator']}{times}{after})"
    if outline["reports"]:
        yield f"  updates  asset {outline['reports']}"
    if template := told.get("template"):
        yield f"  extends  {template['name']} ({template['origin']}), which adds {', '.join(template['adds'])}"
    for key, caption in (("pod", "Pod of the task score:"), ("service", "InferenceService that it deploys:")):
        if key in told:
            import yaml

            text = yaml.safe_dump(told[key], sort_keys=False, allow_unicode=True, width=1000)
            yield from ("", caption, *(f"  {line}" for line in text.splitlines()))


def _shown(value: Any) -> str:
    return value if isinstance(value, str) and value.isprintable() else json.dumps(value, ensure_ascii=False)


def _table(rows: list[tuple[str, str, str]]) -> Iterator[str]:
    widths = [max((len(row[column]) for row in rows), default=0) for column in (0, 1)]
    for field, value, origin in rows:
        yield f"  {field:<{widths[0]}}  {value:<{min(widths[1], 60)}}  {origin}".rstrip()
