"""What counts as a prediction in each protocol, and when two are equal."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_mlops_provider.manifests.canary_answers import are_equal, count_equal, read_predictions

V2 = {
    "outputs": [
        {"name": "label", "shape": [2], "datatype": "BYTES", "data": ["a", "b"]},
        {"name": "p", "shape": [2, 2], "datatype": "FP64", "data": [0.1, 0.9, 0.8, 0.2]},
    ]
}


@pytest.mark.parametrize(
    ("answer", "rows"),
    [
        ({"predictions": [1, 2]}, [1, 2]),
        ({"predictions": [[0.1, 0.9]], "model_version": "7"}, [[0.1, 0.9]]),
        ({"predictions": {"label": 1}}, [{"label": 1}]),
        ([1, 2], [1, 2]),
        (V2, [{"label": ["a"], "p": [0.1, 0.9]}, {"label": ["b"], "p": [0.8, 0.2]}]),
        ({"outputs": [{"name": "o", "shape": [2, 1], "data": [[1], [None]]}]}, [{"o": [1]}, {"o": [None]}]),
        ({"outputs": [{"name": "o", "shape": [1, 0], "data": []}]}, [{"o": []}]),
    ],
)
def test_predictions_are_read_row_by_row(answer: Any, rows: list[Any]) -> None:
    assert read_predictions(json.dumps(answer)) == rows


@pytest.mark.parametrize("body", ['{"error": "no"}', '{"outputs": []}', "<html>"])
def test_answer_without_predictions_is_an_error(body: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_predictions(body)


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        (1.0, 1, True),
        (1.0, 1.0000001, True),
        (1.0, 1.001, False),
        (1e9, 1e9 + 100, True),  # relative
        (0.0, 5e-7, True),  # absolute near 0
        (float("nan"), float("nan"), True),
        (float("nan"), 0.0, False),
        (True, 1, False),  # a class is no number
        ("a", "a", True),
        ("1", 1, False),
        (None, None, True),
        ([1.0, [2.0]], [1.0, [2.0000001]], True),
        ([1.0], [1.0, 2.0], False),
        ({"a": 1.0}, {"a": 1.0}, True),
        ({"a": 1.0}, {"b": 1.0}, False),
    ],
)
def test_numbers_are_equal_within_the_tolerance_and_all_else_exactly(one: Any, other: Any, equal: bool) -> None:
    assert are_equal(one, other, 1e-6) is equal
    assert are_equal(other, one, 1e-6) is equal


def test_rows_that_only_one_version_answers_are_not_equal() -> None:
    assert count_equal([1, 2], [1], 0) == (1, "stable answered 2 predictions, candidate 1")


def test_first_difference_is_shown_shortly() -> None:
    equal, shown = count_equal(["x" * 200, 1], ["y", 2], 0)
    assert equal == 0
    assert shown.startswith('stable "xxx')
    assert len(shown) < 130
