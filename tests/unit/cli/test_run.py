from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from airflow_mlops_provider.cli.run import _chosen_job, _moment, fill_in, read_params
from airflow_mlops_provider.declaration import load_declaration, load_environments
from airflow_mlops_provider.exceptions import PermanentError

VALUES = {"ds": "2026-01-31", "ts": "2026-01-31T00:00:00+00:00"}


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        (None, None),
        ("s3://in/", "s3://in/"),
        ("s3://in/ds={{ ds }}/{{ds}}", "s3://in/ds=2026-01-31/2026-01-31"),
        ("{{- ts -}}", "2026-01-31T00:00:00+00:00"),
    ],
)
def test_known_variables_are_filled_in(text: str | None, filled: str | None) -> None:
    assert fill_in(text, VALUES) == filled


@pytest.mark.parametrize("text", ["{{ conn.x.password }}", "{{ ds | upper }}", "{% if ds %}", "{{ unknown }}"])
def test_what_only_airflow_renders_is_refused(text: str) -> None:
    with pytest.raises(PermanentError, match="only be rendered by Airflow"):
        fill_in(text, VALUES)


def test_moment_that_is_none_says_how_to_write_one() -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="2026-01-31T00"):
        _moment("yesterday")


def test_a_job_is_chosen_by_name() -> None:
    declarations = Path(__file__).parents[2] / "declarations"
    environments = load_environments(declarations / "environments.yaml")
    prod, test = load_declaration(declarations / "valid" / "jobs.yaml", environments)
    assert _chosen_job(prod, None) is prod.batch
    assert _chosen_job(prod, "weekly").partitions == 3
    assert _chosen_job(test, None) is test.declaration.batch_jobs["report"]  # the only one
    with pytest.raises(PermanentError, match=r"no job of batch_jobs is called 'wekly'; did you mean 'weekly'\?"):
        _chosen_job(prod, "wekly")


def test_parameters_are_read_as_the_form_would() -> None:
    declarations = Path(__file__).parents[2] / "declarations"
    environments = load_environments(declarations / "environments.yaml")
    batch = load_declaration(declarations / "valid" / "params.yaml", environments)[1].batch
    assert batch is not None
    assert read_params(batch, []) == {
        "threshold": 0.5,
        "segment": "a",
        "rows": 1000,
        "dry": False,
        "since": "2026-01-31",
    }
    given = read_params(batch, ["threshold=0.25", "segment=b", "rows=5", "dry=true", "since=2026-02-01"])
    assert given == {"threshold": 0.25, "segment": "b", "rows": 5, "dry": True, "since": "2026-02-01"}
    assert (
        fill_in(batch.input, {f"params.{name}": value for name, value in given.items()})
        == "s3://bucket/in/b/2026-02-01"
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("treshold=1", "'treshold' is not declared; did you mean 'threshold'?"),
        ("threshold", "--param threshold: has no value; write threshold=VALUE"),
        ("threshold=much", "'much' is not of type number"),
        ("threshold=2", "2 is more than maximum (1); lower it"),
        ("segment=c", "'c' is not in enum; use a or b"),
        ("dry=yes", "'yes' is not of type boolean"),
        ("since=2026-02-30", "'2026-02-30' is not of type date"),
        ("threshold=nan", "finite"),
    ],
)
def test_parameters_that_do_not_fit_are_named(given: str, message: str) -> None:
    declarations = Path(__file__).parents[2] / "declarations"
    environments = load_environments(declarations / "environments.yaml")
    batch = load_declaration(declarations / "valid" / "params.yaml", environments)[1].batch
    assert batch is not None
    with pytest.raises(PermanentError) as refused:
        read_params(batch, [given])
    assert str(refused.value).startswith(f"--param {given}: ")
    assert message in str(refused.value)
