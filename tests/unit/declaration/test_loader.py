from __future__ import annotations

import dataclasses
import time
from datetime import date, timedelta
from pathlib import Path

import pytest

from airflow_mlops_provider.declaration import (
    Environments,
    ModelSelector,
    find_environments,
    load_declaration,
    load_environments,
)
from airflow_mlops_provider.declaration.problems import MAX_PROBLEMS
from airflow_mlops_provider.exceptions import DeclarationError

DECLARATIONS = Path(__file__).parents[2] / "declarations"


@pytest.fixture(scope="module")
def environments() -> Environments:
    return load_environments(DECLARATIONS / "environments.yaml")


def _load(text: str, folder: Path, environments: Environments) -> None:
    file = folder / "m.yaml"
    file.write_text(text, encoding="utf-8")
    load_declaration(file, environments)


def test_a_model_in_each_of_its_environments(environments: Environments) -> None:
    file = DECLARATIONS / "valid" / "churn.yaml"
    dev, test, prod = load_declaration(file, environments)
    assert [model.environment for model in (dev, test, prod)] == ["dev", "test", "prod"]
    assert prod.dag_ids() == ("prod.churn.batch", "prod.churn.online")
    names = {"experiment": "/churn/gbm", "registered_model": "churn_gbm"}
    assert prod.selector() == ModelSelector(**names, run_tag={"stage": "prod"}, on_ambiguous="fail")  # type: ignore[arg-type]
    assert dev.selector() == ModelSelector(**names, latest_run=True)  # type: ignore[arg-type]
    assert prod.settings is environments["prod"]
    assert prod.batch is not None
    assert test.batch is not None
    assert prod.online is not None
    assert prod.batch.schedule is not None
    assert (prod.batch.schedule.cron, prod.batch.schedule.timezone) == ("0 3 * * *", "Europe/Moscow")
    assert test.batch.schedule is None
    assert prod.batch.timeout == timedelta(hours=2)
    assert (prod.online.min_replicas, prod.online.max_replicas) == (3, 4)
    assert prod.origin["batch.retries"] == (str(file), 15)
    assert prod.origin["online.min_replicas"] == (str(file), 26)
    assert "batch.retry_delay" not in prod.origin


def test_text_stays_as_written(environments: Environments) -> None:
    (model,) = load_declaration(DECLARATIONS / "valid" / "every-field.yaml", environments)
    assert model.batch is not None
    assert model.owner == "Команда роста"
    assert model.tags == ("growth", "no", "on", "12:30")
    assert dict(model.batch.env) == {"MODE": "no", "STARTED": "12:30", "RUN": "{{ run_id }}"}
    assert model.batch.start_date == date(2026, 1, 31)
    assert model.batch.retry_delay == timedelta(seconds=90)
    assert (model.batch.resources.cpu, model.batch.resources.memory) == ("2", "512Mi")
    assert model.selector().logged_model == "classifier"


def test_selection_by_alias_takes_the_registered_model(environments: Environments) -> None:
    (model,) = load_declaration(DECLARATIONS / "valid" / "registry.yaml", environments)
    assert model.selector() == ModelSelector(registered_model="churn_gbm", alias="champion")


def test_what_was_loaded_cannot_be_changed(environments: Environments) -> None:
    (model,) = load_declaration(DECLARATIONS / "valid" / "registry.yaml", environments)
    with pytest.raises(dataclasses.FrozenInstanceError):
        model.file = "x"  # type: ignore[misc]
    with pytest.raises(ValueError, match="frozen"):
        model.declaration.owner = "x"  # type: ignore[misc]


def test_an_endless_list_of_problems_is_cut(tmp_path: Path, environments: Environments) -> None:
    text = "apiVersion: mlops/v1\nenvironments: {dev: {}}\n" + "".join(f"field{n}: 1\n" for n in range(500))
    with pytest.raises(DeclarationError) as refused:
        _load(text, tmp_path, environments)
    assert len(refused.value.problems) <= MAX_PROBLEMS + 1


