"""The last wall on a real API server: the generated ValidatingAdmissionPolicy, every other wall left out.

Pods are created with ``dryRun=All``: admission is complete, nothing runs.
"""

from __future__ import annotations

import copy
import importlib.util
import json
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from airflow_mlops_provider.cli.admission_policy import build_objects
from airflow_mlops_provider.declaration import load_environments
from airflow_mlops_provider.declaration.environment import Environment
from airflow_mlops_provider.declaration.pod_policy import check_pod
from devcluster import Cluster

_LABEL = "airflow-mlops/environment"
DIGEST = "@sha256:" + "0" * 64


def _unit_cases(place: str) -> Any:
    """The cases of the other walls: all are to say the same of the same wishes."""
    file = Path(__file__).parents[1] / "unit" / place
    spec = importlib.util.spec_from_file_location(f"{file.stem}_cases", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


CASES = _unit_cases("declaration/test_policy_pod.py")
WISHES = _unit_cases("operators/test_policy_walls.py")
OPERATOR_FIXTURES = _unit_cases("operators/conftest.py")


@pytest.fixture(scope="module")
def api(cluster: Cluster) -> Any:
    from kubernetes import config

    return config.new_client_from_config(str(cluster.kubeconfig))


@pytest.fixture(scope="module")
def wall(api: Any) -> Iterator[Environment]:
    """A namespace with the policies of one environment; its settings."""
    with _installed(api, CASES.settings(namespace=f"walls-{uuid.uuid4().hex[:8]}")) as settings:
        yield settings


@pytest.fixture(scope="module")
def template_wall(api: Any) -> Iterator[Environment]:
    """The same, with a template of the platform's that declarations may extend."""
    with _installed(api, CASES.settings_with_template(namespace=f"walls-{uuid.uuid4().hex[:8]}")) as settings:
        yield settings


@contextmanager
def _installed(api: Any, settings: Environment) -> Iterator[Environment]:
    from kubernetes import client

    name = str(settings.namespace)
    core, admission = client.CoreV1Api(api), client.AdmissionregistrationV1Api(api)
    core.create_namespace({"metadata": {"name": name}})
    for account in ("runner", "admin"):
        core.create_namespaced_service_account(name, {"metadata": {"name": account}})
    objects = build_objects({name: settings})
    made = []
    try:
        for item in objects:
            if item["kind"] == "ValidatingAdmissionPolicy":
                admission.create_validating_admission_policy(item)
            else:
                admission.create_validating_admission_policy_binding(item)
            made.append(item)
        probe = CASES.changed("base.image", "docker.io/x:1")
        for label, policy in ((name, f"mlops-environment-{name}"), ("other", f"mlops-namespace-{name}")):
            _await(
                lambda label=label, policy=policy: policy in str(_refusal(api, settings, probe, label)),
                f"{policy} never took hold",
            )
        yield settings
    finally:
        for item in made:
            if item["kind"] == "ValidatingAdmissionPolicy":
                admission.delete_validating_admission_policy(item["metadata"]["name"])
            else:
                admission.delete_validating_admission_policy_binding(item["metadata"]["name"])
        core.delete_namespace(name)


def _await(condition: Any, message: str) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(message)
        time.sleep(0.3)


def _refusal(api: Any, settings: Environment, pod: dict[str, Any], label: str | None = None) -> str | None:
    """Return the API server's refusal of a pod, or None where it would create it."""
    from kubernetes import client

    pod = copy.deepcopy(pod)
    pod["metadata"] |= {"namespace": settings.namespace, "labels": {_LABEL: label or settings.namespace}}
    try:
        client.CoreV1Api(api).create_namespaced_pod(settings.namespace, pod, dry_run="All")
    except client.ApiException as error:
        return str(error.body)
    return None


@pytest.mark.cluster
@pytest.mark.parametrize("installed", ["wall", "template_wall"])
def test_policies_are_free_of_type_errors(installed: str, api: Any, request: pytest.FixtureRequest) -> None:
    from kubernetes import client

    policies = client.AdmissionregistrationV1Api(api)
    name = f"mlops-environment-{request.getfixturevalue(installed).namespace}"

    def checked() -> Any:
        status = policies.read_validating_admission_policy_status(name).status
        return status and status.observed_generation and status.type_checking

    _await(checked, "the policy was never type-checked")
    assert [warning.warning for warning in checked().expression_warnings or ()] == []


@pytest.mark.cluster
def test_the_pod_that_the_environment_means_is_admitted(api: Any, wall: Environment) -> None:
    assert _refusal(api, wall, CASES.POD) is None


@pytest.mark.cluster
def test_namespace_admits_pods_of_its_environments_only(api: Any, wall: Environment) -> None:
    assert "[environment]" in str(_refusal(api, wall, CASES.POD, label="other"))


#: The API server refuses these by itself, or reads them otherwise, before a policy is asked.
_NOT_FOR_THIS_WALL = {
    ("metadata.namespace", "namespace"),  # decides which policy is asked
    ("spec.serviceAccount", "service_account"),  # an alias: serviceAccountName wins
    ("spec.runtimeClassName", "runtime_class"),  # this one does not exist; see the test of one that does
    ("base.securityContext.procMount", "restricted"),  # needs another field that restricted pods lack
}


def _rows(test: Any) -> list[Any]:
    table = next(mark for mark in test.pytestmark if mark.name == "parametrize")
    return [
        pytest.param(path, value, rule, id=f"{index}-{path}-{rule}")
        for index, (path, value, rule) in enumerate(table.args[1])
        if (path, rule) not in _NOT_FOR_THIS_WALL
        if (path, value) != ("base.image", None)  # required by the API server itself
    ]


@pytest.mark.cluster
@pytest.mark.parametrize(("path", "value", "rule"), _rows(CASES.test_whatever_a_pod_really_asks_for_is_judged))
def test_what_the_operator_refuses_the_api_server_refuses_too(
    path: str, value: Any, rule: str | None, api: Any, wall: Environment
) -> None:
    refusal = _refusal(api, wall, CASES.changed(path, value))
    if rule is None:
        assert refusal is None
    else:
        assert f"[{rule}]" in str(refusal)


@pytest.mark.cluster
def test_a_runtime_class_that_no_template_names_is_refused(api: Any, wall: Environment) -> None:
    """A class may also name a handler that the node lacks: nothing runs here."""
    from kubernetes import client

    classes, name = client.NodeV1Api(api), str(wall.namespace)
    classes.create_runtime_class({"metadata": {"name": name}, "handler": "none"})
    try:
        pod = CASES.changed("spec.runtimeClassName", name)
        _await(lambda: "not found" not in str(_refusal(api, wall, pod)), "the class never arrived")
        assert "[runtime_class]" in str(_refusal(api, wall, pod))
    finally:
        classes.delete_runtime_class(name)


@pytest.mark.cluster
@pytest.mark.parametrize(("path", "value", "rule"), _rows(CASES.test_exactly_what_a_template_adds_is_allowed))
def test_exactly_what_a_template_adds_is_admitted(
    path: str, value: Any, rule: str | None, api: Any, template_wall: Environment
) -> None:
    pod = CASES.changed(path, value)
    refusal = _refusal(api, template_wall, pod)
    if rule is None:
        assert refusal is None
    else:  # the API server tells the first of the rules, the operator all of them
        broken = {item.rule for item in check_pod({**pod, "metadata": {"namespace": "x"}}, template_wall)}
        assert rule in broken
        assert any(f"[{name}]" in str(refusal) for name in broken - {"namespace"})


@pytest.mark.cluster
@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("INPUT_URI", "file:///etc/shadow", "uri_schemes"),
        ("OUTPUT_URI", "/etc/cron.d/x", "uri_schemes"),
        ("INPUT_URI", "S3://in/", None),
        ("MLFLOW_TRACKING_URI", "http://elsewhere", "mlflow_tracking_uri"),
        ("MLFLOW_TRACKING_URI", "http://mlflow.internal", None),
        ("MLOPS_PARTITIONS", "5", "max_partitions"),
        ("MLOPS_PARTITIONS", "4", None),
    ],
)
def test_contract_of_a_pod_is_judged(name: str, value: str, rule: str | None, api: Any, wall: Environment) -> None:
    refusal = _refusal(api, wall, CASES.changed("base.env", [{"name": name, "value": value}]))
    assert (f"[{rule}]" in str(refusal)) if rule else refusal is None


