"""Whatever a model returns becomes named columns, or an error that says what was wrong with it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from mlops_runtime.errors import ModelError
from mlops_runtime.predictions import empty_predictions, fit_schema, join_predictions, name_predictions
from mlops_runtime.signature import Signature


@pytest.mark.parametrize(
    ("result", "names"),
    [
        (np.array([1, 2]), ["prediction"]),
        (np.array([[1], [2]]), ["prediction"]),
        (np.array([[1, 2, 3], [4, 5, 6]]), ["prediction_0", "prediction_1", "prediction_2"]),
        (np.zeros((2, 2, 2)), ["prediction"]),
        (pd.Series(["a", "b"], name="label"), ["prediction"]),
        (pd.DataFrame({"label": [1, 2], "id": [3, 4]}), ["label", "prediction_id"]),
        (pd.DataFrame(np.zeros((2, 2))), ["prediction_0", "prediction_1"]),
        (["a", None], ["prediction"]),
        ([{"a": 1}, {"a": 2}], ["prediction"]),
        ({"mean": [1.0, 2.0], "sd": np.array([0.1, 0.2])}, ["mean", "sd"]),
    ],
)
def test_names(result: Any, names: list[str]) -> None:
    assert [name for name, _ in name_predictions(result, 2, ["id"])] == names


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (np.array([1]), "1 predictions for 2 rows"),
        (np.array(5), "a single number"),
        (3.5, "returned a float"),
        (pd.DataFrame(index=[0, 1]), "no column"),
        ([object(), object()], "cannot be stored"),
    ],
)
def test_unusable_results(result: Any, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        name_predictions(result, 2, [])


def test_later_batches_are_cast_or_refused() -> None:
    schema = pa.schema([("prediction", pa.float64())])
    assert fit_schema(pa.record_batch({"prediction": [1, 2]}), schema).schema == schema
    with pytest.raises(ModelError, match="earlier batches"):
        fit_schema(pa.record_batch({"prediction": ["x"]}), schema)
    with pytest.raises(ModelError, match="same for every batch"):
        fit_schema(pa.record_batch({"other": [1.0]}), schema)


def test_nothing_but_missing_takes_the_signatures_type() -> None:
    signature = Signature(outputs=(("", "string"),))
    keys = pa.record_batch({"id": [1]})
    assert (
        join_predictions(keys, [("prediction", pa.nulls(1))], signature).schema.field("prediction").type == pa.string()
    )
    assert [(name, values.type) for name, values in empty_predictions(signature)] == [("prediction", pa.string())]
