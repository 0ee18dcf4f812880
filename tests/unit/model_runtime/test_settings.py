"""Flags win over variables; what makes no sense is a usage error that names the variable."""

from __future__ import annotations

import pytest
from mlops_runtime.errors import UsageError
from mlops_runtime.settings import build_settings, parse_digest

_ENVIRONMENT = {"MODEL_URI": "models:/m-1", "INPUT_URI": "/in", "OUTPUT_URI": "/out/"}


def test_flags_win_over_variables() -> None:
    settings = build_settings({"model_uri": "models:/m-2", "input": None}, _ENVIRONMENT)
    assert (settings.model_uri, settings.input_uri) == ("models:/m-2", "/in")
    assert (settings.partition, settings.partitions, settings.keep) == (0, 1, ())


def test_key_columns_split_like_csv() -> None:
    assert build_settings({"keep": 'id, "last, first" ,id'}, _ENVIRONMENT).keep == ("id", "last, first")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"MODEL_URI": ""}, "MODEL_URI is not set; set it or pass --model-uri"),
        ({"MLOPS_PARTITION": "2", "MLOPS_PARTITIONS": "2"}, "use 0 to 1"),
        ({"MLOPS_PARTITIONS": "0"}, "MLOPS_PARTITIONS is '0'"),
        ({"MLOPS_PARTITION": "-1"}, "MLOPS_PARTITION is '-1'"),
        ({"MODEL_DIGEST": "md5:00"}, "md5:00"),
        ({"MLOPS_OUTPUT_FORMAT": "xlsx"}, "use parquet, csv, jsonl"),
    ],
)
def test_nonsense_names_the_variable(changes: dict[str, str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        build_settings({}, {**_ENVIRONMENT, **changes})


def test_digest_is_normalised() -> None:
    assert parse_digest(f" SHA256:{'A' * 64}") == f"sha256:{'a' * 64}"
    assert parse_digest("") == ""
