"""``deploy/kserve/rbac.yaml`` is enough (all tests run under it), and nothing in it is too much (this module).

Each verb is taken away in turn: the operation that needs it is refused, in an error that names the verb, the resource,
the namespace and the file. The operations are the operators' own, against the real API server.
"""

from __future__ import annotations

import asyncio
import copy
import json
import logging
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

# pytest's importlib mode knows no sibling modules.
sys.path.insert(0, str(Path(__file__).parent))
from kserve_world import BUSYBOX, NO_MODEL, build_context, probe_manifest, serving
from service_account import MODELS_NAMESPACE, NAME, Account, service_account

from airflow_mlops_provider.exceptions import AccessDeniedError
from airflow_mlops_provider.hooks import kserve_api
from airflow_mlops_provider.hooks.failing import missing_permissions_fail
from airflow_mlops_provider.hooks.kserve import KServeHook
from airflow_mlops_provider.hooks.kserve_api import ServiceReference
from airflow_mlops_provider.hooks.kserve_canary import read_facts
from airflow_mlops_provider.hooks.kserve_canary_traffic import EntryWay
from airflow_mlops_provider.hooks.kserve_http import PodDoor
from airflow_mlops_provider.hooks.kserve_watch import AsyncKServeHook
from airflow_mlops_provider.hooks.kubernetes_access import RBAC_FILE, missing_permission
from airflow_mlops_provider.manifests.inference_service import LLM_KIND

__all__ = ["serving"]

pytestmark = pytest.mark.cluster

SIDECAR = "airflow-xcom-sidecar"


@dataclass(frozen=True)
class Place:
    """A namespace with a pod in it, and an account whose rules the tests change."""

    namespace: str
    account: Account
    pod: Any

    @property
    def hook(self) -> KServeHook:
        return KServeHook("k8s_rbac")

    def service(self, kind: str = "InferenceService", name: str = "subject") -> ServiceReference:
        version = "v1alpha1" if kind == LLM_KIND else "v1beta1"
        return ServiceReference(
            name=name, namespace=self.namespace, kind=kind, api_version=f"serving.kserve.io/{version}"
        )

    def batch(self, **arguments: Any) -> Any:
        """Return the batch operator, pointed at the pod."""
        from airflow_mlops_provider.operators.mlflow import MLflowModelBatchOperator

        return MLflowModelBatchOperator(
            task_id="score",
            model=NO_MODEL,
            namespace=self.namespace,
            image=BUSYBOX,
            kubernetes_conn_id="k8s_rbac",
            mlflow_conn_id="mlflow_rbac",
            name="subject",
            **arguments,
        )

    def new_pod(self) -> Any:
        from kubernetes import client

        name = f"new-{uuid.uuid4().hex[:6]}"
        spec = {"containers": [{"name": "base", "image": BUSYBOX}]}
        return client.V1Pod(metadata=client.V1ObjectMeta(name=name, namespace=self.namespace), spec=spec)


def kubernetes_pod(name: str) -> dict[str, Any]:
    script = "mkdir -p /tmp/www && httpd -f -p 8080 -h /tmp/www"
    base = {"image": BUSYBOX, "imagePullPolicy": "IfNotPresent"}
    containers = [
        {**base, "name": "base", "command": ["sh", "-c", script], "ports": [{"containerPort": 8080}]},
        {**base, "name": SIDECAR, "command": ["sh", "-c", "trap 'exit 0' INT TERM; sleep 1000 & wait"]},
    ]
    return {"metadata": {"name": name}, "spec": {"containers": containers, "terminationGracePeriodSeconds": 1}}


