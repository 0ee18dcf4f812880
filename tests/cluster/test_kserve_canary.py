"""A canary with the real KServe: an agreeing candidate is promoted, any other goes, and the stable version answers.

Two real models come from a real MLflow server; where only the candidate's fate matters, a service that answers from a
file stands in, which is up in 3 seconds.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import sys
import threading
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

# pytest's importlib mode knows no sibling modules.
sys.path.insert(0, str(Path(__file__).parent))
from kserve_world import NO_MODEL, SMOKE, World, _first_event, build_context, fails, probe_manifest, serving, world

from airflow_mlops_provider.manifests.naming import ownership_labels

__all__ = ["serving", "world"]

pytestmark = pytest.mark.cluster

QUICK: dict[str, Any] = {"steps": [20, 50], "bake_seconds": 2, "probes_per_step": 10}


class Store(dict[str, Any]):
    """A task state store as far as operators use it."""

    def set(self, key: str, value: Any) -> None:
        self[key] = json.loads(json.dumps(value))


def canary_context(store: Store | None = None) -> Any:
    context = build_context()
    context["ti"] = SimpleNamespace(
        try_number=1, max_tries=0, xcom_push=lambda key, value: context["pushed"].update({key: value})
    )
    return {**context, **({"task_state_store": store} if store is not None else {})}


def build_operator(world: World, name: str, **arguments: Any) -> Any:
    from airflow_mlops_provider.operators.kserve import KServeCanaryOperator

    return KServeCanaryOperator(
        task_id="canary",
        name=name,
        namespace=world.namespace,
        kubernetes_conn_id="k8s_kserve",
        mlflow_conn_id="mlflow_kserve",
        poll_interval_seconds=0.5,
        **{"timeout_seconds": 120, "model": NO_MODEL, **QUICK, **arguments},
    )


def canary(world: World, name: str, *, context: Any = None, **arguments: Any) -> Any:
    """Run a canary to its end, each deferral through JSON into a trigger, and its event into a new operator."""
    from airflow.sdk.exceptions import TaskDeferred

    context = context or canary_context()
    operator = build_operator(world, name, **arguments)
    go_on = partial(operator.execute, context)
    while True:
        try:
            return go_on()
        except TaskDeferred as deferred:
            trigger, method, kwargs = deferred.trigger, deferred.method_name, json.loads(json.dumps(deferred.kwargs))
        path, fields = trigger.serialize()
        assert path == f"{type(trigger).__module__}.{type(trigger).__name__}"
        trigger = type(trigger)(**json.loads(json.dumps(fields)))
        event = json.loads(json.dumps(asyncio.run(_first_event(trigger, None))))
        go_on = partial(getattr(build_operator(world, name, **arguments), method), context, event, **kwargs)


def exists(world: World, name: str) -> bool:
    kind = world.of_kind("InferenceService")
    return any(item.metadata.name == name for item in kind.get(namespace=world.namespace).items)


class Client:
    """Asks a probe service without end, and notes what it says."""

    def __init__(self, world: World, name: str) -> None:
        self._world, self._name, self._stop = world, name, threading.Event()
        self.answers: list[Any] = []
        self.failures: list[str] = []
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.answers.append(self._world.probe(self._name))
            except Exception as error:
                self.failures.append(f"{type(error).__name__}: {error}")
            time.sleep(0.2)

    def __enter__(self) -> Client:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=60)


@pytest.fixture(scope="module")
def stable(world: World) -> str:
    """A service that answers [1, 2]."""
    world.deploy("stable", manifest=probe_manifest("[1, 2]"), smoke_test=SMOKE)
    return "stable"


def spec_of(world: World, name: str) -> Any:
    live = world.get("InferenceService", name)
    return live["metadata"]["uid"], live["metadata"]["generation"], live["spec"]


def test_first_deployment_has_nothing_to_compare_with(world: World) -> None:
    done = canary(world, "first", manifest=probe_manifest("[1]"), smoke_test=SMOKE)
    assert (done["created"], done["canary"]["verdict"], done["canary"]["mode"]) == (True, "first", None)
    assert "no stable service yet" in done["canary"]["reason"]
    again = canary(world, "first", manifest=probe_manifest("[1]"), smoke_test=SMOKE)
    assert (again["changed"], again["canary"]["verdict"]) == (False, "unchanged")
    assert not exists(world, "first-candidate")


@pytest.mark.parametrize("deferrable", [False, True])
def test_disagreeing_candidate_goes_and_the_stable_one_answers_throughout(
    world: World, stable: str, deferrable: bool
) -> None:
    before, context = spec_of(world, stable), canary_context()
    work = partial(
        canary,
        world,
        stable,
        context=context,
        manifest=probe_manifest("[1, 3]"),
        smoke_test=SMOKE,
        min_agreement=0.9,
        deferrable=deferrable,
    )
    with Client(world, stable) as client:
        message = fails(work, "agreement is 0.5, under the bar of 0.9", "stable 2, candidate 3")
    assert "stable-candidate is deleted; the stable version serves on" in message
    assert not exists(world, "stable-candidate")
    assert spec_of(world, stable) == before
    assert client.failures == []
    assert client.answers
    assert all(answer == [1, 2] for answer in client.answers)
    told = context["pushed"]["canary"]
    assert (told["mode"], told["verdict"]) == ("mirror", "rolled_back")
    assert told["measurements"][-1]["agreement"] == 0.5


def test_failing_candidate_goes_on_evidence(world: World, stable: str) -> None:
    before = spec_of(world, stable)
    work = partial(
        canary,
        world,
        stable,
        manifest=probe_manifest("[1, 2]", image="mlops.local/none:1"),
        smoke_test=SMOKE,
        deferrable=True,
    )
    message = fails(work, "stable-candidate", "image mlops.local/none:1", "cannot be pulled", within_seconds=60)
    assert "stable-candidate is deleted; the stable version serves on" in message
    assert not exists(world, "stable-candidate")
    assert spec_of(world, stable) == before
    assert world.probe(stable) == [1, 2]


def test_candidate_that_crashes_while_it_is_watched_goes(world: World, stable: str) -> None:
    crashing = probe_manifest("[1, 2]", asked="echo x >> /tmp/n; [ $(wc -l < /tmp/n) -lt 3 ] || kill 1")
    work = partial(canary, world, stable, manifest=crashing, smoke_test=SMOKE, max_error_rate=0.1)
    message = fails(work, "error rate", "over the bar of 0.1", "pod stable-candidate-predictor-")
    assert "stable-candidate is deleted" in message
    assert world.probe(stable) == [1, 2]


def test_modes_that_would_be_ignored_are_refused(world: World, stable: str) -> None:
    new = {"manifest": probe_manifest("[1, 2] "), "smoke_test": SMOKE}
    fails(partial(canary, world, stable, mode="knative", **new), "ignores canaryTrafficPercent in Standard mode")
    fails(partial(canary, world, stable, mode="canary", **new), "spec.canary divides traffic from KServe 0.21 on")
    assert not exists(world, "stable-candidate")


def test_candidate_name_of_another_service_is_refused(world: World, stable: str) -> None:
    world.deploy("other", manifest=probe_manifest("[9]"), smoke_test=SMOKE)
    new = {"manifest": probe_manifest("[1, 2] "), "smoke_test": SMOKE, "candidate_name": "other"}
    fails(partial(canary, world, stable, **new), "is a service of its own, no candidate")
    assert world.probe("other") == [9]


def test_person_decides_between_start_and_promote(world: World) -> None:
    world.deploy("gated", manifest=probe_manifest("[1]"), smoke_test=SMOKE)
    new = {"manifest": probe_manifest("[2]"), "smoke_test": SMOKE}
    started = canary(world, "gated", action="start", **new)
    assert (started["name"], started["canary"]["verdict"]) == ("gated-candidate", "started")
    assert [item["agreement"] for item in started["canary"]["measurements"]] == [0.0, 0.0], "measured, not judged"
    assert (world.probe("gated"), world.probe("gated-candidate")) == ([1], [2])
    fails(
        partial(canary, world, "gated", action="promote", manifest=probe_manifest("[3]"), smoke_test=SMOKE),
        "has no candidate with model",
    )
    done = canary(world, "gated", action="rollback")
    assert done["canary"]["verdict"] == "rolled_back"
    assert not exists(world, "gated-candidate")
    canary(world, "gated", action="start", **new)
    promoted = canary(world, "gated", action="promote", **new)
    assert (promoted["name"], promoted["canary"]["verdict"]) == ("gated", "promoted")
    assert world.probe("gated") == [2]
    assert not exists(world, "gated-candidate")


def stop_at_step(world: World, name: str, context: Any, **arguments: Any) -> Any:
    """Run a deferrable canary until its first step waits in the triggerer, and return that trigger."""
    from airflow.sdk.exceptions import TaskDeferred

    operator = build_operator(world, name, deferrable=True, **arguments)
    with pytest.raises(TaskDeferred) as rollout:
        operator.execute(context)
    event = json.loads(json.dumps(asyncio.run(_first_event(rollout.value.trigger, None))))
    kwargs = json.loads(json.dumps(rollout.value.kwargs))
    with pytest.raises(TaskDeferred) as step:
        build_operator(world, name, deferrable=True, **arguments).candidate_over(context, event, **kwargs)
    return step.value.trigger


def test_restarted_triggerer_measures_the_whole_step_and_a_kill_takes_the_candidate_away(
    world: World, stable: str
) -> None:
    new = {"manifest": probe_manifest("[1, 2] "), "smoke_test": SMOKE, "bake_seconds": 4, "probes_per_step": 20}
    trigger = stop_at_step(world, stable, canary_context(), **new)

    async def restart() -> Any:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(_first_event(trigger, None), timeout=1.5)
        _, fields = trigger.serialize()
        again = type(trigger)(**json.loads(json.dumps(fields)))
        event = await _first_event(again, None)
        await again.on_kill()
        return event

    event = asyncio.run(restart())
    assert event["outcome"]["measurement"]["requests"] == 4
    assert event["outcome"]["breach"] is None
    assert time.time() >= trigger.step["deadline_seconds"]
    _gone(world, "stable-candidate")
    assert world.probe(stable) == [1, 2]


def test_killed_worker_takes_the_candidate_away(world: World, stable: str) -> None:
    operator = build_operator(
        world, stable, manifest=probe_manifest("[1, 2] "), smoke_test=SMOKE, bake_seconds=600, steps=[99]
    )
    worker = threading.Thread(target=lambda: operator.execute(canary_context()), daemon=True)
    worker.start()
    _wait_for(lambda: exists(world, "stable-candidate") and world.probe("stable-candidate") == [1, 2])
    operator.on_kill()
    _gone(world, "stable-candidate")
    assert world.probe(stable) == [1, 2]


def test_retry_after_sigkill_goes_on_with_the_candidate_that_is_there(world: World, stable: str) -> None:
    new: dict[str, Any] = {"manifest": probe_manifest("[1, 2] "), "smoke_test": SMOKE}
    process = multiprocessing.get_context("fork").Process(
        target=canary, args=(world, stable), kwargs={**new, "bake_seconds": 600, "steps": [99]}
    )
    process.start()
    _wait_for(lambda: exists(world, "stable-candidate") and world.probe("stable-candidate") == [1, 2])
    process.kill()
    process.join()
    left = world.get("InferenceService", "stable-candidate")["metadata"]
    again = canary(world, stable, action="start", **new)
    assert (again["uid"], again["changed"], again["canary"]["verdict"]) == (left["uid"], False, "started")
    replaced = canary(world, stable, action="start", manifest=probe_manifest("[1, 2]  "), smoke_test=SMOKE)
    assert (replaced["uid"], replaced["changed"]) == (left["uid"], True), "of another spec: replaced, not doubled"
    # What a promotion leaves that was killed before its last act: the service is new, its candidate still there.
    world.deploy(stable, manifest=probe_manifest("[1, 2]  "), smoke_test=SMOKE)
    done = canary(world, stable, manifest=probe_manifest("[1, 2]  "), smoke_test=SMOKE)
    assert (done["changed"], done["canary"]["verdict"]) == (False, "unchanged")
    assert not exists(world, "stable-candidate")


def _wait_for(state: Any, seconds: float = 60) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if state():
                return
        except AirflowFailException:
            pass  # not ready yet
        time.sleep(0.3)
    pytest.fail(f"not so after {seconds:g} s")


def _gone(world: World, name: str) -> None:
    _wait_for(lambda: not exists(world, name))


# --- the ways that divide traffic: this cluster has the fields and divides nothing ----------------------------------


def modelled(name: str, runtime: str) -> dict[str, Any]:
    """Return a service with ``predictor.model``, which ``spec.canary`` demands, and a runtime of :func:`runtimes`."""
    # The one format for which KServe does without a storage URI.
    model = {"modelFormat": {"name": "huggingface"}, "runtime": runtime}
    predictor = {"minReplicas": 1, "maxReplicas": 1, "terminationGracePeriodSeconds": 2, "model": model}
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {
            "name": name,
            "namespace": "",
            "labels": ownership_labels(name, "default", component="online"),
            "annotations": {"serving.kserve.io/autoscalerClass": "none"},
        },
        "spec": {"predictor": predictor},
    }


@pytest.fixture(scope="module")
def runtimes(world: World) -> None:
    for name, answer in (("probe-old", "[1]"), ("probe-new", "[2]")):
        container = probe_manifest(answer)["spec"]["predictor"]["containers"][0]
        spec = {"supportedModelFormats": [{"name": "huggingface"}], "containers": [container]}
        kind = {"apiVersion": "serving.kserve.io/v1alpha1", "kind": "ServingRuntime"}
        world.create({**kind, "metadata": {"name": name}, "spec": spec})


def stable_and_wanted(world: World, hook: Any, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Deploy the old version of a service; return it, and the new version as it is wanted."""
    from airflow_mlops_provider.hooks.kserve_apply import apply_plan

    old, new = modelled(name, "probe-old"), modelled(name, "probe-new")
    old["metadata"]["namespace"] = new["metadata"]["namespace"] = world.namespace
    plan = apply_plan(hook, old, {})
    wait_until_ready(hook, plan)
    return hook.get_service(plan.service), new


