"""The online step: green means that this very model, in these very pods, answered a prediction.

Decides what a person can set. The order of things is :mod:`.kserve_flow`'s. No I/O of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airflow.sdk import conf

from airflow_mlops_provider.declaration.standard_runtime import STANDARD_SERVING_RUNTIME
from airflow_mlops_provider.links.kserve import KServeEndpointLink
from airflow_mlops_provider.links.mlflow import MLflowModelLink, MLflowRunLink
from airflow_mlops_provider.operators.kserve_flow import DeployFlow
from airflow_mlops_provider.operators.model_task import ModelArgument


class KServeDeployOperator(DeployFlow):
    """Serve an MLflow model with KServe, and believe it only when it has answered.

    :param model: as for every step that applies a model; so are ``mlflow_conn_id``, ``environment``, ``tracking_uri``
        and ``use_run_params``, see :class:`~airflow_mlops_provider.operators.model_task.ModelTaskMixin`.
    :param name: of the InferenceService. (templated)
    :param namespace: (templated)
    :param kubernetes_conn_id: connection of type ``kubernetes``.
    :param min_replicas: pods that always run; without a larger ``max_replicas`` exactly so many.
    :param resources: of one pod, request and limit alike: ``{"cpu": "1", "memory": "2Gi", "gpu": 0}``.
    :param image: replaces the runtime's image.
    :param image_pull_secrets: names of Secrets.
    :param runtime: name of a ServingRuntime or ClusterServingRuntime; its annotation ``airflow-mlops/packages`` is
        compared with the model's requirements before anything is deployed.
    :param protocol: ``v1`` or ``v2`` (open inference protocol).
    :param storage: ``initializer``: KServe's storage container fetches the pinned model and verifies its digest.
        Or the URI of a copy that KServe fetches without MLflow, ``pvc://models/churn/``, ``s3://…/``.
    :param scale_metric: ``cpu``, ``memory``, ``concurrency`` or ``rps``; with ``scale_target``.
    :param logger: KServe's request log, ``{"url": "http://…", "mode": "all"}``.
    :param overrides: a fragment for the rest of the InferenceService's ``spec``, ``{"predictor": {"timeout": 60}}``.
        What an argument sets cannot be set again. (templated)
    :param manifest: a whole InferenceService or LLMInferenceService instead of the fields above. (templated)
    :param smoke_test: ``{"from": "input_example"}`` or ``{"request": {…}, "path": "/v2/…"}``, both with
        ``max_latency_seconds`` and ``expect_shape``; None: HTTP readiness only. (templated)
    :param on_failure: ``keep``; ``rollback``: apply the former spec again, wait for it, fail; ``delete_if_created``.
    :param access: ``api-server``: ask each pod of the new version through the API server's proxy. ``url``: ask the
        service's address.
    :param timeout_seconds: for the rollout; a rollback gets as much again.
    :param dry_run: resolve, check, and let the API server judge; change nothing. The result says what would change.
    :return: ``{"name", "namespace", "uid", "url", "revision", "spec_hash", "created", "changed", "model",
        "latency_seconds"}``; latency of the slowest smoke test, None without one.
    :raises AirflowFailException: trying again changes nothing; the first line is the cause.
    :raises DeploymentTimeoutError: not ready in time, and nothing says why; a retry goes on waiting.
    """

    template_fields: Sequence[str] = (
        "model",
        "mlflow_conn_id",
        "environment",
        "tracking_uri",
        "name",
        "namespace",
        "kubernetes_conn_id",
        "image",
        "env_vars",
        "labels",
        "annotations",
        "overrides",
        "manifest",
        "smoke_test",
    )
    operator_extra_links = (MLflowRunLink(), MLflowModelLink(), KServeEndpointLink())
    ui_color = "#dcebf7"

    def __init__(
        self,
        *,
        model: ModelArgument,
        name: str,
        namespace: str,
        mlflow_conn_id: str = "mlflow_default",
        environment: str = "default",
        tracking_uri: str | None = None,
        kubernetes_conn_id: str = "kubernetes_default",
        min_replicas: int = 1,
        max_replicas: int | None = None,
        resources: Mapping[str, Any] | None = None,
        node_selector: Mapping[str, str] | None = None,
        tolerations: Sequence[Mapping[str, Any]] | None = None,
        service_account_name: str | None = None,
        image: str | None = None,
        image_pull_policy: str | None = None,
        image_pull_secrets: Sequence[str] | None = None,
        runtime: str = STANDARD_SERVING_RUNTIME,
        protocol: str = "v2",
        storage: str = "initializer",
        env_vars: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        annotations: Mapping[str, str] | None = None,
        scale_metric: str | None = None,
        scale_target: int | None = None,
        logger: Mapping[str, Any] | None = None,
        overrides: Mapping[str, Any] | None = None,
        manifest: Mapping[str, Any] | None = None,
        smoke_test: Mapping[str, Any] | None = None,
        on_failure: str = "keep",
        access: str = "api-server",
        timeout_seconds: float = 600,
        poll_interval_seconds: float = 2,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        dry_run: bool = False,
        use_run_params: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.model = model
        self.name = name
        self.namespace = namespace
        self.mlflow_conn_id = mlflow_conn_id
        self.environment = environment
        self.tracking_uri = tracking_uri
        self.kubernetes_conn_id = kubernetes_conn_id
        self.min_replicas = min_replicas
        self.max_replicas = max_replicas
        self.pod_resources = resources
        self.node_selector = node_selector
        self.tolerations = tolerations
        self.service_account_name = service_account_name
        self.image = image
        self.image_pull_policy = image_pull_policy
        self.image_pull_secrets = image_pull_secrets
        self.runtime = runtime
        self.protocol = protocol
        self.storage = storage
        self.env_vars = env_vars
        self.labels = labels
        self.annotations = annotations
        self.scale_metric = scale_metric
        self.scale_target = scale_target
        self.request_logger = logger
        self.overrides = overrides
        self.manifest = manifest
        self.smoke_test = smoke_test
        self.on_failure = on_failure
        self.access = access
        self.timeout_seconds = timeout_seconds
        self.poll_interval_seconds = poll_interval_seconds
        self.deferrable = deferrable
        self.dry_run_only = dry_run
        self.use_run_params = use_run_params
        self.done = None
