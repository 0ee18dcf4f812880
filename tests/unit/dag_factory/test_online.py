"""The online DAG and its probe, as the factory builds them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import CronTriggerTimetable, DeltaTriggerTimetable
from airflow.serialization.serialized_objects import DagSerialization

from airflow_mlops_provider import load_model_dags
from airflow_mlops_provider.dag_factory.online_arguments import service_name
from airflow_mlops_provider.dag_factory.online_outline import build_online_outline, build_probe_outline
from airflow_mlops_provider.dag_factory.online_preview import build_service_preview
from airflow_mlops_provider.declaration import EnvironmentModel, load_declaration, load_environments
from airflow_mlops_provider.declaration.service_policy import check_service
from airflow_mlops_provider.exceptions import DeclarationError

ENVIRONMENTS = """
apiVersion: mlops/v1
environments:
  dev: {runner: local, model: {run_tag: {stage: dev}}}
  prod:
    namespace: ml-prod
    image: registry.example/runtime:1.0
    model: {run_tag: {stage: prod}}
    connections: {mlflow: mlflow_prod, kubernetes: k8s_prod}
    mlflow_tracking_uri: http://mlflow.internal
    service_account: model-runner
    node_selector: {pool: prod}
    tolerations: [{key: pool, value: prod, effect: NoSchedule}]
    deferrable: true
    allow: {images: ["registry.example/"], logger_urls: ["http://broker/"], max_cpu: 4, max_memory: 8Gi}
  gitops:
    deployer: argocd
    argocd: {connection: gitops_repo, branch: live, path: clusters/one}
    namespace: ml-gitops
    model: {run_tag: {stage: prod}}
  feature-x-0a1b2c3d: {ephemeral: true, namespace: ml-preview, model: {latest_run: true}}
"""
CHURN = """
apiVersion: mlops/v1
model: churn
owner: growth@example.com
experiment: /churn/gbm
online:
  min_replicas: 2
  resources: {cpu: "2", memory: 4Gi}
  env: {MODE: strict}
  timeout: 10m
  on_failure: delete_if_created
  smoke_test: {max_latency: 300ms, expect_shape: [2, -1]}
  probe: {every: 10m}
environments: {prod: {}}
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    (tmp_path / ".git").mkdir()
    (tmp_path / "models").mkdir()
    (tmp_path / "environments.yaml").write_text(ENVIRONMENTS)
    return tmp_path


def build(repository: Path, text: str = CHURN, environment: str = "prod") -> dict[str, Any]:
    file = repository / "models" / "churn.yaml"
    file.write_text(text.replace("{prod: {}}", f"{{{environment}: {{}}}}"))
    return load_model_dags(file, preview=environment.startswith("feature"))


def serialized(dag: Any) -> str:
    data = DagSerialization.to_dict(dag)
    for place in ("fileloc", "relative_fileloc"):
        data["dag"].pop(place, None)
    return json.dumps(data, sort_keys=True, default=str)


def test_online_model_becomes_two_dags_in_line(repository: Path) -> None:
    dags = build(repository)
    assert list(dags) == ["prod.churn.online", "prod.churn.probe"]
    online = dags["prod.churn.online"]
    assert [task.task_id for task in online.topological_sort()] == ["resolve", "deploy", "verify", "record"]
    assert online.tags == {"mlops", "online", "prod", "churn"}
    assert (online.max_active_runs, online.catchup) == (1, False)
    assert "InferenceService `churn` in namespace `ml-prod`" in (online.doc_md or "")
    assert [asset.name for asset in online.get_task("record").outlets] == ["prod.churn.endpoint"]


def test_resolve_obeys_the_rules_of_its_environment(repository: Path) -> None:
    task = build(repository)["prod.churn.online"].get_task("resolve")
    assert task.model == {"experiment": "/churn/gbm", "run_tag": {"stage": "prod"}, "on_ambiguous": "latest"}
    assert (task.mlflow_conn_id, task.environment, task.use_run_params) == ("mlflow_prod", "prod", True)


