"""The text on the pages of an online DAG and of its probe. Pure."""

from __future__ import annotations

from airflow_mlops_provider.dag_factory.document import render_document
from airflow_mlops_provider.dag_factory.online_arguments import gitops_directory, service_name
from airflow_mlops_provider.dag_factory.online_outline import (
    build_online_outline,
    build_probe_outline,
    deploys_by_commit,
)
from airflow_mlops_provider.declaration.loader import EnvironmentModel
from airflow_mlops_provider.declaration.online_spec import OnlineSpec, Probe
from airflow_mlops_provider.declaration.quantity import format_duration


def build_online_document(model: EnvironmentModel, online: OnlineSpec) -> str:
    """Return Markdown for the online DAG."""
    outline = build_online_outline(model, online)
    most = online.max_replicas or online.min_replicas
    replicas = str(most) if most == online.min_replicas else f"{online.min_replicas} to {most}"
    return render_document(
        model,
        {
            "Model": model.selector(),
            **_place(model, online),
            "Starts": outline["starts"],
            "Replicas": replicas,
            "Protocol": online.protocol,
            "Deployed by": _deployer(model),
            "If that fails": online.on_failure,
            "Probed": f"by `{model.dag_id('probe')}`" if online.probe else "not declared",
            "Updates the asset": f"`{outline['reports']}`",
        },
    )


def build_probe_document(model: EnvironmentModel, online: OnlineSpec, probe: Probe) -> str:
    """Return Markdown for the probe."""
    return render_document(
        model,
        {
            **_place(model, online),
            "Runs": build_probe_outline(model, probe)["starts"],
            "Asks": "every ready pod for a prediction" + _within(online),
            "Expects": f"the model that `{model.dag_id('online')}` deployed last",
        },
    )


def _place(model: EnvironmentModel, online: OnlineSpec) -> dict[str, object]:
    return {
        "Environment": model.environment + (" (protected)" if model.settings.protected else ""),
        "Owner": model.owner,
        "Declared in": f"`{model.file}`",
        "Service": f"InferenceService `{service_name(model, online)}` in namespace `{model.settings.namespace}`",
    }


def _deployer(model: EnvironmentModel) -> str:
    if deploys_by_commit(model):
        return f"Argo CD, from `{gitops_directory(model)}/` in its repository"
    return "this DAG"


def _within(online: OnlineSpec) -> str:
    latency = online.smoke_test and online.smoke_test.max_latency
    return f" within {format_duration(latency)}" if latency else ""
