from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException
from airflow.serialization.serialized_objects import DagSerialization

from airflow_mlops_provider import load_model_dags
from airflow_mlops_provider.exceptions import DeclarationError

ENVIRONMENTS = """
apiVersion: mlops/v1
environments:
  dev:
    runner: local
    model: {run_tag: {stage: dev}}
    connections: {mlflow: mlflow_dev}
    allow: {jinja: [ds], uri_schemes: [file]}
  prod:
    protected: true
    runner: kubernetes
    namespace: ml-prod
    image: registry.example/runtime:1.0
    model: {run_tag: {stage: prod}, on_ambiguous: fail}
    connections: {mlflow: mlflow_prod, kubernetes: k8s_prod}
    mlflow_credentials: {secret: mlflow-token}
    mlflow_tracking_uri: http://mlflow.internal
    node_selector: {pool: prod}
    tolerations: [{key: pool, value: prod, effect: NoSchedule}]
    allow: {images: ["registry.example/"], jinja: [ds], uri_schemes: [s3], max_cpu: 4, max_memory: 8Gi}
"""
CHURN = """
apiVersion: mlops/v1
model: churn
owner: growth@example.com
experiment: /churn/gbm
batch:
  schedule: {cron: "0 3 * * *", timezone: Europe/Moscow}
  input: "s3://in/{{ ds }}/"
  output: "s3://out/{{ ds }}/"
  key_columns: [id]
  resources: {cpu: "2", memory: 4Gi}
  retries: 3
  timeout: 2h
environments:
  prod: {}
"""
LOCAL = CHURN.replace("s3://", "file:///").replace("prod: {}", "dev: {}")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    (tmp_path / ".git").mkdir()
    (tmp_path / "models").mkdir()
    (tmp_path / "environments.yaml").write_text(ENVIRONMENTS)
    return tmp_path


def write(repository: Path, name: str, text: str) -> Path:
    file = repository / "models" / name
    file.write_text(text)
    return file


def serialized(dag: Any) -> str:
    data = DagSerialization.to_dict(dag)
    data["dag"].pop("fileloc", None)
    data["dag"].pop("relative_fileloc", None)
    return json.dumps(data, sort_keys=True, default=str)


def test_one_declaration_becomes_one_dag_per_environment(repository: Path) -> None:
    dags = load_model_dags(write(repository, "churn.yaml", CHURN))
    assert list(dags) == ["prod.churn.batch"]
    dag = dags["prod.churn.batch"]
    assert dag.tags == {"mlops", "batch", "prod", "churn"}
    assert dag.default_args["owner"] == "growth@example.com"
    assert (dag.schedule.expression, str(dag.schedule.timezone)) == ("0 3 * * *", "Europe/Moscow")
    assert "`models/churn.yaml`" in (dag.doc_md or "")


def test_pod_task_carries_what_declaration_and_environment_say(repository: Path) -> None:
    (task,) = load_model_dags(write(repository, "churn.yaml", CHURN))["prod.churn.batch"].tasks
    assert task.task_type == "MLflowModelBatchOperator"
    assert task.model == {"experiment": "/churn/gbm", "run_tag": {"stage": "prod"}, "on_ambiguous": "fail"}
    assert (task.namespace, task.image, task.cmds) == (
        "ml-prod",
        "registry.example/runtime:1.0",
        ["mlops-runtime", "score"],
    )
    assert (task.mlflow_conn_id, task.kubernetes_conn_id) == ("mlflow_prod", "k8s_prod")
    assert task.mlflow_credentials == {"secret": "mlflow-token"}
    assert task.tracking_uri == "http://mlflow.internal"
    assert task.env_vars == {"MLOPS_KEY_COLUMNS": "id"}
    assert task.container_resources["limits"] == {"cpu": "2", "memory": "4Gi"}
    assert task.node_selector == {"pool": "prod"}
    assert task.tolerations[0].key == "pool"
    assert (task.retries, task.execution_timeout.total_seconds()) == (3, 7200)
    assert task.labels["app.kubernetes.io/instance"] == "prod-churn"


def test_local_runner_makes_a_process_task(repository: Path) -> None:
    (task,) = load_model_dags(write(repository, "churn.yaml", LOCAL))["dev.churn.batch"].tasks
    assert (task.task_type, task.command) == ("MLflowModelLocalOperator", ["mlops-runtime", "score"])


