"""Every example is parsed and run."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

# pytest's importlib mode knows no sibling modules.
sys.path.insert(0, str(Path(__file__).parent))
from kserve_world import serving

__all__ = ["serving"]

if TYPE_CHECKING:
    from conftest import Road, Trained, Trainer

pytestmark = pytest.mark.cluster


def _load(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"{name}_steps", Path(__file__).with_name(f"test_{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


steps, online = _load("road"), _load("online_road")

LOCAL = Path("/tmp/mlops-example")


@pytest.fixture(scope="module")
def trained(trainer: Trainer, road: Road) -> Iterator[Trained]:
    """One run that is both dev and prod, and its rows where the examples look for them."""
    trained = trainer.train("/examples/tumours", seed=3, tags={"stage": "prod"})
    trainer.client.set_tag(trained.run_id, "stage", "dev")
    shutil.rmtree(LOCAL, ignore_errors=True)
    steps.write_input(LOCAL / "in", trained.rows)
    steps.write_input(road.storage.directory / "tumours" / "in", trained.rows, files=2)
    for output in ("tumours", "tumours-parts"):
        (road.storage.directory / output).mkdir(exist_ok=True)
        (road.storage.directory / output).chmod(0o777)
    yield trained
    shutil.rmtree(LOCAL)


def test_example_on_the_worker(road: Road, trained: Trained) -> None:
    road.airflow.wait_for_dag("dev.tumours.batch")
    steps.run(road, "dev.tumours.batch")
    assert steps.read_predictions(LOCAL / "out") == trained.predictions


@pytest.mark.parametrize("name", ["tumours", "tumours-parts"])
def test_example_in_pods(road: Road, trainer: Trainer, trained: Trained, name: str) -> None:
    trainer.client.set_tag(trained.run_id, "stage", "prod")
    road.airflow.wait_for_dag(f"prod.{name}.batch")
    steps.run(road, f"prod.{name}.batch")
    # Unpaused, the schedule's own latest interval runs as well, into a day of its own.
    outputs = {file.parent for file in (road.storage.directory / name / "out").rglob("*.parquet")}
    assert outputs
    assert all(steps.read_predictions(output) == trained.predictions for output in outputs)


def test_example_online(
    road: Road, kube: Any, trainer: Trainer, trained: Trained, serving: Any, storage_secret: None
) -> None:
    trainer.client.set_tag(trained.run_id, "stage", "prod")
    road.airflow.wait_for_dag("prod.tumours-live.online")
    run_id = steps.run(road, "prod.tumours-live.online")
    answered = online.predict(kube, road.storage.namespace, "tumours-live", trained.rows)
    assert answered == (trained.predictions, f"models:/{trained.model_id}")
    assert road.airflow.xcom("prod.tumours-live.online", run_id, "record")["service"]["name"] == "tumours-live"
    online.remove(serving, road.storage.namespace, "tumours-live")


def test_example_without_declarations(road: Road, trainer: Trainer, trained: Trained) -> None:
    trainer.client.set_tag(trained.run_id, "stage", "prod")
    road.airflow.wait_for_dag("plain_operator")
    run_id = steps.run(road, "plain_operator")
    assert road.airflow.xcom("plain_operator", run_id, "count_rows") == 3


def test_no_example_has_import_errors(road: Road) -> None:
    assert [error for error in road.airflow.import_errors() if "examples" in error["filename"]] == []
