"""The address that goes into an InferenceService's storageUri."""

from __future__ import annotations

import pytest
from mlops_runtime.errors import UsageError
from mlops_runtime.sources import ModelSource, parse_source

_DIGEST = f"sha256:{'ab' * 32}"


@pytest.mark.parametrize(
    ("text", "uri", "digest"),
    [
        (f"mlflow://models:/m-0123?digest={_DIGEST}", "models:/m-0123", _DIGEST),
        (f"mlflow://models:/m-0123?digest={_DIGEST.replace(':', '%3A')}", "models:/m-0123", _DIGEST),
        ("mlflow://models:/m-0123", "models:/m-0123", ""),
        (f"mlflow://models:/churn%20gbm%3F/7?digest={_DIGEST}", "models:/churn gbm?/7", _DIGEST),
        ("mlflow://models:/%D0%BE%D1%82%D1%82%D0%BE%D0%BA/12", "models:/отток/12", ""),
        (f"mlflow://runs:/0a1b/models/best?digest={_DIGEST}", "runs:/0a1b/models/best", _DIGEST),
        ("models:/m-0123", "models:/m-0123", ""),
        ("models:/100%25/7", "models:/100%25/7", ""),  # a plain URI is MLflow's business, percent signs and all
        ("/mnt/models", "/mnt/models", ""),
        ("", "", ""),
    ],
)
def test_address(text: str, uri: str, digest: str) -> None:
    assert parse_source(text) == ModelSource(uri, digest)


def test_digest_named_beside_the_address() -> None:
    assert parse_source("models:/m-1", _DIGEST).digest == _DIGEST
    assert parse_source("mlflow://models:/m-1", _DIGEST).digest == _DIGEST
    assert parse_source(f"mlflow://models:/m-1?digest={_DIGEST}", _DIGEST).digest == _DIGEST
    with pytest.raises(UsageError, match="names digest"):
        parse_source(f"mlflow://models:/m-1?digest={_DIGEST}", f"sha256:{'0' * 64}")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("mlflow://churn/7", "models:/… or runs:/… must follow"),
        ("mlflow://", "models:/… or runs:/… must follow"),
        ("mlflow://s3://bucket/model", "models:/… or runs:/… must follow"),
        ("mlflow://models:/m-1?digest=md5:12", "64 hexadecimal digits"),
        ("mlflow://models:/m-1?version=7", "only one digest="),
        (f"mlflow://models:/m-1?digest={_DIGEST}&digest={_DIGEST}", "only one digest="),
    ],
)
def test_other_addresses_are_usage(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse_source(text)