@pytest.mark.cluster
@pytest.mark.parametrize(
    ("image", "allowed"),
    [
        (f"registry.example/teams/x{DIGEST}", True),
        (f"registry.example/teams.evil/x{DIGEST}", False),
        (f"registry.example.evil/teams/x{DIGEST}", False),
        (f"registryXexample/teams/x{DIGEST}", False),
        (f"exact.example/only{DIGEST}", True),
        (f"exact.example/only:1{DIGEST}", True),
        (f"exact.example/only/below{DIGEST}", True),
        (f"exact.example/only2{DIGEST}", False),
        (f"exact.example/only:5000/x{DIGEST}", False),
    ],
)
def test_images_are_covered_as_everywhere_else(image: str, allowed: bool, api: Any, exact: Environment) -> None:
    pod = CASES.changed("base.image", image)
    assert (_refusal(api, exact, pod) is None) is allowed
    assert (check_pod({**pod, "metadata": {"namespace": exact.namespace}}, exact) == []) is allowed


@pytest.fixture(scope="module")
def exact(api: Any, wall: Environment) -> Iterator[Environment]:
    """The same environment, which also allows one repository by its whole name."""
    from kubernetes import client

    images = ("registry.example/teams/", "exact.example/only")
    settings: Environment = CASES.settings({"images": images}, namespace=wall.namespace)
    admission = client.AdmissionregistrationV1Api(api)
    for before, after in ((wall, settings), (settings, wall)):
        [policy] = [
            item
            for item in build_objects({str(wall.namespace): after})
            if item["metadata"]["name"].startswith("mlops-environment-") and "validations" in item["spec"]
        ]
        current = admission.read_validating_admission_policy(policy["metadata"]["name"])
        policy["metadata"]["resourceVersion"] = current.metadata.resource_version
        admission.replace_validating_admission_policy(policy["metadata"]["name"], policy)
        probe = CASES.changed("base.image", f"exact.example/only{DIGEST}")
        wanted = before is settings
        _await(lambda probe=probe, wanted=wanted: bool(_refusal(api, wall, probe)) is wanted, "no change")
        if after is settings:
            yield settings


