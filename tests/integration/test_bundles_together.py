"""Several bundles in one real Airflow: two that would make the same DAG, and a preview of a hostile branch."""

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
  prod: {runner: local, model: {run_tag: {stage: prod}}, allow: {uri_schemes: [file]}}
  pre: {runner: local, ephemeral: true, model: {run_tag: {stage: dev}}, allow: {uri_schemes: [file]}}
"""
SOON_SECONDS = 90.0  # two refreshes (5 s) and one parse; the rest is for a machine that has other things to do


def declare(model: str, environments: str = "prod: {}") -> str:
    return (
        f"apiVersion: mlops/v1\nmodel: {model}\nowner: a@example.com\nexperiment: /tests/bundles\n"
        "batch: {input: 'file:///in.csv', output: 'file:///out/'}\n"
        f"environments: {{{environments}}}\n"
    )


def eventually(check: Callable[[], bool]) -> None:
    wait_until(check, "what the repositories say", SOON_SECONDS)


def preview_bundle(url: str) -> dict[str, object]:
    classpath = "airflow_mlops_provider.bundles.preview.PreviewGitDagBundle"
    return {**git_bundle(url, name="previews"), "classpath": classpath}


@pytest.fixture(scope="module")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> dict[str, BareRepository]:
    return {name: BareRepository(tmp_path_factory.mktemp(name)) for name in ("growth", "risk", "branch")}


@pytest.fixture(scope="module")
def mark(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("marks") / "code-of-the-branch-ran"


@pytest.fixture(scope="module")
def airflow(
    repositories: dict[str, BareRepository], mark: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[AirflowServer]:
    directory = tmp_path_factory.mktemp("airflow")
    (directory / "environments.yaml").write_text(ENVIRONMENTS)
    repositories["growth"].commit_and_push({"models/churn.yaml": declare("churn"), "models/own.yaml": declare("own")})
    repositories["risk"].commit_and_push({"models/fraud.yaml": declare("fraud")})
    code = f"import pathlib\npathlib.Path({str(mark)!r}).touch()\nfrom airflow.sdk import DAG\nDAG('prod.own.batch')\n"
    repositories["branch"].commit_and_push(
        {
            "models/churn.yaml": declare("churn", "prod: {}, pre: {}"),
            "models/bold.yaml": declare("bold", "prod: {}"),
            "dag.py": code,
            "models/own.yaml.mlops.py": code,
            "environments.yaml": ENVIRONMENTS.replace("prod: {", "prod: {ephemeral: true, "),
        }
    )
    bundles = [
        git_bundle(repositories["growth"].url, name="growth"),
        git_bundle(repositories["risk"].url, name="risk"),
        preview_bundle(repositories["branch"].url),
    ]
    settings = {"AIRFLOW__MLOPS__ENVIRONMENTS_FILE": str(directory / "environments.yaml")}
    with AirflowServer(directory / "home", bundles, env=settings, parallelism=1) as server:
        yield server


def errors(airflow: AirflowServer) -> dict[tuple[str, str], str]:
    return {(error["bundle_name"], error["filename"]): error["stack_trace"] for error in airflow.import_errors()}


def test_a_preview_obtains_no_static_environment_and_runs_no_code(airflow: AirflowServer, mark: Path) -> None:
    airflow.wait_for_dag("pre.churn.batch")
    airflow.wait_for_dag("prod.own.batch")
    bold = ("previews", "models/bold.yaml.mlops.py")
    eventually(lambda: bold in errors(airflow))
    assert (
        "models/bold.yaml:2:1: environments: a preview cannot obtain 'prod'; add pre: {} [environment]"
        in (errors(airflow)[bold])
    )
    from_branch = [dag for dag in airflow.request("GET", "dags")["dags"] if dag["bundle_name"] == "previews"]
    assert [dag["dag_id"] for dag in from_branch] == ["pre.churn.batch"]
    assert airflow.request("GET", "dags/prod.own.batch")["bundle_name"] == "growth"
    assert not mark.exists()


def test_two_bundles_that_make_the_same_dag_both_say_so(
    airflow: AirflowServer, repositories: dict[str, BareRepository]
) -> None:
    airflow.wait_for_dag("prod.fraud.batch")
    repositories["risk"].commit_and_push({"team/models/churn.yaml": declare("churn")})
    sides = {
        ("growth", "models/churn.yaml.mlops.py"): "is also declared in bundle risk, team/models/churn.yaml:2",
        ("risk", "team/models/churn.yaml.mlops.py"): "is also declared in bundle growth, models/churn.yaml:2",
    }
    eventually(lambda: sides.keys() <= errors(airflow).keys())
    assert all(text in errors(airflow)[side] for side, text in sides.items())
    assert airflow.request("GET", "dags/prod.churn.batch")["is_stale"]
    healthy = ("prod.own.batch", "prod.fraud.batch", "pre.churn.batch")
    assert not any(airflow.request("GET", f"dags/{dag_id}")["is_stale"] for dag_id in healthy)

    repositories["risk"].commit_and_push({"team/models/churn.yaml": None})
    eventually(lambda: not sides.keys() & errors(airflow).keys())
    eventually(lambda: not airflow.request("GET", "dags/prod.churn.batch")["is_stale"])
    assert airflow.request("GET", "dags/prod.churn.batch")["bundle_name"] == "growth"
