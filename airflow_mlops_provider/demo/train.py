"""A data scientist's training script: a real scikit-learn model on a real data set, logged to MLflow and tagged prod.

Run as a program of its own (``python -m airflow_mlops_provider.demo.train``), so that nothing else imports mlflow. It
trains on the Wisconsin breast cancer data that scikit-learn ships (569 tumours, 30 measurements each), holds a quarter
back, logs model, signature, input example, metrics and the Git commit, and writes to its directory: the held-back rows
with their key as ``input.parquet``, what is true as ``labels.csv``, what this very model predicts for them in this
process as ``expected.csv``, and ``training.json`` with where everything is. Talks to the MLflow server it is given.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from sklearn.pipeline import Pipeline

EXPERIMENT = "/demo/tumours"
REGISTERED_MODEL = "tumours"
KEY = "id"
RESULT_FILE = "training.json"
_SEED = 7


def main(argv: Sequence[str] | None = None) -> int:
    """Train, log, and write the held-back rows."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tracking-uri", required=True)
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--commit", required=True, help="Git commit of the code that trains")
    parser.add_argument("--repository", default="", help="URL of the repository with that commit")
    parser.add_argument("--seed", type=int, default=_SEED, help="another seed gives another model")
    arguments = parser.parse_args(argv)
    arguments.directory.mkdir(parents=True, exist_ok=True)
    known, labels, held_back, truth = split_data(_SEED)
    model = fit(known.drop(columns=KEY), labels, arguments.seed)
    predicted = model.predict(held_back.drop(columns=KEY))
    accuracy = float((predicted == truth).mean())
    run_id, model_id = log(model, known.drop(columns=KEY), accuracy, arguments)

    held_back.to_parquet(arguments.directory / "input.parquet", index=False)
    held_back[[KEY]].assign(label=truth).to_csv(arguments.directory / "labels.csv", index=False)
    held_back[[KEY]].assign(prediction=predicted).to_csv(arguments.directory / "expected.csv", index=False)
    result = {"run_id": run_id, "model_id": model_id, "accuracy": accuracy, "rows": len(held_back)}
    (arguments.directory / RESULT_FILE).write_text(json.dumps(result))
    return 0


def split_data(seed: int) -> tuple[pd.DataFrame, pd.Series[int], pd.DataFrame, pd.Series[int]]:
    """Return known rows and labels, then held-back ones; 1 is malignant, as doctors count."""
    from sklearn.datasets import load_breast_cancer
    from sklearn.model_selection import train_test_split

    data = load_breast_cancer(as_frame=True)
    rows = data.data.rename(columns=lambda name: name.replace(" ", "_"))
    rows.insert(0, KEY, [f"tumour-{number:03d}" for number in range(len(rows))])
    malignant = (data.target == 0).astype("int64")
    known, held_back, labels, truth = train_test_split(
        rows, malignant, test_size=0.25, random_state=seed, stratify=malignant
    )
    return known, labels, held_back, truth


def fit(rows: pd.DataFrame, labels: pd.Series[int], seed: int) -> Pipeline:
    """Fit a small pipeline."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    shuffled = rows.sample(frac=0.8, random_state=seed)
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(shuffled, labels.loc[shuffled.index])


def log(model: Pipeline, rows: pd.DataFrame, accuracy: float, arguments: argparse.Namespace) -> tuple[str, str]:
    """Log one run with its model and tag it prod; return both IDs."""
    # By name: "the provider never imports mlflow" is a contract, and this is a user's program that only lies beside it.
    mlflow = import_module("mlflow")
    mlflow.set_tracking_uri(arguments.tracking_uri)
    mlflow.set_experiment(EXPERIMENT)
    tags = {
        "mlflow.source.git.commit": arguments.commit,
        "mlflow.source.git.repoURL": arguments.repository,
        "mlflow.source.name": "train.py",
    }
    with mlflow.start_run(tags={name: value for name, value in tags.items() if value}) as run:
        mlflow.log_params({"seed": arguments.seed, "rows": len(rows)})
        mlflow.log_metric("accuracy", accuracy)
        logged: Any = mlflow.sklearn.log_model(
            model,
            name="model",
            signature=mlflow.models.infer_signature(rows, model.predict(rows)),
            input_example=rows.head(2),
            registered_model_name=REGISTERED_MODEL,
            # Given, because MLflow finds them out by importing the model once more in another process.
            pip_requirements=[f"{name}=={version(name)}" for name in ("mlflow-skinny", "scikit-learn", "skops")],
        )
    mlflow.MlflowClient().set_tag(run.info.run_id, "stage", "prod")
    return str(run.info.run_id), str(logged.model_id)


if __name__ == "__main__":
    sys.exit(main())
