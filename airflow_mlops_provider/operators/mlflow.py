"""The batch step: a pod that applies the tagged model.

Decides how a resolved model gets into a pod that the Kubernetes provider builds, starts and watches, and mends three of
that provider's failures on the way: a terminated task that becomes SUCCESS, a second pod after a lost create reply, a
result lost when the pod is over before the task is deferred. Does I/O through its hooks, while a task runs.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.cncf.kubernetes.backcompat.backwards_compat_converters import convert_env_vars_or_raise_error
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.providers.cncf.kubernetes.utils.pod_manager import PodPhase

from airflow_mlops_provider.declaration import ResolvedModel
from airflow_mlops_provider.exceptions import PermanentError, RunnerError
from airflow_mlops_provider.hooks.failing import missing_permissions_fail
from airflow_mlops_provider.links.mlflow import MLflowModelLink, MLflowRunLink
from airflow_mlops_provider.manifests import batch_pod
from airflow_mlops_provider.manifests.contract import check_extra_names
from airflow_mlops_provider.manifests.naming import (
    CLEARED_ANNOTATION,
    CREATE_ID_ANNOTATION,
    DAG_RUN_ANNOTATION,
    MODEL_URI_ANNOTATION,
)
from airflow_mlops_provider.operators.model_task import ModelArgument, ModelTaskMixin, permanent_errors_fail

if TYPE_CHECKING:
    from airflow.sdk import Context
    from kubernetes.client import V1Container, V1Pod

    from airflow_mlops_provider.hooks.kubernetes import IdempotentPodManager


class MLflowModelBatchOperator(ModelTaskMixin, KubernetesPodOperator):
    """Apply an MLflow model in a pod.

    The model is resolved when the task runs, pinned before the pod is created, and handed over in the container's
    environment (``MODEL_URI`` and the rest of the contract, ``docs/batch.md``). Every argument of
    :class:`~airflow.providers.cncf.kubernetes.operators.pod.KubernetesPodOperator` works as there; the parameters of
    :class:`~airflow_mlops_provider.operators.model_task.ModelTaskMixin` choose the model. What a container writes to
    ``/airflow/xcom/return.json`` (JSON, up to 4,096 bytes) becomes the task's XCom without a sidecar.

    :param mlflow_credentials: Secret in the pod's namespace that holds MLflow's credentials,
        ``{"secret": "mlflow-token"}`` or ``{"secret": "mlflow-token", "keys": {"MLFLOW_TRACKING_TOKEN": "token"}}``.
    :param hardened: fill in what the ``restricted`` Pod Security Standard demands wherever nothing else was asked for.
    :param xcom_sidecar: fetch the result with the Kubernetes provider's sidecar, for results over 4,096 bytes.
    :raises AirflowFailException: no model answers, it is gone, or the platform does not allow what the pod asks for:
        trying again changes nothing.
    """

    template_fields: Sequence[str] = (*KubernetesPodOperator.template_fields, *ModelTaskMixin.model_template_fields)
    operator_extra_links = (MLflowRunLink(), MLflowModelLink())

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
        mlflow_credentials: Mapping[str, Any] | None = None,
        hardened: bool = True,
        xcom_sidecar: bool = False,
        do_xcom_push: bool = True,
        log_pod_spec_on_failure: bool = False,
        startup_check_interval_seconds: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            # Without the sidecar the result is pushed by cleanup(), and the parent must not wait for a sidecar.
            do_xcom_push=do_xcom_push and xcom_sidecar,
            log_pod_spec_on_failure=log_pod_spec_on_failure,
            startup_check_interval_seconds=startup_check_interval_seconds,
            **kwargs,
        )
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
        self.mlflow_credentials = mlflow_credentials
        self.hardened = hardened
        self.xcom_sidecar = xcom_sidecar
        self.push_result = do_xcom_push and not xcom_sidecar
        self._model: ResolvedModel | None = None
        self._result: Any = None

    @cached_property
    def pod_manager(self) -> IdempotentPodManager:
        from airflow_mlops_provider.hooks.kubernetes import IdempotentPodManager

        return IdempotentPodManager(kube_client=self.client, callbacks=self.callbacks)

    def execute(self, context: Context) -> Any:
        """Pin the model, run the pod, return its result."""
        with permanent_errors_fail():
            self._refuse_forbidden()
            self._model = self.pin_model(context)
            self._hand_over(self._model, context)
        with missing_permissions_fail():
            super().execute(context)
        self._fail_if_killed()
        return self._result

    def execute_sync(self, context: Context) -> Any:
        self._result = super().execute_sync(context)
        return self._result

    def trigger_reentry(self, context: Context, event: dict[str, Any]) -> Any:
        """Go on after the pod ended. Called without a deferral too, where the pod was over before it."""
        with missing_permissions_fail():
            self._result = super().trigger_reentry(context, event)
        self._fail_if_killed()
        return self._result

    def invoke_defer_method(self, last_log_time: Any = None, context: Context | None = None) -> None:
        # The parent reads this signature: without a parameter of that name it hands over no context, and then neither
        # notices a pod that is over already nor minds execution_timeout.
        self._fail_if_killed()
        super().invoke_defer_method(last_log_time=last_log_time, context=context)

    def get_or_create_pod(self, pod_request_obj: V1Pod, context: Context) -> V1Pod:
        self._fail_if_killed()
        pod = self._finished_pod(pod_request_obj, context) or super().get_or_create_pod(pod_request_obj, context)
        if self._killed:
            # The signal came while the pod was being created: on_kill knew of none.
            self.pod = pod
            self.on_kill()
            self._fail_if_killed()
        self._believe(pod, context)
        return pod

    def build_pod_request_obj(self, context: Context | None = None, *, dry_run: bool = False) -> V1Pod:
        pod = super().build_pod_request_obj(context, dry_run=dry_run)
        container = next(item for item in pod.spec.containers if item.name == self.base_container_name)
        if not self.xcom_sidecar:
            container.termination_message_path = batch_pod.RESULT_PATH
        if self.hardened:
            _harden(pod, container)
        if not dry_run:
            with permanent_errors_fail():
                self._refuse_forbidden_pod(pod)
        return pod

    def cleanup(
        self, pod: V1Pod, remote_pod: V1Pod, xcom_result: Any = None, context: Context | None = None, **kwargs: Any
    ) -> None:
        """Push the container's result before the parent deletes the pod that holds it."""
        problem = None
        if self.push_result and remote_pod and context and not self._killed:
            value, problem = batch_pod.parse_result(_termination_message(remote_pod, self.base_container_name))
            if value is not None:
                self._push_xcom_with_fan_out(context["ti"], value)
        super().cleanup(pod, remote_pod, xcom_result, context, **kwargs)
        if problem and not self._killed:
            with permanent_errors_fail():
                raise PermanentError(f"pod {remote_pod.metadata.name} succeeded, but {problem}")

    def _refuse_forbidden(self) -> None:
        direct = self.config_file or self.cluster_context or self.in_cluster is not None
        self.refuse_forbidden_task(runner="kubernetes", kubernetes=None if direct else self.kubernetes_conn_id)

    def _refuse_forbidden_pod(self, pod: V1Pod) -> None:
        """Judge the pod itself: templates, a pod template file or a mutation hook may have changed it until here."""
        if self.platform_settings is not None:
            from kubernetes.client import ApiClient

            from airflow_mlops_provider.declaration.pod_policy import check_pod

            self.refuse(check_pod(ApiClient().sanitize_for_serialization(pod), self.platform_settings))

    def _hand_over(self, model: ResolvedModel, context: Context) -> None:
        from kubernetes.client import V1EnvVar

        own = convert_env_vars_or_raise_error(self.env_vars) if self.env_vars else []
        check_extra_names([item.name for item in own])
        added = batch_pod.build_env_vars(self.contract(model, context))
        if self.mlflow_credentials:
            added += batch_pod.build_credential_env_vars(
                self.mlflow_credentials["secret"], self.mlflow_credentials.get("keys")
            )
        self.env_vars = [
            *own,
            *(V1EnvVar(name=item["name"], value=item.get("value"), value_from=item.get("valueFrom")) for item in added),
        ]
        self.annotations = {
            **self.annotations,
            **batch_pod.build_model_annotations(model.to_dict()),
            DAG_RUN_ANNOTATION: context["run_id"],
            CLEARED_ANNOTATION: str(context["ti"].max_tries),
            CREATE_ID_ANNOTATION: uuid.uuid4().hex,
        }

    def _finished_pod(self, wanted: V1Pod, context: Context) -> V1Pod | None:
        """Return the pod that succeeded while no worker was watching; the parent would delete it and run it again."""
        pod = self._get_pod_from_task_state_store(context) if self.durable else None
        if pod is None or pod.status.phase != PodPhase.SUCCEEDED or self.xcom_sidecar:
            return None
        found, asked = pod.metadata.annotations or {}, wanted.metadata.annotations
        same = all(found.get(key) == asked[key] for key in (MODEL_URI_ANNOTATION, CLEARED_ANNOTATION))
        return pod if same else None

    def _believe(self, pod: V1Pod, context: Context) -> None:
        """Report the model that the pod carries: a pod found again may hold an older one than was resolved now."""
        stated = batch_pod.read_model_annotation(pod.metadata.annotations)
        if stated is None or self._model is None or stated == self._model.to_dict():
            return
        self._model = ResolvedModel(**stated)
        self.log.warning("Pod %s, found running, applies %s; reporting that.", pod.metadata.name, self._model.uri)
        self._publish(self._model, context)

    def _fail_if_killed(self) -> None:
        if self._killed:
            name = self.pod.metadata.name if self.pod else None
            raise RunnerError(f"the task was told to stop{f'; its pod {name} was deleted' if name else ''}")


