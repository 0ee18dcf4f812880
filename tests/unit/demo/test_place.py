"""Where jobs run, as far as it can be told without a cluster."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from airflow_mlops_provider.demo import place as place_module
from airflow_mlops_provider.demo.display import Display
from airflow_mlops_provider.demo.place import on_the_cluster, on_this_machine
from airflow_mlops_provider.demo.process import DemoError


def test_on_this_machine_jobs_see_the_directory_itself(tmp_path: Path) -> None:
    with on_this_machine(tmp_path) as place:
        assert place.data_uri == f"file://{tmp_path}"
        assert place.mlflow_host == "127.0.0.1"
        assert "runner: local" in place.environments


def test_without_a_checkout_there_is_no_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place_module, "find_spec", lambda _name: None)
    with pytest.raises(DemoError, match="comes with a checkout only"), on_the_cluster(tmp_path, Display(io.StringIO())):
        pass
