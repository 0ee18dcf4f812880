"""One step of a canary, without a cluster: the conversation is answered by a made-up API server with a clock."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from airflow_mlops_provider.exceptions import AccessDeniedError, TransientError
from airflow_mlops_provider.hooks.kserve_probe import BakeStep, Outcome, bake
from airflow_mlops_provider.hooks.kserve_probe_side import Call, Pause, Reply
from airflow_mlops_provider.manifests.inference_service_seal import SPEC_HASH_ANNOTATION

OLD, NEW = "old", "new"


def pod(name: str, spec_hash: str, **changes: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "name": name,
            "namespace": "ml",
            "uid": f"uid-{name}",
            "annotations": {SPEC_HASH_ANNOTATION: spec_hash},
            **changes.get("metadata", {}),
        },
        "spec": {"containers": [{"name": "kserve-container", "ports": [{"containerPort": 8080}]}]},
        "status": {
            "conditions": [{"type": "Ready", "status": changes.get("ready", "True")}],
            "containerStatuses": [{"name": "kserve-container", "restartCount": changes.get("restarts", 0)}],
        },
    }


def status(code: int, message: str) -> Reply:
    return Reply(code, json.dumps({"kind": "Status", "apiVersion": "v1", "code": code, "message": message}), 0.01)


def answer(*predictions: Any, seconds: float = 0.1) -> Reply:
    return Reply(200, json.dumps({"predictions": list(predictions)}), seconds)


class Cluster:
    """Answers what a step asks; time passes only while it pauses.

    :param replies: pod name → what it answers, by the number of the request to it, from 0.
    """

    def __init__(self, replies: dict[str, Callable[[int], Reply]], pods: list[dict[str, Any]] | None = None) -> None:
        self.pods = pods or [pod("s-0", OLD), pod("c-0", NEW)]
        self.replies = replies
        self.asked: dict[str, list[str]] = {}
        self.order: list[str] = []
        self.pauses: list[float] = []
        self.said: list[str] = []
        self.now = 1000.0

    def run(self, **changes: Any) -> Outcome:
        talk, reply = bake(step(**changes), lambda: self.now, self.said.append), None
        while True:
            try:
                wish = talk.send(reply)
            except StopIteration as end:
                outcome: Outcome = end.value
                return outcome
            reply = self._answer(wish)

    def _answer(self, wish: Pause | Call) -> Reply | None:
        if isinstance(wish, Pause):
            self.pauses.append(wish.seconds)
            self.now += wish.seconds
            return None
        path = wish.request.path
        if path.endswith("/pods"):
            return Reply(200, json.dumps({"items": self.pods}), 0.01)
        name = path.split("/pods/")[1].split(":")[0]
        count = len(self.asked.setdefault(name, []))
        self.asked[name].append(path.split("/proxy")[1])
        self.order.append(name)
        return self.replies[name](count)


def step(**changes: Any) -> BakeStep:
    reference = {"name": "churn", "namespace": "ml"}
    return BakeStep(
        **{
            "stable": {"reference": reference, "spec_hash": OLD},
            "candidate": {"reference": {**reference, "name": "churn-candidate"}, "spec_hash": NEW},
            "probes": [{"path": "/v2/models/churn/infer", "body": {}}],
            "step": 10,
            "planned": 5,
            "bake_seconds": 100.0,
            "deadline_seconds": 1100.0,
            "gates": {"min_agreement": 1.0},
            **changes,
        }
    )


def agreeing() -> dict[str, Callable[[int], Reply]]:
    return {"s-0": lambda _: answer(1.0), "c-0": lambda _: answer(1.0, seconds=0.2)}


def test_both_versions_are_asked_the_same_over_the_whole_step() -> None:
    cluster = Cluster(agreeing())
    outcome = cluster.run()
    assert outcome["breach"] is None
    assert (outcome["measurement"]["requests"], outcome["measurement"]["agreement"]) == (5, 1.0)
    assert (outcome["measurement"]["stable_p95_seconds"], outcome["measurement"]["p95_seconds"]) == (0.1, 0.2)
    assert cluster.asked["s-0"] == ["/v2/models/churn/infer"] * 5
    assert cluster.asked["c-0"] == ["/v2/models/churn-candidate/infer"] * 5
    assert cluster.pauses == [25.0] * 4
    assert cluster.now == 1100.0
    assert cluster.order[:4] == ["s-0", "c-0", "c-0", "s-0"], "they take turns to be the first"


def test_step_that_begins_late_sends_all_requests_in_the_time_that_is_left() -> None:
    cluster = Cluster(agreeing())
    cluster.now = 1090.0
    assert cluster.run()["measurement"]["requests"] == 5
    assert cluster.now == 1100.0
    cluster = Cluster(agreeing())
    cluster.now = 5000.0
    assert cluster.run()["measurement"]["requests"] == 5
    assert cluster.pauses == []


def test_one_request_is_sent_at_the_end_of_the_step() -> None:
    cluster = Cluster(agreeing())
    cluster.run(planned=1)
    assert cluster.pauses == [100.0]


def test_first_breach_ends_the_step() -> None:
    replies = {**agreeing(), "c-0": lambda number: answer(1.0 if number < 2 else 9.0)}
    outcome = Cluster(replies).run()
    assert outcome["breach"] is not None
    assert outcome["breach"]["gate"] == "agreement"
    assert outcome["measurement"]["requests"] == 3


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        (Reply(500, "no such column", 0.1), "pod c-0: it answered 500: no such column"),
        (Reply(200, "<html>", 0.1), "pod c-0: its answer is not JSON"),
        (Reply(200, '{"ok": true}', 0.1), "holds neither 'predictions' nor 'outputs'"),
        (Reply(0, "ReadTimeoutError: timed out", 30.0), "pod c-0: no answer (ReadTimeoutError"),
        (Reply(0, "ClientPayloadError: not enough data", 0.1), "pod c-0: its answer broke off"),
        (status(503, "error trying to reach service: EOF"), "pod c-0: error trying to reach service: EOF"),
        (Reply(403, '{"detail": "wrong key"}', 0.1), "it answered 403"),
    ],
)
def test_failure_of_the_candidate_counts(reply: Reply, problem: str) -> None:
    outcome = Cluster({**agreeing(), "c-0": lambda _: reply}).run()
    assert outcome["breach"] is not None
    assert outcome["breach"]["gate"] == "error rate"
    assert problem in outcome["breach"]["message"]


def test_failure_of_the_stable_version_is_no_failure_of_the_candidate() -> None:
    outcome = Cluster({**agreeing(), "s-0": lambda _: Reply(500, "no", 0.1)}).run(gates={})
    assert outcome["breach"] is None
    assert outcome["measurement"]["stable_errors"] == 5


def test_pod_that_is_being_replaced_is_not_asked_again() -> None:
    cluster = Cluster({**agreeing(), "c-1": lambda _: answer(1.0)})

    def replaced(_: int) -> Reply:
        cluster.pods = [pod("s-0", OLD), pod("c-1", NEW), pod("c-0", NEW, metadata={"deletionTimestamp": "now"})]
        return status(503, "error trying to reach service: dial tcp: connection refused")

    cluster.replies["c-0"] = replaced
    outcome = cluster.run()
    assert outcome["breach"] is None
    assert len(cluster.asked["c-1"]) == 5


def test_version_without_a_ready_pod_fails_after_a_while() -> None:
    cluster = Cluster(agreeing(), [pod("s-0", OLD), pod("c-0", NEW, ready="False")])
    outcome = cluster.run()
    assert outcome["breach"] is not None
    assert "no ready pod of InferenceService ml/churn-candidate has the spec new" in outcome["breach"]["message"]
    assert cluster.now == pytest.approx(1015.0)


def test_container_that_is_up_again_was_down_all_the_same() -> None:
    cluster = Cluster(agreeing())

    def then_crash(number: int) -> Reply:
        if number == 1:
            cluster.pods = [pod("s-0", OLD), pod("c-0", NEW, restarts=1)]
        return answer(1.0)

    cluster.replies["c-0"] = then_crash
    outcome = cluster.run()
    assert outcome["breach"] is not None
    assert "pod c-0: a container ended and was started again" in outcome["breach"]["message"]


def test_outage_of_the_api_server_is_waited_out() -> None:
    away = iter([Reply(0, "ClientConnectorError", 0.1), status(500, "etcdserver: leader changed"), answer(1.0)])
    replies = {**agreeing(), "c-0": lambda number: next(away) if number < 3 else answer(1.0)}
    cluster = Cluster(replies)
    outcome = cluster.run()
    assert outcome["breach"] is None
    assert outcome["measurement"]["errors"] == 0
    assert cluster.pauses[:2] == [5.0, 5.0]
    assert len(cluster.said) == 1


def test_outage_of_ten_minutes_is_an_error_that_may_pass() -> None:
    with pytest.raises(TransientError, match="the API server was away for 600 s"):
        Cluster({**agreeing(), "s-0": lambda _: Reply(0, "refused", 0.1)}).run()


def test_what_the_task_may_not_do_is_said_at_once() -> None:
    with pytest.raises(AccessDeniedError, match=r"see deploy/kserve/rbac\.yaml"):
        Cluster({**agreeing(), "s-0": lambda _: status(403, 'pods "s-0" is forbidden')}).run()


def test_step_survives_json() -> None:
    given = step()
    assert BakeStep(**json.loads(json.dumps(given.to_dict()))) == given
