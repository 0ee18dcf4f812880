"""The batch step without a cluster: a local process under the same contract.

Decides how the contract reaches a process on the worker's own machine. For laptops, demonstrations and small
installations: a model is code, and here it runs with the worker's user. Does I/O while a task runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from airflow_mlops_provider.declaration.standard_runtime import STANDARD_COMMAND
from airflow_mlops_provider.links.mlflow import MLflowModelLink, MLflowRunLink
from airflow_mlops_provider.manifests.contract import check_extra_names
from airflow_mlops_provider.operators.model_task import ModelArgument, ModelTaskMixin, permanent_errors_fail

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_mlops_provider.hooks.local_process import LocalProcess


class MLflowModelLocalOperator(ModelTaskMixin, BaseOperator):
    """Apply an MLflow model in a process on the worker.

    The process gets the contract of ``docs/batch.md`` and MLflow's credentials from the connection, and of the worker's
    own environment nothing but what programs need to be found. What it writes to the file that ``MLOPS_XCOM_PATH``
    names becomes the task's XCom.

    :param command: program and arguments, never a shell string. (templated)
    :param env_vars: further variables. (templated)
    :raises AirflowFailException: no model answers, it is gone, or the platform does not allow what the task asks for:
        trying again changes nothing.
    :raises RunnerError: the program failed or ran out of ``execution_timeout``; Airflow retries.
    """

    template_fields: Sequence[str] = ("command", "env_vars", *ModelTaskMixin.model_template_fields)
    operator_extra_links = (MLflowRunLink(), MLflowModelLink())
    ui_color = "#e0f2e9"

    def __init__(
        self,
        *,
        model: ModelArgument,
        mlflow_conn_id: str = "mlflow_default",
        environment: str = "default",
        tracking_uri: str | None = None,
        input_uri: str | None = None,
        output_uri: str | None = None,
        partition: int = 0,
        partitions: int = 1,
        use_run_params: bool = False,
        declared_params: Sequence[str] = (),
        command: Sequence[str] = STANDARD_COMMAND,
        env_vars: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.model = model
        self.mlflow_conn_id = mlflow_conn_id
        self.environment = environment
        self.tracking_uri = tracking_uri
        self.input_uri = input_uri
        self.output_uri = output_uri
        self.partition = partition
        self.partitions = partitions
        self.use_run_params = use_run_params
        self.declared_params = declared_params
        self.command = command
        self.env_vars = env_vars
        self._process: LocalProcess | None = None
        self._killed = False

    def execute(self, context: Context) -> Any:
        """Pin the model, run the process, return its result."""
        from airflow_mlops_provider.hooks.local_process import LocalProcess

        with permanent_errors_fail():
            check_extra_names(list(self.env_vars or {}))
            self._refuse_forbidden()
            model = self.pin_model(context)
            variables = {
                **(self.env_vars or {}),
                **self.contract(model, context),
                **self.mlflow_hook.credential_variables(),
            }
        self._process = LocalProcess(self.command, variables, self.log.info)
        if self._killed:
            self.on_kill()
        return self._process.run()

    def _refuse_forbidden(self) -> None:
        self.refuse_forbidden_task(runner="local")
        if self.platform_settings is not None:
            from airflow_mlops_provider.declaration.pod_policy import check_process

            self.refuse(check_process(self.command, self.env_vars or {}, self.platform_settings))

    def on_kill(self) -> None:
        """End the process group. ``run`` then raises, so a terminated task never becomes a success."""
        self._killed = True
        if self._process:
            self._process.stop("the task was told to stop")
