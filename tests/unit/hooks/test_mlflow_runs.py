"""Which run a tag means: filters, ties, explanations. A real server checks the same filters in tests/integration."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_mlops_provider.declaration.selector import ModelSelector
from airflow_mlops_provider.exceptions import AmbiguousModelError, ModelNotFoundError
from airflow_mlops_provider.hooks.mlflow_api import Request
from airflow_mlops_provider.hooks.mlflow_cache import EXPERIMENT_SECONDS, ModelCache
from airflow_mlops_provider.hooks.mlflow_runs import filter_of, find_run

A, B, C = "a" * 32, "b" * 32, "c" * 32
PROD = ModelSelector(experiment="churn", run_tag={"stage": "prod"})
EXPERIMENT = {"experiment": {"experiment_id": "7", "name": "churn", "lifecycle_stage": "active"}}
ASK_EXPERIMENT = "GET experiments/get-by-name"
ASK_RUNS = "POST runs/search"


@pytest.mark.parametrize(
    ("tags", "clause"),
    [
        ({"stage": "prod"}, "tags.`stage` = 'prod'"),
        ({"stage": "it's"}, 'tags.`stage` = "it\'s"'),
        ({"stage": 'say "x"'}, "tags.`stage` = 'say \"x\"'"),
        ({"stage": "`tick`"}, "tags.`stage` = '`tick`'"),
        ({"стадия": "бой"}, "tags.`стадия` = 'бой'"),
        ({"stage": ""}, "tags.`stage` = ''"),
        ({"stage": "a'\"b"}, "tags.`stage` LIKE 'a__b'"),
        ({"stage": "end\\"}, "tags.`stage` LIKE 'end_'"),
        ({"a.b/c -_:1": "x", "stage": "prod"}, "tags.`a.b/c -_:1` = 'x' and tags.`stage` = 'prod'"),
    ],
)
def test_filter_quotes_what_people_write(tags: dict[str, str], clause: str) -> None:
    assert filter_of(tags) == f"attributes.status = 'FINISHED' and {clause}"
    assert filter_of(tags, finished=False) == clause


@pytest.mark.parametrize("key", ["a`b", "a' or 1=1 --", 'a"b', "a\nb", ""])
def test_tag_name_that_mlflow_cannot_hold_never_reaches_the_filter(answers: Any, key: str) -> None:
    server = answers({})
    with pytest.raises(ModelNotFoundError, match="no run can carry the tag"):
        server.hold(find_run(ModelSelector(experiment="churn", run_tag={key: "x"}), ModelCache()))
    assert server.asked == []


def test_two_requests_cold_one_warm(answers: Any, rows: Any) -> None:
    cache = ModelCache()
    server = answers({"get-by-name": EXPERIMENT, "runs/search": {"runs": [rows.run(A, tags={"stage": "prod"})]}})
    assert server.hold(find_run(PROD, cache)).run_id == A
    assert server.asked == [ASK_EXPERIMENT, ASK_RUNS]
    assert server.hold(find_run(PROD, cache)).run_id == A
    assert server.asked == [ASK_RUNS]
    body = server.requests[-1].body
    assert (body["run_view_type"], body["order_by"]) == ("ACTIVE_ONLY", ["attributes.start_time DESC"])
    assert body["experiment_ids"] == ["7"]


def test_experiment_is_looked_up_again_after_a_while(answers: Any, rows: Any) -> None:
    now = [0.0]
    cache = ModelCache(clock=lambda: now[0])
    server = answers({"get-by-name": EXPERIMENT, "runs/search": {"runs": [rows.run(A, tags={"stage": "prod"})]}})
    server.hold(find_run(PROD, cache))
    now[0] = EXPERIMENT_SECONDS + 1
    server.hold(find_run(PROD, cache))
    assert server.asked == [ASK_EXPERIMENT, ASK_RUNS]


def test_experiment_made_anew_is_found_though_the_old_one_was_remembered(answers: Any, rows: Any) -> None:
    cache = ModelCache()
    cache.remember_experiment("churn", "6")

    def search(request: Request) -> Any:
        return {"runs": [rows.run(A, tags={"stage": "prod"})]} if request.body["experiment_ids"] == ["7"] else {}  # type: ignore[index]

    server = answers({"get-by-name": EXPERIMENT, "runs/search": search})
    assert server.hold(find_run(PROD, cache)).run_id == A
    assert cache.experiment_id("churn") == "7"


@pytest.mark.parametrize(
    ("way", "starts", "chosen"),
    [
        ({"run_tag": {"stage": "prod"}}, (2000, 1000), A),
        ({"latest_run": True}, (2000, 1000), A),
        ({"latest_run": True, "on_ambiguous": "fail"}, (2000, 1000), A),
        ({"run_tag": {"stage": "prod"}, "on_ambiguous": "fail"}, (2000, 1000), "2 finished runs carry the tag"),
        ({"run_tag": {"stage": "prod"}}, (1000, 1000), "started at the same millisecond"),
        ({"latest_run": True}, (1000, 1000), "started at the same millisecond"),
    ],
)
def test_two_candidates(answers: Any, rows: Any, way: dict[str, Any], starts: tuple[int, int], chosen: str) -> None:
    found = [rows.run(one, start=start, tags={"stage": "prod"}) for one, start in zip((A, B), starts, strict=True)]
    server = answers({"get-by-name": EXPERIMENT, "runs/search": {"runs": found}})
    selector = ModelSelector(experiment="churn", **way)
    if chosen == A:
        assert server.hold(find_run(selector, ModelCache())).run_id == A
        return
    with pytest.raises(AmbiguousModelError, match=chosen) as caught:
        server.hold(find_run(selector, ModelCache()))
    assert caught.value.candidates == (A, B)
    assert all(part in str(caught.value) for part in ("experiment 'churn'", A, B))


def test_tie_lists_only_the_runs_that_tie(answers: Any, rows: Any) -> None:
    found = [rows.run(one, start=start, tags={"stage": "prod"}) for one, start in ((A, 9), (B, 9), (C, 1))]
    server = answers({"get-by-name": EXPERIMENT, "runs/search": {"runs": found}})
    with pytest.raises(AmbiguousModelError) as caught:
        server.hold(find_run(PROD, ModelCache()))
    assert caught.value.candidates == (A, B)


def test_wildcards_are_compared_again_and_paged(answers: Any, rows: Any) -> None:
    value = "a'\"b"

    def search(request: Request) -> Any:
        if request.body and request.body.get("page_token"):
            return {"runs": [rows.run(B, tags={"stage": value})]}
        return {"runs": [rows.run(A, tags={"stage": "axxb"})], "next_page_token": "2"}

    server = answers({"get-by-name": EXPERIMENT, "runs/search": search})
    selector = ModelSelector(experiment="churn", run_tag={"stage": value})
    assert server.hold(find_run(selector, ModelCache())).run_id == B


def test_unknown_experiment_offers_the_nearest(answers: Any) -> None:
    server = answers({"experiments/search": {"experiments": [{"name": "churn"}, {"name": "other"}]}})
    with pytest.raises(ModelNotFoundError, match="experiment 'chrun' does not exist; did you mean 'churn'"):
        server.hold(find_run(ModelSelector(experiment="chrun", latest_run=True), ModelCache()))


def test_deleted_experiment_is_an_error(answers: Any) -> None:
    gone = {"experiment": {"experiment_id": "7", "lifecycle_stage": "deleted"}}
    server = answers({"get-by-name": gone})
    with pytest.raises(ModelNotFoundError, match=r"'churn' \(ID 7\) is deleted; restore it"):
        server.hold(find_run(PROD, ModelCache()))


@pytest.mark.parametrize(
    ("near", "told"),
    [
        ([], "has the tag; tag a FINISHED run of experiment 'churn' (ID 7), e.g. mlflow.MlflowClient().set_tag(run_id"),
        ([{"status": "FAILED"}], f"only {A} (FAILED)"),
        ([{"status": "RUNNING"}], f"only {A} (RUNNING)"),
        ([{"stage": "deleted"}], f"only {A} (deleted)"),
    ],
)
def test_no_run_says_what_there_is(answers: Any, rows: Any, near: list[dict[str, str]], told: str) -> None:
    def search(request: Request) -> Any:
        if request.body and request.body["run_view_type"] == "ALL":
            return {"runs": [rows.run(A, tags={"stage": "prod"}, **one) for one in near]}
        return {}

    server = answers({"get-by-name": EXPERIMENT, "runs/search": search})
    with pytest.raises(ModelNotFoundError) as caught:
        server.hold(find_run(PROD, ModelCache()))
    assert told in str(caught.value)
    assert "'stage', 'prod'" in str(caught.value)
