"""The servers of the demonstration, which the integration and cluster tests use as well. No I/O of its own."""

from __future__ import annotations

from airflow_mlops_provider.demo.airflow_server import AirflowServer, git_bundle
from airflow_mlops_provider.demo.mlflow_server import MlflowServer
from airflow_mlops_provider.demo.process import DemoError, ManagedProcess, Progress, free_ports
from airflow_mlops_provider.demo.repository import BareRepository

__all__ = [
    "AirflowServer",
    "BareRepository",
    "DemoError",
    "ManagedProcess",
    "MlflowServer",
    "Progress",
    "free_ports",
    "git_bundle",
]