def wait_until_ready(hook: Any, plan: Any) -> tuple[str, ...]:
    from airflow_mlops_provider.hooks.kserve_rollout import wait_for_rollout

    verdict = wait_for_rollout(
        hook,
        plan.service,
        plan.awaited,
        deadline_seconds=time.time() + 60,
        poll_interval_seconds=0.5,
        say=print,
    )
    assert verdict.state == "ready", verdict.cause
    return verdict.pods


def test_entry_has_pods_of_its_own_and_a_missing_split_is_noticed(world: World, runtimes: None) -> None:
    from airflow_mlops_provider.exceptions import DeploymentFailedError
    from airflow_mlops_provider.hooks.kserve_canary_traffic import EntryHook, EntryWay
    from airflow_mlops_provider.hooks.kserve_probe import BakeStep, run_bake
    from airflow_mlops_provider.manifests.inference_service_seal import read_spec_hash

    hook = EntryHook("k8s_kserve")
    live, new = stable_and_wanted(world, hook, "entry")
    way = EntryWay(hook, print, new, 50, seconds=2)
    plan = way.begin(live, {}, lambda _: None)
    pods = wait_until_ready(hook, plan)
    assert all(pod.startswith("entry-candidate-predictor-") for pod in pods)
    reference = plan.service.to_dict()
    step = BakeStep(
        stable={"reference": reference, "spec_hash": read_spec_hash(live)},
        candidate={"reference": reference, "spec_hash": plan.awaited.spec_hash},
        probes=[{"path": "/cgi-bin/predict", "body": {}}],
        step=50,
        planned=2,
        bake_seconds=1,
        deadline_seconds=time.time() + 1,
        gates={},
    )
    measured = run_bake(hook, step, print)["measurement"]
    assert (measured["requests"], measured["errors"], measured["agreement"]) == (2, 0, 0.0), "each asked its own pods"
    with pytest.raises(DeploymentFailedError, match="is not divided after 2 s: the service has no HTTPRoute"):
        way.shift(50)
    assert way.adopt(hook.get_service(plan.service), {}) is not None
    assert "the former version is asked for again" in way.go_back(plan)
    assert hook.get_service(plan.service)["spec"] == live["spec"]
    assert "no candidate" in way.go_back(plan)