@pytest.fixture(scope="module")
def place(serving: Any, kube: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    name = f"rbac-{uuid.uuid4().hex[:6]}"
    kube.create_namespace({"metadata": {"name": name}})
    with service_account(serving.kubeconfig, tmp_path_factory.mktemp("lesser")) as account:
        account.admit(name)
        kube.create_namespaced_pod(name, kubernetes_pod("subject"))
        extra = {"kube_config_path": str(account.kubeconfig)}
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AIRFLOW_CONN_K8S_RBAC", json.dumps({"conn_type": "kubernetes", "extra": extra}))
            patch.setenv("AIRFLOW_CONN_MLFLOW_RBAC", json.dumps({"conn_type": "mlflow", "host": "http://127.0.0.1:9"}))
            until(lambda: kube.read_namespaced_pod("subject", name).status.phase == "Running")
            yield Place(name, account, kube.read_namespaced_pod("subject", name))
    kube.delete_namespace(name)


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.1)


# --- what each verb is for --------------------------------------------------------------------------------------------

Operation = Callable[[Place], object]


def watch(kind: str | None, service_kind: str = "InferenceService") -> Operation:
    """Open the trigger's watch: it has nothing to tell, so being let in is all there is to see."""

    async def open_watch(place: Place) -> None:
        reference = place.service(service_kind)
        request = kserve_api.list_children(kind, reference) if kind else kserve_api.list_service(reference)
        async with AsyncKServeHook("k8s_rbac").connect() as client:
            try:
                await asyncio.wait_for(client.watch(request, "0", str(reference)), 1)
            except TimeoutError:
                return

    return lambda place: asyncio.run(open_watch(place))


async def _list_service(place: Place, kind: str) -> None:
    async with AsyncKServeHook("k8s_rbac").connect() as client:
        await client.ask(kserve_api.list_service(place.service(kind)), kind)


async def _watch_pod_events(place: Place) -> str:
    from airflow.providers.cncf.kubernetes.hooks.kubernetes import AsyncKubernetesHook

    hook = AsyncKubernetesHook(conn_id="k8s_rbac")
    events = hook.watch_pod_events("subject", place.namespace, timeout_seconds=1)
    while not hook._event_polling_fallback:
        try:
            await asyncio.wait_for(anext(events), 2)
        except TimeoutError:
            break
    await events.aclose()
    return "polling" if hook._event_polling_fallback else "watching"


def apply(kind: str) -> Operation:
    def run(place: Place) -> None:
        reference = place.service(kind, f"new-{uuid.uuid4().hex[:6]}")
        if kind == LLM_KIND:
            spec: dict[str, Any] = {"model": {"uri": "hf://tests/none", "name": "none"}}
            manifest = {"apiVersion": reference.api_version, "kind": kind, "spec": spec}
        else:
            manifest = probe_manifest()
        manifest["metadata"] = {"name": reference.name, "namespace": place.namespace}
        place.hook.apply(manifest, dry_run=True)

    return run


def delete(kind: str) -> Operation:
    return lambda place: place.hook.delete(place.service(kind, "nothing"), "0-0")


def get(kind: str) -> Operation:
    return lambda place: place.hook.get_service(place.service(kind))


def of_kserve(kind: str) -> dict[tuple[str, str, str], Operation]:
    plural = f"{kind.lower()}s"
    return {
        ("serving.kserve.io", plural, "create"): apply(kind),
        ("serving.kserve.io", plural, "patch"): apply(kind),
        ("serving.kserve.io", plural, "delete"): delete(kind),
        ("serving.kserve.io", plural, "get"): get(kind),
        ("serving.kserve.io", plural, "list"): lambda place: asyncio.run(_list_service(place, kind)),
        ("serving.kserve.io", plural, "watch"): watch(None, kind),
    }


def observe(place: Place) -> object:
    return place.hook.observe(place.service())


def ask(method: str) -> Operation:
    def run(place: Place) -> object:
        pod = place.account.client.sanitize_for_serialization(place.pod)
        return PodDoor(place.hook, pod).ask(method, "/")

    return run


def facts(place: Place) -> object:
    # No canary field and no KServe of 0.21: what decides whether the CRD is read is given.
    live = {"metadata": {}, "status": {"deploymentMode": "Standard"}}
    return read_facts(place.hook, live, {"metadata": {}}, "kserve")