def test_deploy_carries_what_declaration_and_environment_say(repository: Path) -> None:
    task = build(repository)["prod.churn.online"].get_task("deploy")
    assert task.task_type == "KServeDeployOperator"
    assert (task.name, task.namespace, task.kubernetes_conn_id) == ("churn", "ml-prod", "k8s_prod")
    assert (task.mlflow_conn_id, task.environment, task.tracking_uri) == (
        "mlflow_prod",
        "prod",
        "http://mlflow.internal",
    )
    assert (task.min_replicas, task.max_replicas) == (2, None)
    assert task.pod_resources == {"cpu": "2", "memory": "4Gi", "gpu": 0}
    assert (task.service_account_name, task.node_selector) == ("model-runner", {"pool": "prod"})
    assert task.tolerations == [{"key": "pool", "operator": "Equal", "value": "prod", "effect": "NoSchedule"}]
    assert task.image is None  # the serving runtime has its own
    assert (task.runtime, task.protocol) == ("mlops-mlflow", "v2")
    assert task.env_vars == {"MODE": "strict"}
    assert task.labels["app.kubernetes.io/component"] == "online"
    assert task.annotations == {"airflow-mlops/declaration": "models/churn.yaml"}
    assert task.smoke_test == {"from": "input_example", "max_latency_seconds": 0.3, "expect_shape": [2, -1]}
    assert (task.on_failure, task.timeout_seconds, task.deferrable) == ("delete_if_created", 600, True)
    assert task.use_run_params is True


@pytest.mark.parametrize(
    ("written", "task_id", "field", "value"),
    [
        ("smoke_test: {request: {inputs: [1]}}", "deploy", "smoke_test", {"request": {"inputs": [1]}}),
        ("smoke_test: {request: {inputs: [1]}}", "verify", "smoke_test", {"request": {"inputs": [1]}}),
        ("protocol: v1", "verify", "protocol", "v1"),
        ("image: registry.example/own:1", "deploy", "image", "registry.example/own:1"),
        ("logger: {url: http://broker/x}", "deploy", "request_logger", {"url": "http://broker/x", "mode": "all"}),
        ("max_replicas: 4\n  scale: {metric: rps, target: 7}", "deploy", "scale_target", 7),
        ("max_replicas: 4\n  scale: {metric: rps, target: 7}", "deploy", "scale_metric", "rps"),
    ],
)
def test_fields_reach_their_task(repository: Path, written: str, task_id: str, field: str, value: object) -> None:
    text = CHURN.replace("smoke_test: {max_latency: 300ms, expect_shape: [2, -1]}", written)
    assert getattr(build(repository, text)["prod.churn.online"].get_task(task_id), field) == value


def test_without_a_smoke_test_the_input_example_is_asked_for(repository: Path) -> None:
    text = CHURN.replace("smoke_test: {max_latency: 300ms, expect_shape: [2, -1]}", "")
    assert build(repository, text)["prod.churn.online"].get_task("deploy").smoke_test == {"from": "input_example"}


def test_canary_takes_the_place_of_deploy(repository: Path) -> None:
    text = CHURN.replace("probe: {every: 10m}", "canary: {steps: [10, 50], bake: 20m, max_error_rate: 0.01}")
    task = build(repository, text)["prod.churn.online"].get_task("deploy")
    assert task.task_type == "KServeCanaryOperator"
    assert (list(task.steps), task.bake_seconds, task.max_latency_seconds) == ([10, 50], 1200, 0.3)
    assert (task.max_error_rate, task.min_agreement) == (0.01, None)
    assert task.downstream_task_ids == {"verify"}


def test_argo_cd_gets_a_commit_and_is_waited_for(repository: Path) -> None:
    dag = build(repository, environment="gitops")["gitops.churn.online"]
    assert [task.task_id for task in dag.topological_sort()] == [
        "resolve",
        "commit",
        "wait",
        "verify",
        "record",
        "revert",
    ]
    commit, wait, revert = (dag.get_task(name) for name in ("commit", "wait", "revert"))
    assert commit.task_type == "KServeCommitOperator"
    assert (commit.git_conn_id, commit.repository, commit.branch, commit.directory) == (
        "gitops_repo",
        None,
        "live",
        "clusters/one",
    )
    assert wait.task_type == "KServeReadySensor"
    assert (wait.spec_hash, wait.timeout_seconds) == ("{{ ti.xcom_pull(task_ids='commit')['spec_hash'] }}", 600)
    assert wait.upstream_task_ids == {"commit"}
    assert (revert.trigger_rule.value, revert.on_failure) == ("one_failed", "delete_if_created")