@pytest.mark.parametrize(("text", "dag_id"), [(CHURN, "prod.churn.batch"), (LOCAL, "dev.churn.batch")])
def test_partitions_share_one_resolution(repository: Path, text: str, dag_id: str) -> None:
    file = write(repository, "churn.yaml", text.replace("retries: 3", "partitions: 4"))
    dag = load_model_dags(file)[dag_id]
    assert {task.task_id for task in dag.tasks} == {"resolve", "score", "done"}
    score = dag.get_task("score")
    assert score.upstream_task_ids == {"resolve"}
    assert score.downstream_task_ids == {"done"}
    assert [task.task_id for task in dag.tasks if task.outlets] == ["done"]
    assert score.expand_input.value == {"partition": [0, 1, 2, 3]}
    assert score.partial_kwargs["partitions"] == 4


def test_every_batch_job_reports_its_scores(repository: Path) -> None:
    (task,) = load_model_dags(write(repository, "churn.yaml", CHURN))["prod.churn.batch"].tasks
    assert [(asset.name, asset.uri) for asset in task.outlets] == [("prod.churn.scores", "prod.churn.scores")]


SCHEDULE = 'schedule: {cron: "0 3 * * *", timezone: Europe/Moscow}'


@pytest.mark.parametrize(
    ("start", "assets"),
    [
        ("after: [clean, merge]", ["prod.clean.scores", "prod.merge.scores"]),
        ("when: s3://bucket/Ready/", ["s3://bucket/Ready"]),
        ("when: [x-dwh://customers/]", ["x-dwh://customers/"]),
    ],
)
def test_jobs_start_by_assets(repository: Path, start: str, assets: list[str]) -> None:
    file = write(repository, "churn.yaml", CHURN.replace(SCHEDULE, start))
    dag = load_model_dags(file)["prod.churn.batch"]
    assert [asset.uri for asset in dag.timetable.asset_condition.objects] == assets
    assert serialized(dag) == serialized(load_model_dags(file)["prod.churn.batch"])


