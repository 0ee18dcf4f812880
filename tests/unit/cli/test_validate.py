from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_mlops_provider.cli.main import main

DECLARATIONS = Path(__file__).parents[2] / "declarations"
VALID = (DECLARATIONS / "valid" / "churn.yaml").read_text(encoding="utf-8")
OTHER = VALID.replace("model: churn", "model: other")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one valid model, entered."""
    (tmp_path / ".git").mkdir()
    (tmp_path / "models").mkdir()
    shutil.copy(DECLARATIONS / "environments.yaml", tmp_path)
    (tmp_path / "models" / "churn.yaml").write_text(VALID, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AIRFLOW__MLOPS__ENVIRONMENTS_FILE", raising=False)
    return tmp_path


def _write(project: Path, name: str, text: str) -> None:
    file = project / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


def _run(*arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = main(["validate", *arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_a_valid_directory(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(".", capsys=capsys) == (0, "1 file, 1 valid\n", "")


def test_every_problem_of_every_file_and_a_closing_line(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _write(project, "team/models/bad.yaml", OTHER.replace("retries", "retrys").replace("timeout: 2h", "timeout: 2"))
    _write(project, "team/models/.hidden.yaml", "x")
    _write(project, ".venv/models/other.yaml", "x")
    _write(project, "team/other.yaml", "x")
    code, out, _ = _run(".", capsys=capsys)
    assert code == 1
    assert out.splitlines() == [
        "team/models/bad.yaml:15:3: batch.retrys: unknown field; did you mean 'retries'?",
        "team/models/bad.yaml:16:12: batch.timeout: 2 has no unit; write for example 2s, 15m or 2h",
        "2 files, 1 valid, 1 with 2 problems",
    ]


def test_a_model_declared_twice_is_named_on_both_sides(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _write(project, "models/again.yaml", VALID)
    code, out, _ = _run("models", capsys=capsys)
    assert code == 1
    ids = "(both would make dev.churn.batch, test.churn.batch, test.churn.online and 2 more)"
    assert out.splitlines() == [
        f"models/again.yaml:3:1: model: 'churn' is also declared in models/churn.yaml:3 {ids}; rename one of them",
        f"models/churn.yaml:3:1: model: 'churn' is also declared in models/again.yaml:3 {ids}; rename one of them",
        "2 files, 0 valid, 2 with 2 problems",
    ]


def test_a_duplicate_with_other_problems_is_named_on_both_sides(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = VALID.replace("retries", "retrys").replace("  prod: {online: {min_replicas: 3}}", "  prd: {online: null}")
    _write(project, "models/again.yaml", broken)
    _write(project, "models/empty.yaml", "")
    _write(project, "models/unreadable.yaml", "model: [")
    _write(project, "models/unnamed.yaml", "model: {a: b}\n")
    _, out, _ = _run("models", capsys=capsys)
    for file, other in (("again", "churn"), ("churn", "again")):
        assert f"models/{file}.yaml:3:1: model: 'churn' is also declared in models/{other}.yaml:3 (both" in out
    assert "again.yaml:15:3: batch.retrys: unknown field" in out


AFTER = """apiVersion: mlops/v1
model: {model}
owner: o
experiment: /e
batch: {{input: s3://b/in, output: s3://b/out, after: [{after}]}}
environments: {{{environments}}}
"""


def test_a_job_that_waits_for_nobody_is_reported_in_a_directory(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = AFTER.format(model="upsell", after="chrun", environments="test: {}, dev: {batch: {after: [churn]}}")
    _write(project, "models/upsell.yaml", text)
    _write(project, "models/unreadable.yaml", "model: [")
    _write(project, "models/last.yaml", AFTER.format(model="last", after="unreadable, broken", environments="test: {}"))
    broken = AFTER.format(model="broken", after="churn", environments="test: {}").replace("owner", "ownr")
    _write(project, "models/broken.yaml", broken)
    _, out, _ = _run("models", capsys=capsys)
    assert [line for line in out.splitlines() if "after" in line] == [
        "models/upsell.yaml:5:1: batch.after: in 'test': no model 'chrun' has a batch job here; "
        "did you mean 'churn'? (use broken, churn or last)"
    ]
    assert _run("models/upsell.yaml", capsys=capsys)[0] == 0


def test_jobs_that_wait_for_one_another_are_reported(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for model, after in {"one": "two", "two": "three, churn", "three": "one", "four": "one"}.items():
        _write(project, f"models/{model}.yaml", AFTER.format(model=model, after=after, environments="test: {}"))
    _, out, _ = _run("models", capsys=capsys)
    (told,) = out.splitlines()[:-1]
    assert ": batch.after: in 'test': waits for itself: " in told
    assert all(name in told for name in ("one", "two", "three"))


def test_jobs_of_batch_jobs_are_waited_for_too(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = AFTER.format(model="upsell", after="upsell.weekly, churn.nightly", environments="test: {}")
    jobs = "batch_jobs: {weekly: {input: s3://b/in, output: s3://b/out, after: [upsell.report]},"
    jobs += " report: {input: s3://b/in, output: s3://b/out, after: [upsell]}}\n"
    _write(project, "models/upsell.yaml", text + jobs)
    _, out, _ = _run("models", capsys=capsys)
    told = out.splitlines()[:-1]
    assert told[0] == (
        "models/upsell.yaml:5:1: batch.after: in 'test': 'churn' has no batch job 'nightly' here; "
        "use churn, upsell.report or upsell.weekly"
    )
    assert "waits for itself: upsell" in told[1]
    assert all(name in told[1] for name in ("upsell.weekly", "upsell.report"))


def test_the_same_file_named_twice_is_one_file(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("models", "models/churn.yaml", capsys=capsys)[:2] == (0, "1 file, 1 valid\n")


def test_broken_environments_are_told_once_and_nothing_is_called_valid(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _write(project, "models/second.yaml", VALID)
    _write(
        project, "environments.yaml", "apiVersion: mlops/v1\nenvironments: {dev: {runner: lokal, model: {alias: x}}}\n"
    )
    code, out, _ = _run(".", capsys=capsys)
    assert code == 1
    assert out.splitlines() == [
        "environments.yaml:2:30: environments.dev.runner: "
        "'lokal' is unknown; did you mean 'local'? (use kubernetes or local)",
        "3 files, 0 valid, 1 with 1 problem, 2 not checked",
    ]


def test_environments_file_itself(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("environments.yaml", "models", capsys=capsys)[:2] == (0, "2 files, 2 valid\n")


def test_without_environments_nothing_is_allowed(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "environments.yaml").unlink()
    code, out, _ = _run(".", capsys=capsys)
    assert code == 1
    assert "no environments.yaml beside it or above it" in out


def test_environments_from_option_or_airflow_setting(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "environments.yaml").rename(project / "platform.yaml")
    assert _run(".", "--environments", "platform.yaml", capsys=capsys)[0] == 0
    monkeypatch.setenv("AIRFLOW__MLOPS__ENVIRONMENTS_FILE", str(project / "platform.yaml"))
    assert _run(".", capsys=capsys)[0] == 0


@pytest.mark.parametrize("path", ["nothing-here", "empty"])
def test_a_path_without_declarations_is_a_usage_error(
    project: Path, path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "empty").mkdir()
    code, out, err = _run(path, capsys=capsys)
    assert (code, out) == (2, "")
    assert err.startswith(f"{path}: ")


def test_json(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _write(
        project,
        "models/bad.yaml",
        VALID.replace("model: churn", "model: bad").replace("partitions: 4", "partitions: 9"),
    )
    code, out, _ = _run(".", "--output", "json", capsys=capsys)
    assert code == 1
    assert json.loads(out) == {
        "files": 2,
        "valid": 1,
        "unchecked": 0,
        "problems": [
            {
                "file": "models/bad.yaml",
                "line": 13,
                "column": 15,
                "field": "batch.partitions",
                "message": "in 'test': 9 are too many; at most 8",
                "rule": "max_partitions",
            }
        ],
    }


def test_gitlab_code_quality(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _write(project, "models/bad.yaml", "model: [\n")
    code, out, _ = _run(".", "--output", "gitlab", capsys=capsys)
    (entry,) = json.loads(out)
    assert code == 1
    assert set(entry) == {"description", "check_name", "fingerprint", "severity", "location"}
    assert entry["location"] == {"path": "models/bad.yaml", "lines": {"begin": 2}}
    assert _run("models/churn.yaml", "--output", "gitlab", capsys=capsys)[:2] == (0, "[]\n")


def test_github_annotations(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _write(project, "models/a,b.yaml", VALID.replace("{{ ds }}", "{% x %}"))
    code, out, _ = _run("models/a,b.yaml", "--output", "github", capsys=capsys)
    assert code == 1
    assert out.startswith(
        "::error file=models/a%2Cb.yaml,line=11,col=10,title=airflow-mlops::batch.input: in 'dev': template"
    )
    assert "{%25 x %25}" in out


def test_it_imports_neither_airflow_nor_mlflow(project: Path) -> None:
    program = (
        "import sys; from airflow_mlops_provider.cli.main import main; code = main(['validate', '.'])\n"
        "heavy = {'airflow', 'mlflow', 'kubernetes', 'httpx', 'jinja2', 'pandas'} & set(sys.modules)\n"
        "print(sorted(heavy)); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1 file, 1 valid\n[]\n", "")


def test_help_starts_without_pydantic_and_yaml() -> None:
    program = (
        "import sys; from airflow_mlops_provider.cli.main import build_parser; build_parser().format_help()\n"
        "print(sorted({'pydantic', 'yaml', 'airflow', 'mlflow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")
