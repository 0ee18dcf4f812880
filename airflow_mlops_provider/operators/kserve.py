"""The steps of an online service, by the names that DAGs import. Decides nothing and does no I/O."""

from __future__ import annotations

from airflow_mlops_provider.operators.kserve_canary import KServeCanaryOperator
from airflow_mlops_provider.operators.kserve_delete import KServeDeleteOperator
from airflow_mlops_provider.operators.kserve_deploy import KServeDeployOperator
from airflow_mlops_provider.operators.kserve_predict import KServePredictOperator

__all__ = ["KServeCanaryOperator", "KServeDeleteOperator", "KServeDeployOperator", "KServePredictOperator"]