def _harden(pod: V1Pod, container: V1Container) -> None:
    from airflow.providers.cncf.kubernetes.utils.xcom_sidecar import PodDefaults
    from kubernetes.client import V1EmptyDirVolumeSource, V1EnvVar, V1Volume, V1VolumeMount

    spec = pod.spec
    spec.security_context = spec.security_context or batch_pod.hardened_pod_security_context()
    if spec.automount_service_account_token is None:
        spec.automount_service_account_token = False
    if spec.enable_service_links is None:
        spec.enable_service_links = False
    for item in [*spec.containers, *(spec.init_containers or [])]:
        user = batch_pod.SIDECAR_USER if item.name == PodDefaults.SIDECAR_CONTAINER_NAME else None
        item.security_context = item.security_context or batch_pod.hardened_container_security_context(user)
    if not any(variable.name == "HOME" for variable in container.env or []):
        container.env = [*(container.env or []), V1EnvVar(name="HOME", value=batch_pod.TMP_PATH)]
    if not any(mount.mount_path == batch_pod.TMP_PATH for mount in container.volume_mounts or []):
        spec.volumes = [*(spec.volumes or []), V1Volume(name=batch_pod.TMP_VOLUME, empty_dir=V1EmptyDirVolumeSource())]
        container.volume_mounts = [
            *(container.volume_mounts or []),
            V1VolumeMount(name=batch_pod.TMP_VOLUME, mount_path=batch_pod.TMP_PATH),
        ]


def _termination_message(pod: V1Pod, container_name: str) -> str | None:
    for status in (pod.status and pod.status.container_statuses) or []:
        if status.name == container_name and status.state and status.state.terminated:
            message: str | None = status.state.terminated.message
            return message
    return None