def read_crd(place: Place) -> object:
    from airflow_mlops_provider.hooks.kserve_canary import _CRD, _read

    return _read(place.hook, _CRD)


def read_route(place: Place) -> object:
    metadata = {"name": "subject", "namespace": place.namespace}
    return EntryWay(place.hook, print, {"metadata": metadata}, 10)._problem(10)


OPERATIONS: dict[tuple[str, str, str], Operation] = {
    ("", "pods", "create"): lambda place: place.batch().pod_manager.create_pod(place.new_pod()),
    ("", "pods", "get"): lambda place: place.batch().pod_manager.read_pod(place.pod),
    ("", "pods", "list"): observe,
    ("", "pods", "watch"): watch("pods"),
    ("", "pods", "patch"): lambda place: place.batch().patch_already_checked(place.pod),
    ("", "pods", "delete"): lambda place: place.batch().pod_manager.delete_pod(place.new_pod()),
    ("", "pods/log", "get"): lambda place: place.hook.read_log(place.namespace, "subject", "base"),
    ("", "pods/exec", "get"): lambda place: place.batch().pod_manager.extract_xcom_json(place.pod),
    ("", "pods/proxy", "get"): ask("GET"),
    ("", "pods/proxy", "create"): ask("POST"),
    ("", "events", "list"): lambda place: place.hook.list_events(place.service()),
    ("", "events", "watch"): lambda place: asyncio.run(_watch_pod_events(place)),
    ("apps", "deployments", "list"): observe,
    ("apps", "deployments", "watch"): watch("deployments"),
    ("apps", "replicasets", "list"): observe,
    ("apps", "replicasets", "watch"): watch("replica_sets"),
    **of_kserve("InferenceService"),
    **of_kserve(LLM_KIND),
    ("serving.kserve.io", "servingruntimes", "get"): lambda place: place.hook.get_runtime("none", place.namespace),
    ("serving.kserve.io", "clusterservingruntimes", "get"): lambda place: place.hook.get_runtime(
        "none", place.namespace
    ),
    ("gateway.networking.k8s.io", "httproutes", "get"): read_route,
    ("", "configmaps", "get"): facts,
    ("apps", "deployments", "get"): facts,
    ("apiextensions.k8s.io", "customresourcedefinitions", "get"): read_crd,
}


@dataclass(frozen=True)
class Permission:
    """One verb of one resource in one of the file's objects."""

    kind: str
    namespace: str
    group: str
    resource: str
    verb: str

    @property
    def key(self) -> tuple[str, str, str]:
        return self.group, self.resource, self.verb

    def take_from(self, role: dict[str, Any]) -> None:
        """Leave everything else in the role."""
        rules = []
        for rule in role["rules"]:
            if self.group in rule["apiGroups"] and self.resource in rule["resources"]:
                others = [item for item in rule["resources"] if item != self.resource]
                rules += [{**rule, "resources": others}] if others else []
                rule = {**rule, "resources": [self.resource], "verbs": [v for v in rule["verbs"] if v != self.verb]}
            rules += [rule] if rule["verbs"] else []
        role["rules"] = rules


def permissions() -> list[Permission]:
    import yaml
    from service_account import FILE

    return [
        Permission(item["kind"], item["metadata"].get("namespace", ""), group, resource, verb)
        for item in yaml.safe_load_all(FILE.read_text())
        for rule in item.get("rules", ())
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    ]


