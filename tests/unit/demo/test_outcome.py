"""When the demonstration's result counts as right."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_mlops_provider.demo.outcome import Outcome, read_outcome
from airflow_mlops_provider.demo.process import DemoError

LABELS = {"a": "0", "b": "1", "c": "1", "d": "0"}
PREDICTIONS = {"a": "0", "b": "1", "c": "0", "d": "0"}


def outcome(predictions: dict[str, str] | None = None, accuracy: float = 0.75) -> Outcome:
    return Outcome(predictions or PREDICTIONS, LABELS, PREDICTIONS, accuracy)


def test_equal_predictions_and_accuracy_are_right() -> None:
    outcome().check()
    assert outcome().accuracy == 0.75


@pytest.mark.parametrize(
    ("predictions", "accuracy", "message"),
    [
        ({key: PREDICTIONS[key] for key in "abc"}, 0.75, "1 rows are missing or too many in the predictions: d"),
        ({**PREDICTIONS, "e": "1"}, 0.75, "1 rows are missing or too many in the predictions: e"),
        ({**PREDICTIONS, "c": "1", "d": "1"}, 0.75, r"2 predictions differ .*'c', 'd'"),
        (PREDICTIONS, 0.8, "accuracy is 0.75, but in process it was 0.8"),
    ],
)
def test_anything_else_is_not(predictions: dict[str, str], accuracy: float, message: str) -> None:
    with pytest.raises(DemoError, match=message):
        outcome(predictions, accuracy).check()


def test_a_wrong_prediction_is_among_the_rows_shown() -> None:
    assert "c   benign     malignant  ✗" in outcome().shown()


def test_files_are_read_by_key(tmp_path: Path) -> None:
    for name, column in (("labels", "label"), ("expected", "prediction"), ("predictions", "prediction")):
        (tmp_path / f"{name}.csv").write_text(f"id,{column}\nb,1\na,0\n")
    found = read_outcome(tmp_path, tmp_path / "predictions.csv", 1.0)
    assert found.predictions == found.labels == found.expected == {"a": "0", "b": "1"}


def test_missing_predictions_are_named(tmp_path: Path) -> None:
    with pytest.raises(DemoError, match="wrote no predictions"):
        read_outcome(tmp_path, tmp_path / "predictions.csv", 1.0)
