"""What is shown of a pod is what the operator asks for."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from kubernetes.client import ApiClient

from airflow_mlops_provider.dag_factory.batch import build_batch_dag
from airflow_mlops_provider.dag_factory.pod_preview import LATER, RunValues, build_pod_preview
from airflow_mlops_provider.declaration import EnvironmentModel, ResolvedModel, load_declaration, load_environments
from airflow_mlops_provider.manifests.naming import CREATE_ID_ANNOTATION

DECLARATIONS = Path(__file__).parents[2] / "declarations"
RICH = """
    volumes: [{claim: shared, mount_path: /data, read_only: true}, {claim: scratch, mount_path: /tmp}]
    env: {HOME: /data/home, ENDPOINT: "https://s3.example/$(X)"}
    mlflow_tracking_uri: http://mlflow.internal
    image_pull_policy: Never
    mlflow_credentials: {secret: mlflow-token, keys: {MLFLOW_TRACKING_TOKEN: token}}
"""
RESOLVED = ResolvedModel(
    uri="models:/churn/7",
    source_uri="s3://mlflow/1/",
    run_id="1" * 32,
    experiment_id="1",
    model_id=None,
    name="churn",
    version=None,
    digest="sha256:0",
    git_commit=None,
    run_url=None,
    resolved_at="2026-01-31T00:00:00+00:00",
)
MOMENT = datetime(2026, 1, 31, tzinfo=UTC)


def models(folder: Path) -> list[EnvironmentModel]:
    text = (DECLARATIONS / "environments.yaml").read_text(encoding="utf-8")
    (folder / "environments.yaml").write_text(
        text.replace("    mlflow_credentials: {secret: mlflow-token}\n", RICH.lstrip("\n")), encoding="utf-8"
    )
    environments = load_environments(folder / "environments.yaml")
    files = sorted((DECLARATIONS / "valid").glob("*.yaml"))
    loaded = [model for file in files for model in load_declaration(file, environments)]
    plain = load_environments(DECLARATIONS / "environments.yaml")
    loaded += [model for file in files for model in load_declaration(file, plain)]
    return [model for model in loaded if model.batch_jobs() and model.settings.runner == "kubernetes"]


def pod_of_operator(model: EnvironmentModel, kind: str) -> dict[str, Any]:
    batch = model.batch_jobs()[kind]
    task: Any = build_batch_dag(model, batch, kind).get_task("score")
    if batch.partitions > 1:
        task = task.unmap({"partition": 1, "model": RESOLVED.to_dict()})
    task.tracking_uri = task.tracking_uri or "http://of.the.connection"
    context: Any = {
        "dag_run": SimpleNamespace(run_after=MOMENT),
        "data_interval_start": MOMENT,
        "data_interval_end": MOMENT,
        "params": {name: parameter.form_default() for name, parameter in batch.params.items()},
        "run_id": "manual",
        "ti": SimpleNamespace(max_tries=2),
    }
    task._hand_over(RESOLVED, context)
    pod: dict[str, Any] = ApiClient().sanitize_for_serialization(task.build_pod_request_obj(dry_run=True))
    return pod


def without_empty(value: Any) -> Any:
    """An empty list or mapping asks for nothing; an empty emptyDir is one."""
    if isinstance(value, dict):
        kept = {key: without_empty(item) for key, item in value.items()}
        return {key: item for key, item in kept.items() if item not in (None, [], {}) or key == "emptyDir"}
    return [without_empty(item) for item in value] if isinstance(value, list) else value


def test_preview_is_the_pod_of_the_operator(tmp_path: Path) -> None:
    compared = [(model, kind, batch) for model in models(tmp_path) for kind, batch in model.batch_jobs().items()]
    assert len(compared) >= 12
    for model, kind, batch in compared:
        real = without_empty(pod_of_operator(model, kind))
        start, end = MOMENT.isoformat(), MOMENT.isoformat()
        values = RunValues(
            model=RESOLVED.to_dict(),
            tracking_uri="http://of.the.connection",
            data_interval=(start, end),
            partition=1,
            dag_run="manual",
            max_tries="2",
            create_id=real["metadata"]["annotations"][CREATE_ID_ANNOTATION],
        )
        preview = build_pod_preview(model, batch, values, kind=kind)
        assert real["metadata"].pop("name").startswith(preview["metadata"].pop("name") + "-")
        del real["metadata"]["labels"]["airflow_version"]
        assert without_empty(preview) == real


def test_what_is_not_known_yet_is_marked(tmp_path: Path) -> None:
    model = next(model for model in models(tmp_path) if model.batch and model.batch.partitions > 1)
    assert model.batch is not None
    pod = build_pod_preview(model, model.batch)
    variables = {item["name"]: item.get("value") for item in pod["spec"]["containers"][0]["env"]}
    names = ("MODEL_URI", "MODEL_VERSION", "MLOPS_PARTITION", "DATA_INTERVAL_START")
    assert {variables[name] for name in names} == {LATER}
    assert variables["MLOPS_PARTITIONS"] == str(model.batch.partitions)
