"""A model with other requirements: refused by the standard runtime before anything is created, served by an image that
has a layer more. The road is the one in docs/model-runtime.md, «Images for other requirements».
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

# pytest's importlib mode knows no sibling modules.
sys.path.insert(0, str(Path(__file__).parent))
from kserve_world import World, fails, serving, world

from devcluster import external, image
from devcluster.layout import Layout

__all__ = ["serving", "world"]

pytestmark = pytest.mark.cluster

_IMAGE = "mlops.local/model-runtime:trees"
_RUNTIME = "mlops-trees"


@pytest.fixture(scope="module")
def boosted(mlflow_server: Any) -> tuple[str, Any, list[float]]:
    """A real XGBoost model on the MLflow server: its URI, rows, and what it says of them in process."""
    import mlflow
    import xgboost
    from mlflow.models import infer_signature
    from sklearn.datasets import load_breast_cancer

    os.environ["MLFLOW_UV_AUTO_DETECT"] = "false"
    features, target = load_breast_cancer(as_frame=True, return_X_y=True)
    model = xgboost.XGBClassifier(n_estimators=5, n_jobs=1).fit(features, target)
    mlflow.set_tracking_uri(mlflow_server.url)
    mlflow.set_experiment("/tests/trees")
    with mlflow.start_run():
        info = mlflow.xgboost.log_model(
            model,
            name="model",
            signature=infer_signature(features, model.predict(features)),
            input_example=features.head(2),
            pip_requirements=[f"xgboost=={xgboost.__version__}", "scikit-learn", "pandas"],
        )
    rows = features.iloc[20:25].reset_index(drop=True)
    expected = np.asarray(mlflow.pyfunc.load_model(info.model_uri).predict(rows)).tolist()
    return str(info.model_uri), rows, expected


@pytest.fixture(scope="module")
def layered_runtime(world: World, kube: Any) -> str:
    """The image with XGBoost, offered to the namespace by the manifest that the image itself prints."""
    if external.kubeconfig() is not None:
        pytest.skip("no image can be loaded into somebody else's cluster")
    image.ensure(Layout.from_environment(), _IMAGE, ["xgboost-cpu"])
    arguments = ["serving-runtime", "--image", _IMAGE, "--name", _RUNTIME]
    container = {"name": "print", "image": _IMAGE, "imagePullPolicy": "IfNotPresent", "args": arguments}
    kube.create_namespaced_pod(
        world.namespace, {"metadata": {"name": "print"}, "spec": {"restartPolicy": "Never", "containers": [container]}}
    )
    deadline = time.monotonic() + 120
    while kube.read_namespaced_pod("print", world.namespace).status.phase not in ("Succeeded", "Failed"):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    manifest = yaml.safe_load(kube.read_namespaced_pod_log("print", world.namespace, _preload_content=False).data)
    world.create({**manifest, "kind": "ServingRuntime"})  # the same fields, for one namespace
    return _RUNTIME


def test_model_is_refused_without_its_library_and_served_with_it(
    world: World, boosted: tuple[str, Any, list[float]], layered_runtime: str
) -> None:
    uri, rows, expected = boosted
    arguments: dict[str, Any] = {"model": {"uri": uri}, "min_replicas": 1, "max_replicas": 1}
    fails(lambda: world.deploy("trees", **arguments), "xgboost", "is missing in the runtime")
    assert not world.exists("InferenceService", "trees")
    world.deploy(
        "trees", **arguments, runtime=layered_runtime, smoke_test={"from": "input_example"}, timeout_seconds=240
    )
    answer = world.predict(
        "trees", request={"dataframe_split": rows.to_dict("split", index=False)}, path="/invocations"
    )
    assert answer["answers"][0]["predictions"] == expected
    world.delete("trees")