def test_a_uri_that_airflow_refuses_is_told_with_its_place(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(uri: str) -> None:
        raise ValueError("URI format s3:// must contain a bucket name")

    monkeypatch.setattr("airflow_mlops_provider.dag_factory.frame.Asset", refuse)
    file = write(repository, "churn.yaml", CHURN.replace(SCHEDULE, "when: s3:///x"))
    with pytest.raises(DeclarationError, match=r"^models/churn.yaml:7:1: batch.when: Airflow refuses it: URI format"):
        load_model_dags(file)


def test_waits_double_up_to_an_hour_unless_told_otherwise(repository: Path) -> None:
    (task,) = load_model_dags(write(repository, "churn.yaml", CHURN))["prod.churn.batch"].tasks
    assert (task.retry_exponential_backoff, task.max_retry_delay) == (2.0, timedelta(hours=1))
    plain = CHURN.replace("retries: 3", "retry_backoff: false")
    (task,) = load_model_dags(write(repository, "churn.yaml", plain))["prod.churn.batch"].tasks
    assert (task.retry_exponential_backoff, task.max_retry_delay) == (0, None)


def test_page_links_to_owner_and_declared_places(repository: Path) -> None:
    file = write(repository, "churn.yaml", CHURN + "links: {'Run|book': 'https://wiki.example/churn'}\n")
    dag = load_model_dags(file)["prod.churn.batch"]
    assert dag.owner_links == {"growth@example.com": "mailto:growth@example.com"}
    assert "| Run\\|book | <https://wiki.example/churn> |" in (dag.doc_md or "")
    assert (
        load_model_dags(write(repository, "x.yaml", CHURN.replace("growth@example.com", "Growth team")))[
            "prod.churn.batch"
        ].owner_links
        == {}
    )


def test_trigger_form_offers_versions_only_for_registered_models(repository: Path) -> None:
    plain = load_model_dags(write(repository, "churn.yaml", CHURN))["prod.churn.batch"]
    assert set(plain.params) == {"model_run_id", "data_interval_start", "data_interval_end"}
    file = write(repository, "churn.yaml", CHURN + "registered_model: churn_gbm\n")
    registered = load_model_dags(file)["prod.churn.batch"]
    assert {"model_version", "model_alias"} < set(registered.params)
    registered.params.validate()
    assert all(value is None for value in registered.params.dump().values())


def test_broken_file_by_name_raises_with_every_place(repository: Path) -> None:
    file = write(repository, "churn.yaml", CHURN.replace("retries: 3", "retrys: 3").replace("prod: {}", "prd: {}"))
    with pytest.raises(DeclarationError) as caught:
        load_model_dags(file)
    fields = [problem.field for problem in caught.value.problems]
    assert "batch.retrys" in fields or any("retrys" in str(problem) for problem in caught.value.problems)
    assert any("'prd' is unknown" in str(problem) for problem in caught.value.problems)
    assert all(problem.line and problem.file == "models/churn.yaml" for problem in caught.value.problems)


def test_broken_file_in_a_directory_harms_nobody_and_is_seen(repository: Path) -> None:
    write(repository, "churn.yaml", CHURN)
    write(repository, "broken.yaml", "model: [")
    dags = load_model_dags(repository / "models")
    assert set(dags) == {"prod.churn.batch", "broken.broken"}
    notice = dags["broken.broken"]
    assert "    models/broken.yaml:2:1: " in (notice.doc_md or "")
    with pytest.raises(AirflowFailException, match=r"^models/broken\.yaml:2:1: "):
        notice.get_task("show_problems").execute({})


def test_files_that_would_make_the_same_dag_are_named_on_both_sides(repository: Path) -> None:
    for team in ("a", "b", "c"):
        (repository / "models" / team).mkdir()
    write(repository, "a/churn.yaml", CHURN)
    write(repository, "b/churn.yaml", CHURN.replace("3 * * *", "4 * * *"))
    write(repository, "c/churn.yaml", LOCAL)  # the same model, but in another environment
    write(repository, "other.yaml", CHURN.replace("model: churn", "model: other"))
    write(repository, "broken.yaml", "model: [")
    write(repository, "broken.yml", "model: {")
    dags = load_model_dags(repository / "models")
    built = {dag_id for dag_id in dags if not dag_id.startswith("broken.")}
    assert built == {"prod.other.batch", "dev.churn.batch"}
    notices = {dag_id: dag.doc_md or "" for dag_id, dag in dags.items() if dag_id.startswith("broken.")}
    assert len(notices) == 4
    for here, there in (("a", "b"), ("b", "a")):
        (text,) = (text for dag_id, text in notices.items() if dag_id.startswith(f"broken.{here}-churn"))
        assert f"models/{here}/churn.yaml:3:1: model: 'churn' is also declared in models/{there}/churn.yaml:3" in text
        assert str(repository) not in text


def test_a_uri_that_airflow_refuses_harms_no_other_file(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.sdk import Asset

    def refuse(name: str | None = None, *, uri: str | None = None) -> Asset:
        if uri:
            raise ValueError("no bucket")
        return Asset(str(name))

    monkeypatch.setattr("airflow_mlops_provider.dag_factory.frame.Asset", refuse)
    write(repository, "churn.yaml", CHURN)
    write(repository, "x.yaml", CHURN.replace("model: churn", "model: x").replace(SCHEDULE, "when: s3:///x"))
    assert set(load_model_dags(repository / "models")) == {"prod.churn.batch", "broken.x"}


def test_globals_receive_the_dags_and_anchor_relative_paths(repository: Path) -> None:
    write(repository, "churn.yaml", CHURN)
    module = {"__file__": str(repository / "stub.py")}
    load_model_dags("models/churn.yaml", globals=module)
    assert module["prod__churn__batch"].dag_id == "prod.churn.batch"  # type: ignore[attr-defined]


def test_same_files_elsewhere_and_later_give_the_same_dag(
    repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    first = load_model_dags(write(repository, "churn.yaml", CHURN))["prod.churn.batch"]
    other = tmp_path_factory.mktemp("version")
    (other / ".git").mkdir()
    (other / "models").mkdir()
    (other / "environments.yaml").write_text(ENVIRONMENTS)
    second = load_model_dags(write(other, "churn.yaml", CHURN))["prod.churn.batch"]
    assert serialized(first) == serialized(second)


def test_local_model_loads_neither_mlflow_nor_a_kubernetes_client(repository: Path) -> None:
    file = write(repository, "churn.yaml", LOCAL)
    source = (
        "import sys; from airflow_mlops_provider import load_model_dags;"
        f"dags = load_model_dags({str(file)!r}); assert list(dags) == ['dev.churn.batch'];"
        "loaded = {name.partition('.')[0] for name in sys.modules};"
        "print(sorted(loaded & {'mlflow', 'kubernetes', 'kubernetes_asyncio'}))"
    )
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True, env=os.environ)
    assert done.stdout.strip() == "[]"
