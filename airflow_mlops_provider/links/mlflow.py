"""Buttons of a task that lead to its MLflow run and model.

Decides the XCom keys (public: old tasks still point at them) and that nothing but an http(s) address becomes a link.
Leaves the addresses to the MLflow hook. I/O only through XCom: Airflow calls ``get_link`` in the task's process after
it has ended, so :func:`push_model_links` pushes the same keys early, and the buttons work while the task runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from airflow.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator, Context
    from airflow.sdk.types import TaskInstanceKey

    from airflow_mlops_provider.declaration.selector import ResolvedModel
    from airflow_mlops_provider.hooks.mlflow import MLflowHook

RUN_LINK_KEY = "mlflow_run_url"
MODEL_LINK_KEY = "mlflow_model_url"


class _PushedLink(BaseOperatorLink):
    """Show what was pushed; nothing where nothing was (the task failed before it had a model)."""

    key = ""

    @property
    def xcom_key(self) -> str:
        return self.key

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        from airflow.sdk.execution_time.xcom import XCom

        return web_address(XCom.get_value(ti_key=ti_key, key=self.xcom_key))


class MLflowRunLink(_PushedLink):
    """Lead to the training run's page."""

    name = "MLflow run"
    key = RUN_LINK_KEY


class MLflowModelLink(_PushedLink):
    """Lead to the page of the registered version, else of the logged model."""

    name = "MLflow model"
    key = MODEL_LINK_KEY


def push_model_links(context: Context, resolved: ResolvedModel, hook: MLflowHook) -> None:
    """Push both addresses as soon as the model is known. A model without a page of its own gets no button."""
    for key, address in ((RUN_LINK_KEY, resolved.run_url), (MODEL_LINK_KEY, hook.model_page_url(resolved))):
        if web_address(address):
            context["ti"].xcom_push(key=key, value=address)


def web_address(value: object) -> str:
    """Return an http(s) address unchanged and anything else as an empty string: a link is clicked by people."""
    if not isinstance(value, str):
        return ""
    try:
        parts = urlsplit(value)
    except ValueError:
        return ""
    return value if parts.scheme in ("http", "https") and parts.netloc else ""
