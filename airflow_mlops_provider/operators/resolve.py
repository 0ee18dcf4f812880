"""Resolving a model once for several tasks: partitions of one run never use different models.

Decides nothing of its own: it asks whether the choice is allowed, pins, and hands the pin on. Does I/O through the
MLflow hook while a task runs.
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
    :param environment: name of the environment whose rules the choice has to obey. (templated)
    :param use_run_params: obey the run parameters that choose another model.
    :raises AirflowFailException: no model answers, or the platform does not allow the choice.
    """

    template_fields: Sequence[str] = ("model", "mlflow_conn_id", "environment")
    operator_extra_links = (MLflowRunLink(), MLflowModelLink())
    ui_color = "#e8e4f5"

    def __init__(
        self,
        *,
        model: ModelArgument,
        mlflow_conn_id: str = "mlflow_default",
        environment: str = "default",
        use_run_params: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.model = model
        self.mlflow_conn_id = mlflow_conn_id
        self.environment = environment
        self.use_run_params = use_run_params
        # It runs no program: there is nothing to hand on.
        self.tracking_uri = self.input_uri = self.output_uri = None
        self.partitions = 1

    def execute(self, context: Context) -> dict[str, Any]:
        """Return the pinned model as JSON types."""
        with permanent_errors_fail():
            self.refuse_forbidden_task(runner=None)
            return self.pin_model(context).to_dict()
