"""What a canary refuses before it touches anything, and what it does with its candidate when something fails."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_mlops_provider.exceptions import CanaryRejectedError, DeploymentTimeoutError
from airflow_mlops_provider.hooks.kserve_canary import Trial
from airflow_mlops_provider.operators.kserve import KServeCanaryOperator, KServeDeployOperator
from airflow_mlops_provider.triggers.kserve_canary import KServeCanaryTrigger

PLAN = {
    "reference": {"name": "churn-candidate", "namespace": "ml"},
    "target": {"name": "churn-candidate", "namespace": "ml", "uid": "u-1", "spec_hash": "new", "generation": 1},
    "created": True,
    "changed": True,
    "former": None,
}
MEASURED = {"step": 10, "requests": 2, "errors": 0}
BREACH = {"gate": "agreement", "measured": 0.5, "bar": 0.9, "message": "agreement is 0.5, under the bar of 0.9 (…)"}


def build(**arguments: Any) -> KServeCanaryOperator:
    return KServeCanaryOperator(
        **{"task_id": "canary", "model": "models:/m-1", "name": "churn", "namespace": "ml", **arguments}
    )


def test_it_is_a_deployment_with_a_canary_before_it() -> None:
    operator = build(min_replicas=3, resources={"cpu": "1"})
    assert isinstance(operator, KServeDeployOperator)
    assert (operator.min_replicas, operator.steps, operator.bake_seconds) == (3, (10, 50), 900)
    assert operator.on_failure == "rollback"
    assert {*KServeDeployOperator.template_fields, "probe_rows"} <= set(operator.template_fields)


def test_page_shows_what_the_operator_takes() -> None:
    page = (Path(__file__).parents[3] / "docs" / "canary.md").read_text()
    source = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)[0]
    module: dict[str, Any] = {}
    exec(
        compile(source.replace("\nKServeCanaryOperator(", "\nshown = KServeCanaryOperator("), "canary.md", "exec"),
        module,
    )
    module["shown"]._check_arguments()
    assert module["shown"].min_agreement == 0.98


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": [50, 10]}, "steps have to rise"),
        ({"steps": [0]}, "percentages from 1 to 99"),
        ({"action": "undo"}, "action is one of run, start, promote, rollback"),
        ({"mode": "shadow"}, "mode is one of auto, knative, canary, mirror"),
        ({"bake_seconds": -1}, "bake_seconds cannot be negative"),
        ({"probes_per_step": 0}, "probes_per_step is at least 1"),
        ({"min_agreement": 98}, "min_agreement is a share"),
        ({"candidate_name": "churn"}, "own name"),
        ({"name": "c" * 45}, "too long"),
        ({"probe_rows": []}, "probe_rows holds no request"),
        ({"on_failure": "pray"}, "on_failure is one of"),
    ],
)
def test_arguments_that_cannot_be_right_fail_before_anything_is_asked(
    arguments: dict[str, Any], message: str, context: Any, api_requests: list[str]
) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    with pytest.raises(AirflowFailException, match=message):
        build(kubernetes_conn_id="k8s_prod", **arguments).execute(context)
    assert api_requests == []


class Candidate:
    """A way whose candidate only notes what becomes of it."""

    def __init__(self) -> None:
        self.hook: Any = None
        self.done: list[str] = []

    def go_back(self, plan: Any, *, wait: bool = True) -> str:
        self.done.append(f"{plan.service} {'waited for' if wait else 'asked'}")
        return "the candidate is deleted"


def trying(**arguments: Any) -> KServeCanaryOperator:
    operator = build(**arguments)
    operator.trial = Trial(mode="mirror", reason="r", plan=PLAN, stable_hash="old")
    operator.story = {"mode": "mirror", "reason": "r", "steps": [10], "verdict": "", "measurements": []}
    return operator


def task(try_number: int, max_tries: int) -> tuple[dict[str, Any], dict[str, Any]]:
    pushed: dict[str, Any] = {}
    instance = SimpleNamespace(
        try_number=try_number, max_tries=max_tries, xcom_push=lambda key, value: pushed.update({key: value})
    )
    return {"ti": instance}, pushed


def test_broken_bar_takes_the_candidate_away_and_is_told() -> None:
    operator, candidate = trying(), Candidate()
    context, pushed = task(1, 3)
    with pytest.raises(CanaryRejectedError) as caught, operator.abandoning(candidate, context):  # type: ignore[arg-type]
        operator._judge({"measurement": MEASURED, "breach": BREACH})  # type: ignore[typeddict-item]
    assert str(caught.value).splitlines() == [
        "InferenceService ml/churn-candidate is not promoted: agreement is 0.5, under the bar of 0.9 (…); at step 10",
        "the candidate is deleted; the stable version serves on",
    ]
    assert candidate.done == ["InferenceService ml/churn-candidate waited for"]
    assert pushed["canary"]["verdict"] == "rolled_back"
    assert pushed["canary"]["measurements"] == [MEASURED]


@pytest.mark.parametrize(("try_number", "stays"), [(1, True), (2, False)])
def test_what_may_pass_leaves_the_candidate_to_the_next_try(try_number: int, stays: bool) -> None:
    operator, candidate = trying(), Candidate()
    context, pushed = task(try_number, 1)
    with pytest.raises(DeploymentTimeoutError) as caught, operator.abandoning(candidate, context):  # type: ignore[arg-type]
        raise DeploymentTimeoutError("not ready in time\nevent Pod: Pulling")
    assert (candidate.done == []) is stays
    assert ("canary" in pushed) is not stays
    lines = str(caught.value).splitlines()
    assert (lines[0], lines[2]) == ("not ready in time", "event Pod: Pulling")
    assert ("the next try goes on with it" in lines[1]) is stays


class Store(dict[str, Any]):
    def set(self, key: str, value: Any) -> None:
        self[key] = json.loads(json.dumps(value))


def test_retry_knows_what_the_first_try_began() -> None:
    store = Store()
    context: Any = {**task(1, 3)[0], "task_state_store": store}
    first = trying()
    former = {"apiVersion": "v1", "spec": {"predictor": {}}}
    first.keep_plan(
        Trial(mode="knative", reason="r", plan={**PLAN, "former": former}, stable_hash="o").deployed, context
    )
    first.keep_story("new", context)
    retry, adopted = (
        build(),
        Trial(mode="knative", reason="r", plan={**PLAN, "changed": False}, stable_hash="o").deployed,
    )
    assert retry.recall_plan(adopted, context).former == former
    assert retry.recall_story("new", context) == first.story
    assert retry.recall_story("another", context) is None
    cleared: Any = {**context, "ti": SimpleNamespace(max_tries=7)}
    assert retry.recall_plan(adopted, cleared).former is None, "clearing the task forgets"
    assert retry.recall_story("new", {"ti": SimpleNamespace(max_tries=3)}) is None  # type: ignore[typeddict-item]


@pytest.mark.parametrize(
    ("mode", "former", "undo"),
    [
        ("mirror", None, {"service", "uid"}),
        ("knative", {"spec": {}}, {"manifest"}),
        ("knative", None, set()),
    ],
)
def test_kill_in_the_triggerer_undoes_what_the_way_did(mode: str, former: Any, undo: set[str]) -> None:
    from airflow.sdk.exceptions import TaskDeferred

    from airflow_mlops_provider.declaration import ResolvedModel

    operator = trying(probe_requests=[{"inputs": []}])
    operator.trial = Trial(mode=mode, reason="r", plan={**PLAN, "former": former}, stable_hash="old")
    model = ResolvedModel(
        uri="models:/m-1",
        source_uri="s3://m/",
        run_id=None,
        experiment_id=None,
        model_id="m-1",
        name="churn",
        version=None,
        digest="sha256:0",
        git_commit=None,
        run_url=None,
        resolved_at="2026-01-01T00:00:00+00:00",
    )
    with pytest.raises(TaskDeferred) as deferred:
        operator.defer_step(operator.bake_step(10, operator.trial, model), model)
    trigger = deferred.value.trigger
    assert isinstance(trigger, KServeCanaryTrigger)
    assert set(trigger.undo) == undo
    path, fields = trigger.serialize()
    assert path == "airflow_mlops_provider.triggers.kserve_canary.KServeCanaryTrigger"
    assert KServeCanaryTrigger(**json.loads(json.dumps(fields))).serialize() == (path, fields)
    carried = json.loads(json.dumps(deferred.value.kwargs))
    again = build()
    assert again.resume(**carried) == model
    assert (again.trial, again.story) == (operator.trial, operator.story)


def test_step_is_a_share_of_the_probes_only_where_no_traffic_is_divided() -> None:
    operator = trying(probe_requests=[{"inputs": []}], probes_per_step=40)
    for mode, planned in (("mirror", 4), ("knative", 40)):
        trial = Trial(mode=mode, reason="r", plan=PLAN, stable_hash="old")
        step = operator.bake_step(10, trial, None)  # type: ignore[arg-type]
        assert step.planned == planned
        assert step.stable == {"reference": operator.reference.to_dict(), "spec_hash": "old"}
        assert step.candidate["spec_hash"] == "new"
