from __future__ import annotations

import re

import pytest

from airflow_mlops_provider.manifests.naming import build_env_key, label_value, ownership_labels, slugify

LABEL = re.compile(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?")
ENV_KEY = re.compile(r"[a-z][a-z0-9-]*-[0-9a-f]{8}")


@pytest.mark.parametrize(
    ("text", "slug"),
    [
        ("feature/foo", "feature-foo"),
        ("Feature/Foo", "feature-foo"),
        ("42-answer", "b-42-answer"),
        ("ветка", "b"),
        ("---", "b"),
        ("a" * 80, "a" * 30),
        ("café", "cafe"),
    ],
)
def test_slug_is_lower_case_and_starts_with_a_letter(text: str, slug: str) -> None:
    assert slugify(text) == slug


def test_branches_whose_slugs_collide_get_different_env_keys() -> None:
    refs = [
        "refs/heads/feature/foo",
        "refs/heads/feature-foo",
        "refs/heads/Feature/Foo",
        "refs/heads/ветка",
        "refs/heads/1",
    ]
    keys = {build_env_key("42", ref) for ref in refs}
    assert len(keys) == len(refs)
    assert all(ENV_KEY.fullmatch(key) for key in keys)


def test_env_key_differs_between_projects_and_is_stable() -> None:
    assert build_env_key("1", "refs/heads/x") != build_env_key("2", "refs/heads/x")
    assert build_env_key("42", "refs/heads/feature/foo") == "feature-foo-a1ebb04b"


@pytest.mark.parametrize("text", ["churn", "a" * 63, "a" * 64, "имя", "", "-x-", "a b", "x/" * 50, "_", "…"])
def test_label_values_are_always_legal(text: str) -> None:
    assert LABEL.fullmatch(label_value(text)), label_value(text)


def test_label_value_keeps_what_is_legal_and_tells_the_rest_apart() -> None:
    assert label_value("churn-1.0_x") == "churn-1.0_x"
    assert label_value("a b") != label_value("a/b")


def test_ownership_labels_are_complete() -> None:
    labels = ownership_labels("churn", "prod", version="7", project="42", ephemeral=True)
    assert labels == {
        "app.kubernetes.io/name": "churn",
        "app.kubernetes.io/instance": "prod-churn",
        "app.kubernetes.io/component": "batch",
        "app.kubernetes.io/version": "7",
        "app.kubernetes.io/part-of": "mlops",
        "app.kubernetes.io/managed-by": "airflow-mlops-provider",
        "airflow-mlops/environment": "prod",
        "airflow-mlops/env-key": "prod",
        "airflow-mlops/ephemeral": "true",
        "airflow-mlops/project": "42",
    }


def test_one_of_several_jobs_is_told_by_a_label() -> None:
    labels = ownership_labels("churn", "prod", job="weekly")
    assert labels == {**ownership_labels("churn", "prod"), "airflow-mlops/job": "weekly"}