def test_percentage_that_is_ignored_is_noticed_and_taken_back(world: World, runtimes: None) -> None:
    from airflow_mlops_provider.exceptions import DeploymentFailedError
    from airflow_mlops_provider.hooks.kserve import KServeHook
    from airflow_mlops_provider.hooks.kserve_canary_traffic import PercentWay

    hook = KServeHook("k8s_kserve")
    live, new = stable_and_wanted(world, hook, "percent")
    kept: list[Any] = []
    way = PercentWay(hook, print, new, 10, seconds=2)
    plan = way.begin(live, {}, kept.append)
    assert kept[0].former == plan.former
    asked = hook.get_service(plan.service)
    assert asked["spec"]["predictor"]["canaryTrafficPercent"] == 10
    with pytest.raises(DeploymentFailedError, match="the newest revision has 0 per cent of the traffic, not 50"):
        way.shift(50)
    now = hook.get_service(plan.service)
    assert now["spec"]["predictor"]["canaryTrafficPercent"] == 50
    assert now["spec"]["predictor"]["annotations"] == asked["spec"]["predictor"]["annotations"], "the same revision"
    adopted = way.adopt(now, {})
    assert adopted is not None
    assert adopted.former is None, "only the task's own store remembers what served before"
    way.go_back(plan)
    assert hook.get_service(plan.service)["spec"] == live["spec"]