@pytest.fixture(scope="module")
def platform(api: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, Any], Environment]]:
    """The platform's settings of the table of all walls, as written and as read, installed."""
    written = {**WISHES.PLATFORM, "namespace": f"walls-{uuid.uuid4().hex[:8]}"}
    file = WISHES.write_environments(tmp_path_factory.mktemp("platform") / "environments.yaml", written)
    with _installed(api, load_environments(file)["prod"]) as settings:
        yield written, settings


def _wishes() -> list[Any]:
    rows = [*WISHES.ALLOWED, *(row for row in WISHES.ROWS if WISHES.POD in row.judged)]
    return [pytest.param(row, id=f"{index}-{row.rule or 'allowed'}") for index, row in enumerate(rows)]


@pytest.mark.cluster
@pytest.mark.parametrize("row", _wishes())
def test_pod_of_a_forbidden_declaration_is_refused(
    row: Any,
    platform: tuple[dict[str, Any], Environment],
    cluster: Cluster,
    api: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The pod that the operator would create, had every wall before this one let it through."""
    extra = {"kube_config_path": str(cluster.kubeconfig)}
    monkeypatch.setenv("AIRFLOW_CONN_K8S_PROD", json.dumps({"conn_type": "kubernetes", "extra": extra}))
    monkeypatch.setenv("AIRFLOW_CONN_MLFLOW_PROD", json.dumps({"conn_type": "mlflow", "host": "http://127.0.0.1:9"}))
    monkeypatch.delenv(WISHES.FILE_SETTING, raising=False)
    (written, settings), context = platform, OPERATOR_FIXTURES.build_context()
    task = WISHES.build_task(row, written, tmp_path, dict(OPERATOR_FIXTURES.MODEL))
    task._hand_over(task.pin_model(context), context)
    pod = api.sanitize_for_serialization(task.build_pod_request_obj(context))
    refusal = _refusal(api, settings, pod)
    assert (f"[{row.rule}]" in str(refusal)) if row.rule else refusal is None