@pytest.fixture
def said_by(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> Callable[[Operation, Place], str]:
    return lambda operation, place: _said_by(operation, place, caplog, capsys)


def _said_by(
    operation: Operation, place: Place, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> str:
    """Run it and return everything that it tells: its error, its result, its log."""
    caplog.clear()
    capsys.readouterr()
    with caplog.at_level(logging.WARNING):
        try:
            with missing_permissions_fail():
                told = str(operation(place))
        except Exception as error:
            told = f"{type(error).__name__}: {error}"
    return "\n".join([told, *(record.getMessage() for record in caplog.records), capsys.readouterr().out])


def may(place: Place, wanted: Permission, namespace: str) -> bool:
    from kubernetes import client, config

    resource, _, sub = wanted.resource.partition("/")
    named = {
        "configmaps": "inferenceservice-config",
        "customresourcedefinitions": "inferenceservices.serving.kserve.io",
    }.get(resource, "kserve-controller-manager" if wanted.namespace == "kserve" else "")
    attributes = {"namespace": namespace, "verb": wanted.verb, "group": wanted.group, "resource": resource}
    review = client.AuthorizationV1Api(config.new_client_from_config(str(place.account.kubeconfig)))
    body = {"spec": {"resourceAttributes": {**attributes, "subresource": sub, "name": named}}}
    return bool(review.create_self_subject_access_review(body).status.allowed)


@pytest.mark.parametrize("wanted", permissions(), ids=lambda item: f"{item.verb}-{item.resource}-{item.kind}")
def test_without_a_verb_its_operation_is_refused_by_name(
    wanted: Permission, place: Place, said_by: Callable[[Operation, Place], str]
) -> None:
    operation = OPERATIONS[wanted.key]
    assert missing_permission(said_by(operation, place)) is None, "with all of the file"
    namespace = place.namespace if wanted.namespace == MODELS_NAMESPACE else wanted.namespace
    whole = next(
        item
        for item in place.account.objects(place.namespace)
        if item["kind"] == wanted.kind and item["metadata"].get("namespace", "") == namespace
    )
    less = copy.deepcopy(whole)
    wanted.take_from(less)
    place.account.apply(less)
    try:
        until(lambda: not may(place, wanted, namespace))
        told = said_by(operation, place)
    finally:
        place.account.apply(whole)
        until(lambda: may(place, wanted, namespace))
    group = f" of API group {wanted.group}" if wanted.group else ""
    where = f"in namespace {namespace!r}" if namespace else "in the cluster"
    account = f"system:serviceaccount:{place.account.name}:{NAME}"
    if wanted.key == ("", "events", "watch"):
        told = str(missing_permission(told))  # the Kubernetes provider logs the server's own words, and goes on
    assert f"the account '{account}' may not {wanted.verb} {wanted.resource}{group} {where}" in told
    assert RBAC_FILE in told


def test_every_verb_has_its_operation_and_no_operation_is_without_one() -> None:
    assert {item.key for item in permissions()} == set(OPERATIONS)


def test_account_may_nothing_elsewhere(place: Place) -> None:
    with pytest.raises(AccessDeniedError, match=r"may not get inferenceservices .* in namespace 'default'"):
        place.hook.get_service(ServiceReference(name="x", namespace="default"))


@pytest.mark.parametrize("task", ["batch", "deploy"])
def test_task_that_lacks_one_fails_for_good(task: str, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    from airflow_mlops_provider.operators.kserve import KServeDeployOperator

    deploy = KServeDeployOperator(
        task_id="deploy",
        name="subject",
        namespace="default",
        kubernetes_conn_id="k8s_rbac",
        mlflow_conn_id="mlflow_rbac",
        model=NO_MODEL,
        manifest=probe_manifest(),
    )
    batch, pod = place.batch(), place.new_pod()
    pod.metadata.namespace = "default"
    monkeypatch.setattr(batch, "pod_request_obj", pod)
    context = build_context()
    vars(context["ti"]).update(
        dag_id="prod.subject.batch", task_id="score", run_id="manual__1", map_index=-1, try_number=1
    )
    context["dag"] = SimpleNamespace(parent_dag=None, is_subdag=False)
    operator = batch if task == "batch" else deploy
    with pytest.raises(AirflowFailException) as caught:
        operator.execute(context)
    assert str(caught.value).startswith("AccessDeniedError: ")
    assert "in namespace 'default'; bind its Role there to the account: deploy/kserve/rbac.yaml" in str(caught.value)
