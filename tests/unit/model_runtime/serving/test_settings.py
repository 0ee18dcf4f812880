"""Flags win over variables; what makes no sense is refused before anything is loaded."""

from __future__ import annotations

import pytest
from mlops_runtime.errors import UsageError
from mlops_runtime.serving.settings import ServeSettings, build_serve_settings

_DIGEST = f"sha256:{'0' * 64}"


def test_defaults_are_those_of_kserve() -> None:
    settings = build_serve_settings({}, {})
    assert settings == ServeSettings()
    assert (settings.model_dir, settings.port, settings.workers, settings.model_name) == (
        "/mnt/models",
        8080,
        1,
        "model",
    )


def test_flags_over_variables() -> None:
    variables = {
        "MODEL_URI": f"mlflow://models:/churn%20a/7?digest={_DIGEST}", "MODEL_NAME": "churn", "PORT": "80",
        "MODEL_RUN_ID": "0a", "MODEL_VERSION": "7", "MLFLOW_TRACKING_URI": "http://mlflow:5000", "MLOPS_WORKERS": "3",
    }  # fmt: skip
    settings = build_serve_settings({"port": "90", "drain_seconds": "0.5", "workers": None}, variables)
    assert (settings.model_uri, settings.digest) == ("models:/churn a/7", _DIGEST)
    assert (settings.model_name, settings.run_id, settings.version) == ("churn", "0a", "7")
    assert (settings.port, settings.drain_seconds, settings.workers) == (90, 0.5, 3)


def test_settings_cross_a_process_border() -> None:
    settings = build_serve_settings({"threads": "2", "drain_seconds": "1"}, {"MODEL_URI": "models:/отток/1"})
    assert ServeSettings.from_json(settings.to_json()) == settings


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"port": "http"}, "--port is 'http'"),
        ({"port": "70000"}, "at most 65535"),
        ({"workers": "0"}, "--workers is '0'; use a whole number of at least 1"),
        ({"threads": "1.5"}, "--threads is '1.5'"),
        ({"drain_seconds": "-1"}, "--drain-seconds is '-1'; use a number of at least 0"),
        ({"drain_seconds": "nan"}, "--drain-seconds"),
        ({"drain_seconds": "inf"}, "--drain-seconds"),
        ({"model_name": "a/b"}, "cannot stand in a path"),
        ({"model_name": "a b"}, "cannot stand in a path"),
        ({"model_digest": "abc"}, "64 hexadecimal digits"),
    ],
)
def test_nonsense_is_usage(flags: dict[str, str | None], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        build_serve_settings(flags, {})
