"""One bad declaration among 200: the others run, and it is seen, with its exact message, by people who look."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_mlops_provider.demo.process import wait_until
from airflow_mlops_provider.demo.servers import AirflowServer, BareRepository, git_bundle

pytestmark = pytest.mark.integration

GOOD = 200
SOON_SECONDS = 120.0
ENVIRONMENTS = """
apiVersion: mlops/v1
environments:
  dev:
    runner: local
    model: {run_tag: {stage: dev}}
    allow: {uri_schemes: [file]}
"""
DECLARATION = """
apiVersion: mlops/v1
model: NAME
owner: growth@example.com
experiment: /NAME
batch: {input: "file:///in/NAME/", output: "file:///out/NAME/"}
environments: {dev: {}}
"""
BAD = DECLARATION.replace("NAME", "misspelt").replace("owner:", "ownr:")


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AirflowServer]:
    directory = tmp_path_factory.mktemp("many")
    repository = BareRepository(directory / "git")
    names = [f"model-{number:03d}" for number in range(GOOD)]
    files = {f"models/{name}.yaml": DECLARATION.replace("NAME", name) for name in names}
    files |= {"environments.yaml": ENVIRONMENTS, "models/misspelt.yaml": BAD}
    repository.commit_and_push(files)
    # Parsed once is enough here: 201 files are parsed again only when they change.
    settings = {"AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "3600"}
    with AirflowServer(directory / "airflow", [git_bundle(repository.url)], env=settings) as server:
        yield server


def test_two_hundred_models_work_beside_a_bad_one(airflow: AirflowServer) -> None:
    for number in range(GOOD):
        airflow.wait_for_dag(f"dev.model-{number:03d}.batch", timeout_seconds=400)
    assert airflow.request("GET", "dags", params={"limit": 1})["total_entries"] == GOOD


def test_the_bad_one_is_an_import_error_with_its_exact_message(airflow: AirflowServer) -> None:
    (error,) = airflow.import_errors()
    assert Path(error["filename"]).name == "misspelt.yaml.mlops.py"
    text = error["stack_trace"]
    assert "models/misspelt.yaml:4:1: ownr: unknown field; did you mean 'owner'?" in text
    assert "models/misspelt.yaml:2:1: owner: is missing; add it" in text


def test_parsing_again_makes_no_new_version(airflow: AirflowServer) -> None:
    """Each parse is a process of its own, with another hash seed and at another time."""
    dag_ids = [f"dev.model-{number:03d}.batch" for number in range(0, GOOD, 50)]
    for _ in range(3):
        before = {dag_id: airflow.request("GET", f"dags/{dag_id}/details") for dag_id in dag_ids}
        for dag in before.values():
            airflow.request("PUT", f"parseDagFile/{dag['file_token']}")
        for dag_id, dag in before.items():
            wait_until(lambda i=dag_id, d=dag: parsed(airflow, i) > d["last_parsed_time"], "parse", SOON_SECONDS)  # type: ignore[misc]
    for dag_id in dag_ids:
        assert [version["version_number"] for version in airflow.dag_versions(dag_id)] == [1]


def parsed(airflow: AirflowServer, dag_id: str) -> str:
    return str(airflow.request("GET", f"dags/{dag_id}")["last_parsed_time"])