# --- real models -----------------------------------------------------------------------------------------------------


def predictions(world: World, name: str, rows: Any, uri: str) -> list[float]:
    body = {"dataframe_split": rows.to_dict(orient="split", index=False)}
    answer = world.predict(name, request=body, path="/invocations", expect_model_uri=uri)["answers"][0]
    return [row[1] for row in answer["predictions"]]


def test_real_model_is_promoted_if_it_agrees_and_goes_if_not(world: World, served_models: Any) -> None:
    old, new = served_models
    service: dict[str, Any] = {
        "smoke_test": {"from": "input_example", "expect_shape": [2, 2]},
        "timeout_seconds": 240,
    }
    world.deploy("churn", model=f"models:/{old.model_id}", **service)
    rows = old.rows.head(20).to_dict(orient="records")
    gated = {**service, "probe_rows": rows, "min_agreement": 0.95, "max_latency_seconds": 5, "bake_seconds": 1}
    # Probabilities of two models differ, but never by more than 1.
    done = canary(world, "churn", model=f"models:/{new.model_id}", tolerance=1.0, deferrable=True, **gated)
    assert done["canary"]["verdict"] == "promoted"
    assert [(item["requests"], item["agreement"]) for item in done["canary"]["measurements"]] == [(2, 1.0), (5, 1.0)]
    assert done["model"]["uri"] == f"models:/{new.model_id}"
    assert not exists(world, "churn-candidate")
    assert predictions(world, "churn", new.rows, done["model"]["uri"]) == pytest.approx(new.predictions)

    before = spec_of(world, "churn")
    message = fails(
        partial(canary, world, "churn", model=f"models:/{old.model_id}", **gated),
        "agreement is 0, under the bar of 0.95",
        within_seconds=120,
    )
    assert "churn-candidate is deleted; the stable version serves on" in message
    assert spec_of(world, "churn") == before
    assert predictions(world, "churn", new.rows, done["model"]["uri"]) == pytest.approx(new.predictions)