def test_what_is_kept_is_not_reverted(repository: Path) -> None:
    text = CHURN.replace("on_failure: delete_if_created", "on_failure: keep")
    assert "revert" not in build(repository, text, "gitops")["gitops.churn.online"].task_ids


def test_argo_cd_knows_no_canary(repository: Path) -> None:
    text = CHURN.replace("probe: {every: 10m}", "canary: {steps: [10]}")
    with pytest.raises(DeclarationError, match=r"online\.canary: in 'gitops': cannot be had here: Argo CD deploys"):
        build(repository, text, "gitops")


@pytest.mark.parametrize(
    ("written", "kind", "meaning"),
    [
        ('schedule: {cron: "0 4 * * *", timezone: Europe/Moscow}', CronTriggerTimetable, "0 4 * * * (Europe/Moscow)"),
        ("when: s3://bucket/trained", None, "when s3://bucket/trained was updated"),
        ("", None, "only when triggered"),
    ],
)
def test_what_starts_it(repository: Path, written: str, kind: type | None, meaning: str) -> None:
    dags = build(repository, CHURN.replace("min_replicas: 2", written or "min_replicas: 2"))
    dag = dags["prod.churn.online"]
    if kind is not None:
        assert isinstance(dag.timetable, kind)
    elif written:
        assert [asset.uri for asset in dag.timetable.asset_condition.objects] == ["s3://bucket/trained"]
    else:
        assert dag.schedule is None
    assert f"| Starts | {meaning} |" in (dag.doc_md or "")


def test_schedule_and_event_exclude_each_other(repository: Path) -> None:
    text = CHURN.replace("min_replicas: 2", 'schedule: "@daily"\n  when: s3://bucket/trained')
    with pytest.raises(DeclarationError, match=r"online\.when: stands beside schedule"):
        build(repository, text)


def test_trigger_form_picks_a_model_and_no_interval(repository: Path) -> None:
    assert set(build(repository)["prod.churn.online"].params) == {"model_run_id"}
    params = build(repository, CHURN + "registered_model: churn_gbm\n")["prod.churn.online"].params
    assert set(params) == {"model_version", "model_alias", "model_run_id"}
    params.validate()
    task = build(repository, CHURN + "registered_model: churn_gbm\n")["prod.churn.online"].get_task("resolve")
    assert task.model["registered_model"] == "churn_gbm"  # without it no version could be picked
    assert params.get_param("model_version").description == "Deploy this registered version instead."


def test_probe_has_a_dag_of_its_own(repository: Path) -> None:
    dag = build(repository)["prod.churn.probe"]
    assert isinstance(dag.timetable, DeltaTriggerTimetable)
    assert (dag.timetable.delta, dag.max_active_runs, dag.catchup) == (timedelta(minutes=10), 1, False)
    (task,) = dag.tasks
    assert (task.name, task.namespace, task.kubernetes_conn_id) == ("churn", "ml-prod", "k8s_prod")
    assert [asset.name for asset in task.inlets] == ["prod.churn.endpoint"]
    assert (task.model, task.retries) == (None, 1)
    text = CHURN.replace("probe: {every: 10m}", "")
    assert list(build(repository, text)) == ["prod.churn.online"]


def test_a_template_of_the_platform_reaches_the_pods_and_passes_the_wall() -> None:
    declarations = Path(__file__).parents[2] / "declarations"
    environments = load_environments(declarations / "environments.yaml")
    model = load_declaration(declarations / "valid" / "extends.yaml", environments)[0]
    assert model.online is not None
    manifest = build_service_preview(model, model.online)
    predictor = manifest["spec"]["predictor"]
    assert {volume["name"] for volume in predictor["volumes"]} >= {"scratch", "ca", "shm"}
    assert {"name": "ca", "mountPath": "/etc/company-ca", "readOnly": True} in predictor["model"]["volumeMounts"]
    (before,) = predictor["initContainers"]
    assert (before["name"], before["securityContext"]["allowPrivilegeEscalation"]) == ("fill", False)
    assert check_service(manifest, model.settings) == []


def test_a_failed_deployment_and_a_failed_probe_are_told(repository: Path) -> None:
    told = """
notifiers:
  mail: {class: airflow.providers.smtp.notifications.smtp.SmtpNotifier, arguments: {to: ops@example.com}}
"""
    environments = ENVIRONMENTS.replace("allow: {images", "allow: {notifiers: [mail], images") + told
    (repository / "environments.yaml").write_text(environments)
    text = CHURN.replace("probe:", "notify: {on_failure: [mail], on_success: [mail]}\n  probe:")
    online, probe = build(repository, text).values()
    assert [item.to for item in online.on_failure_callback] == ["ops@example.com"]
    assert len(online.on_success_callback) == len(probe.on_failure_callback) == 1
    assert not probe.has_on_success_callback


