"""A repository of YAML in a real Airflow: declarations appear, change, break alone, and leave."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from airflow_mlops_provider.demo.process import wait_until
from airflow_mlops_provider.demo.servers import AirflowServer, BareRepository, git_bundle

pytestmark = pytest.mark.integration

ENVIRONMENTS = """\
apiVersion: mlops/v1
environments:
  prod:
    runner: local
    model: {run_tag: {stage: prod}}
    allow: {uri_schemes: [file]}
"""
SOON_SECONDS = 60.0  # one refresh (5 s) and one parse; the rest is for a machine that has other things to do


def declare(model: str, description: str = "first") -> str:
    return (
        f"apiVersion: mlops/v1\nmodel: {model}\nowner: a@example.com\ndescription: {description}\n"
        "experiment: /tests/bundle\nbatch: {input: 'file:///in.csv', output: 'file:///out/'}\n"
        "environments: {prod: {}}\n"
    )


def eventually(check: Callable[[], bool]) -> None:
    wait_until(check, "what the repository says", SOON_SECONDS)


def told_errors(airflow: AirflowServer) -> str:
    return "\n".join(error["stack_trace"] for error in airflow.import_errors())


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> BareRepository:
    return BareRepository(tmp_path_factory.mktemp("git"))


@pytest.fixture(scope="module")
def airflow(repository: BareRepository, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AirflowServer]:
    directory = tmp_path_factory.mktemp("airflow") / "home"
    with AirflowServer(directory, [git_bundle(repository.url)], parallelism=1) as server:
        yield server
    assert not directory.exists()


def test_yaml_alone_makes_changes_and_removes_dags(airflow: AirflowServer, repository: BareRepository) -> None:
    """One walk, because each step builds on the last; the repository is still empty when Airflow starts."""
    repository.commit_and_push({"environments.yaml": ENVIRONMENTS, "models/churn.yaml": declare("churn")})
    assert airflow.wait_for_dag("prod.churn.batch")["relative_fileloc"] == "models/churn.yaml.mlops.py"

    repository.commit_and_push({"models/churn.yaml": declare("churn", "second"), "models/fraud.yaml": declare("fraud")})
    airflow.wait_for_dag("prod.fraud.batch")
    eventually(lambda: airflow.request("GET", "dags/prod.churn.batch")["description"] == "second")

    repository.commit_and_push({"models/fraud.yaml": declare("fraud").replace("owner", "ovner")})
    eventually(lambda: bool(airflow.import_errors()))
    (error,) = airflow.import_errors()
    assert error["filename"] == "models/fraud.yaml.mlops.py"
    assert "models/fraud.yaml:3:1" in error["stack_trace"]
    assert not airflow.request("GET", "dags/prod.churn.batch")["is_stale"]

    repository.commit_and_push({"models/fraud.yaml": None})
    eventually(lambda: not airflow.import_errors())
    assert "prod.fraud.batch" not in [dag["dag_id"] for dag in airflow.request("GET", "dags")["dags"]]


def test_a_change_of_environments_reaches_every_dag(airflow: AirflowServer, repository: BareRepository) -> None:
    repository.commit_and_push({"environments.yaml": ENVIRONMENTS, "models/churn.yaml": declare("churn")})
    airflow.wait_for_dag("prod.churn.batch")
    eventually(lambda: not airflow.import_errors())
    repository.commit_and_push({"environments.yaml": ENVIRONMENTS.replace("prod:", "live:")})
    eventually(lambda: "environment 'prod' is unknown" in told_errors(airflow))
    repository.commit_and_push({"environments.yaml": ENVIRONMENTS})
    eventually(lambda: not airflow.import_errors())


def test_the_code_page_shows_the_declaration(airflow: AirflowServer, repository: BareRepository) -> None:
    repository.commit_and_push({"environments.yaml": ENVIRONMENTS, "models/shown.yaml": declare("shown")})
    airflow.wait_for_dag("prod.shown.batch")
    source = airflow.request("GET", "dagSources/prod.shown.batch", headers={"Accept": "application/json"})
    assert "# model: shown" in source["content"]


def test_airflow_reads_nothing_of_the_users_own(airflow: AirflowServer) -> None:
    home = Path(airflow.env["HOME"])
    assert airflow.env["AIRFLOW_HOME"] == str(home)
    assert (home / "airflow.cfg").exists()
