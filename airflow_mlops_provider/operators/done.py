"""The end of a job of several pods: its assets are updated once, after all of them. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from airflow_mlops_provider.operators.interval import hand_on_interval
from airflow_mlops_provider.operators.model_task import permanent_errors_fail

if TYPE_CHECKING:
    from airflow.sdk import Context


class ModelDoneOperator(BaseOperator):
    """Update the assets in ``outlets``, and tell those whom they start which interval was covered.

    :param use_run_params: obey the run parameters that choose another interval.
    """

    ui_color = "#e8f7e4"

    def __init__(self, *, use_run_params: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.use_run_params = use_run_params

    def execute(self, context: Context) -> None:
        with permanent_errors_fail():
            hand_on_interval(context, self.outlets, use_run_params=self.use_run_params)
