"""What the scoring run wrote, held against what is known: the labels, and the same model applied in process.

Decides whether the demonstration was right. Reads the files of the training and the scoring; no network.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from airflow_mlops_provider.demo.display import table
from airflow_mlops_provider.demo.process import DemoError
from airflow_mlops_provider.demo.train import KEY

PREDICTION = "prediction"
_SHOWN_ROWS = 6
_NAMES = {"0": "benign", "1": "malignant"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """Predictions of the run beside labels and in-process predictions, by key.

    :param in_process_accuracy: what the training computed for the same rows and the same model.
    """

    predictions: Mapping[str, str]
    labels: Mapping[str, str]
    expected: Mapping[str, str]
    in_process_accuracy: float

    @property
    def accuracy(self) -> float:
        return sum(self.predictions[key] == label for key, label in self.labels.items()) / len(self.labels)

    def check(self) -> None:
        """:raises DemoError: a row is missing or has another prediction than the same model gives in process."""
        missing = sorted(self.expected.keys() ^ self.predictions.keys())
        if missing:
            raise DemoError(f"{len(missing)} rows are missing or too many in the predictions: {', '.join(missing[:5])}")
        wrong = sorted(key for key, value in self.expected.items() if self.predictions[key] != value)
        if wrong:
            raise DemoError(f"{len(wrong)} predictions differ from those of the same model in process: {wrong[:5]}")
        if abs(self.accuracy - self.in_process_accuracy) > 1e-9:
            raise DemoError(f"accuracy is {self.accuracy}, but in process it was {self.in_process_accuracy}")

    def shown(self) -> str:
        """Lay out a few rows, wrong predictions among them."""
        wrong = [key for key in self.labels if self.predictions[key] != self.labels[key]]
        right = [key for key in self.labels if key not in wrong]
        keys = sorted([*wrong[:2], *right[: _SHOWN_ROWS - len(wrong[:2])]])
        rows = [
            [key, _name(self.predictions[key]), _name(self.labels[key]), "✗" if key in wrong else "✓"] for key in keys
        ]
        return table([KEY, "predicted", "true", "right"], rows)


def read_outcome(directory: Path, predictions: Path, in_process_accuracy: float) -> Outcome:
    """Read what training and scoring left.

    :raises DemoError: there are no predictions.
    """
    if not predictions.exists():
        raise DemoError(f"the run wrote no predictions to {predictions}")
    return Outcome(
        predictions=_column(predictions, PREDICTION),
        labels=_column(directory / "labels.csv", "label"),
        expected=_column(directory / "expected.csv", PREDICTION),
        in_process_accuracy=in_process_accuracy,
    )


def _column(file: Path, name: str) -> dict[str, str]:
    with file.open(newline="", encoding="utf-8") as stream:
        return {row[KEY]: row[name] for row in csv.DictReader(stream)}


def _name(label: str) -> str:
    return _NAMES.get(label, label)
