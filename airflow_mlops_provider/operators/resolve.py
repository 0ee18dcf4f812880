"""Resolving a model once for several tasks: partitions of one run never use different models.

Decides nothing of its own: it pins, and hands the pin on. Does I/O through the MLflow hook while a task runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from airflow_mlops_provider.links.mlflow import MLflowModelLink, MLflowRunLink
from airflow_mlops_provider.operators.model_task import ModelArgument, ModelTaskMixin, permanent_errors_fail

if TYPE_CHECKING:
    from airflow.sdk import Context


class MLflowResolveModelOperator(ModelTaskMixin, BaseOperator):
    """Resolve and pin a model; return the ``ResolvedModel`` as a dictionary, the ``model`` of the tasks that follow.

    :param model: which model, see :class:`~airflow_mlops_provider.operators.model_task.ModelTaskMixin`. (templated)
    :param use_run_params: obey the run parameters that choose another model.
    """

    template_fields: Sequence[str] = ("model", "mlflow_conn_id")
    operator_extra_links = (MLflowRunLink(), MLflowModelLink())
    ui_color = "#e8e4f5"

    def __init__(
        self,
        *,
        model: ModelArgument,
        mlflow_conn_id: str = "mlflow_default",
        use_run_params: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.model = model
        self.mlflow_conn_id = mlflow_conn_id
        self.use_run_params = use_run_params

    def execute(self, context: Context) -> dict[str, Any]:
        """Return the pinned model as JSON types."""
        with permanent_errors_fail():
            return self.pin_model(context).to_dict()