def test_an_overlay_does_not_hide_a_wrong_base(tmp_path: Path, environments: Environments) -> None:
    text = "apiVersion: mlops/v1\nmodel: m\nowner: o\nexperiment: e\nbatch: {input: a, output: b, retries: many}\n"
    with pytest.raises(DeclarationError, match=r"m.yaml:5:39: batch.retries: must be a whole number"):
        _load(text + "environments: {dev: {batch: {retries: 1}}}\n", tmp_path, environments)


def test_an_overlay_may_add_what_the_base_lacks(tmp_path: Path, environments: Environments) -> None:
    text = "apiVersion: mlops/v1\nmodel: m\nexperiment: e\nbatch: {output: b, catchup: true}\n"
    _load(text + "environments: {dev: {owner: o, batch: {input: a, start_date: 2026-01-01}}}\n", tmp_path, environments)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("prod: {}", ["model: is missing; add it"]),
        ("prod: {model: {latest_run: true}}", ["prod.namespace: is missing; the kubernetes runner needs one"]),
        (
            "prod: {runner: local, model: {}}",
            ["model: must choose in exactly one way, not nothing; write one of run_tag"],
        ),
        ("prod: {runner: local, model: {alias: a, version: 3}}", ["in exactly one way, not alias and version"]),
        ("prod: {runner: locale, model: {alias: a}}", ["prod.runner: 'locale' is unknown; did you mean 'local'?"]),
        (
            "prod: {runner: local, model: {latest_run: true}, ttl: 7d}",
            ["prod.ttl: only an ephemeral environment expires"],
        ),
        (
            "prod: {runner: local, model: {alias: a}, allow: {image: [x]}}",
            ["allow.image: unknown field; did you mean 'images'"],
        ),
        (
            "prod: {runner: local, model: {alias: a}, volumes: [{claim: c, mount_path: data}]}",
            ["volumes.0.mount_path: is not spelt as it must be; it has to match ^/"],
        ),
        ("Prod: {runner: local, model: {alias: a}}", ["environments.Prod: 'Prod' is not a name"]),
        ("prod: {runner: local, model: {alias: a}, env: {A: 1}}", ["prod.env.A: must be text, not a number"]),
        (
            "prod: {runner: local, model: {alias: a}, tolerations: [{kay: x}]}",
            ["tolerations.0.kay: unknown field; did you mean 'key'"],
        ),
        (
            "prod: {runner: local, model: {alias: a}, allow: {max_cpu: x}}",
            ["allow.max_cpu: 'x' is not an amount of CPU"],
        ),
    ],
)
def test_environments_say_what_is_wrong(tmp_path: Path, change: str, expected: list[str]) -> None:
    file = tmp_path / "environments.yaml"
    file.write_text(f"apiVersion: mlops/v1\nenvironments:\n  {change}\n", encoding="utf-8")
    with pytest.raises(DeclarationError) as refused:
        load_environments(file)
    assert len(refused.value.problems) == len(expected)
    for problem, part in zip(refused.value.problems, expected, strict=True):
        assert problem.line == 3
        assert part in str(problem)


def test_environments_are_found_above_a_declaration_but_not_outside_its_repository(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    models = repository / "team" / "models"
    models.mkdir(parents=True)
    (repository / ".git").mkdir()
    (tmp_path / "environments.yaml").touch()
    with pytest.raises(DeclarationError, match=r"no environments\.yaml beside it or above it; create one"):
        find_environments(models / "m.yaml")
    (repository / "environments.yaml").touch()
    assert find_environments(models / "m.yaml") == repository / "environments.yaml"
    assert find_environments(models) == repository / "environments.yaml"
    (models.parent / "environments.yaml").touch()
    assert find_environments(models / "m.yaml") == models.parent / "environments.yaml"
    assert find_environments(models / "m.yaml", explicit="/etc/x.yaml") == Path("/etc/x.yaml")


def test_reading_a_file_costs_milliseconds(environments: Environments) -> None:
    """About 1.3 ms on the machine it was written on; the bound only catches a change of kind."""
    file = DECLARATIONS / "valid" / "churn.yaml"
    load_declaration(file, environments)
    started = time.process_time()
    for _ in range(100):
        load_declaration(file, environments)
    assert (time.process_time() - started) / 100 < 0.010