def test_environment_without_a_namespace_serves_nothing(repository: Path) -> None:
    batch = "batch: {input: s3://a/b, output: s3://a/c}\nenvironments: {dev: {}, prod: {}}"
    dags = build(repository, CHURN.replace("environments: {prod: {}}", batch))
    assert set(dags) == {"dev.churn.batch", "prod.churn.batch", "prod.churn.online", "prod.churn.probe"}
    with pytest.raises(DeclarationError, match="an online service needs a namespace"):
        build(repository, environment="dev")


@pytest.mark.parametrize("environment", ["prod", "gitops"])
def test_outline_is_the_dag(repository: Path, environment: str) -> None:
    dags = build(repository, environment=environment)
    (model,) = load_declaration(
        repository / "models" / "churn.yaml", load_environments(repository / "environments.yaml")
    )
    assert model.online is not None
    assert model.online.probe is not None
    outlines = [build_online_outline(model, model.online), build_probe_outline(model, model.online.probe)]
    assert [outline["dag_id"] for outline in outlines] == list(dags)
    for outline in outlines:
        dag = dags[outline["dag_id"]]
        assert {task["task_id"]: task["operator"] for task in outline["tasks"]} == {
            task.task_id: task.task_type for task in dag.tasks
        }
        before: dict[str, set[str]] = {}
        for task in outline["tasks"]:
            before[task["task_id"]] = set(task["after"]).union(*(before[name] for name in task["after"]))
        assert before == {name: set(dag.get_task(name).get_flat_relative_ids(upstream=True)) for name in dag.task_ids}
        reported = {asset.name for task in dag.tasks for asset in task.outlets}
        assert reported == ({outline["reports"]} if outline["reports"] else set())


def named(name: str, environment: str, *, namespace: str = "ml", ephemeral: bool = True) -> str:
    text = ENVIRONMENTS.replace("feature-x-0a1b2c3d", environment).replace("ml-preview", namespace)
    text = text if ephemeral else text.replace("ephemeral: true, ", "")
    directory = Path(os.environ["AIRFLOW_HOME"])
    (directory / "e.yaml").write_text(text)
    file = directory / "m.yaml"
    file.write_text(CHURN.replace("model: churn", f"model: {name}").replace("prod", environment))
    model: EnvironmentModel
    (model,) = load_declaration(file, load_environments(directory / "e.yaml"))
    assert model.online is not None
    return service_name(model, model.online)


def test_services_of_branches_share_a_namespace_without_meeting() -> None:
    assert named("churn", "feature-x-0a1b2c3d", ephemeral=False) == "churn"
    assert named("churn", "feature-x-0a1b2c3d") == "churn-feature-x-0a1b2c3d"
    long = "a-branch-with-a-name-0a1b2c3d"
    names = {named(f"a-model-with-a-long-name-{n}", long, namespace="ml-preview-space") for n in range(5)}
    assert len(names) == 5
    assert all(len(f"{name}-predictor-ml-preview-space") <= 63 for name in names)


def test_same_file_gives_the_same_dags(repository: Path) -> None:
    for environment in ("prod", "gitops"):
        first, second = build(repository, environment=environment), build(repository, environment=environment)
        assert [serialized(dag) for dag in first.values()] == [serialized(dag) for dag in second.values()]


@pytest.mark.parametrize("environment", ["prod", "gitops"])
def test_online_models_load_no_kubernetes_client_and_no_pod_operator(repository: Path, environment: str) -> None:
    build(repository, environment=environment)
    file = repository / "models" / "churn.yaml"
    source = (
        "import sys; from airflow_mlops_provider import load_model_dags;"
        f"dags = load_model_dags({str(file)!r}); assert len(dags) == 2;"
        "loaded = {name.partition('.')[0] for name in sys.modules};"
        "print(sorted(loaded & {'mlflow', 'kubernetes', 'kubernetes_asyncio', 'git'}),"
        "'airflow.providers.cncf.kubernetes.operators.pod' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True, env=os.environ)
    assert done.stdout.strip() == "[] False"
