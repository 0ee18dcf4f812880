"""Asking a deployed service for a prediction, once after a deployment and then at regular times.

Decides which model has to answer and what it is asked. Does I/O through the KServe and MLflow hooks while a task runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset, BaseOperator
from airflow.sdk.exceptions import AirflowSkipException

from airflow_mlops_provider.declaration import ResolvedModel
from airflow_mlops_provider.exceptions import TransientError

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_mlops_provider.manifests.inference_service_request import SmokeTest


class ProbeEndpointOperator(BaseOperator):
    """Ask every pod that serves for a prediction; fail unless each answers, with the right model.

    No error stops the retries: whatever it is, it may pass.

    :param name: of the InferenceService.
    :param model: the ``ResolvedModel`` that has to answer, as a dictionary. None: that of the last deployment, which
        the newest event of the asset among the *inlets* records; the task is skipped while there is none. (templated)
    :param smoke_test: as for :class:`~airflow_mlops_provider.operators.kserve.KServeDeployOperator`. Where the model's
        input example is the request and MLflow does not answer, *model* None asks for readiness only: MLflow's outage
        is not the service's.
    :return: ``{"name", "namespace", "uid", "url", "spec_hash", "model_uris", "sources", "latency_seconds"}``
    :raises PredictionFailedError: the first line is the cause.
    """

    template_fields: Sequence[str] = ("name", "namespace", "kubernetes_conn_id", "mlflow_conn_id", "model")
    ui_color = "#dcebf7"

    def __init__(
        self,
        *,
        name: str,
        namespace: str,
        kubernetes_conn_id: str = "kubernetes_default",
        mlflow_conn_id: str = "mlflow_default",
        model: Mapping[str, Any] | None = None,
        smoke_test: Mapping[str, Any] | None = None,
        protocol: str = "v2",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.name = name
        self.namespace = namespace
        self.kubernetes_conn_id = kubernetes_conn_id
        self.mlflow_conn_id = mlflow_conn_id
        self.model = model
        self.smoke_test = smoke_test
        self.protocol = protocol

    def execute(self, context: Context) -> dict[str, Any]:
        """Find out what is expected, then ask."""
        from airflow_mlops_provider.hooks.kserve import KServeHook
        from airflow_mlops_provider.hooks.kserve_api import ServiceReference
        from airflow_mlops_provider.hooks.kserve_availability import check_availability
        from airflow_mlops_provider.manifests.inference_service_request import parse_smoke_test

        expected, spec_hash = self._expected(context)
        return check_availability(
            KServeHook(self.kubernetes_conn_id),
            ServiceReference(name=self.name, namespace=self.namespace),
            protocol=self.protocol,
            test=self._with_request(parse_smoke_test(self.smoke_test, self.protocol, self.name), expected),
            expect_model_uri=expected.uri,
            expect_spec_hash=spec_hash,
            say=self.log.info,
        )

    def _expected(self, context: Context) -> tuple[ResolvedModel, str | None]:
        if self.model is not None:
            return ResolvedModel(**self.model), None
        (asset,) = (item for item in self.inlets if isinstance(item, Asset))
        events = context["inlet_events"][asset].ascending(False).limit(1)
        if not len(events):
            raise AirflowSkipException(f"nothing has been deployed yet: the asset {asset.name} has no event")
        record: Any = events[0].extra
        return ResolvedModel(**record["model"]), record["service"]["spec_hash"]

    def _with_request(self, test: SmokeTest | None, model: ResolvedModel) -> SmokeTest | None:
        if test is None or test.request is not None:
            return test
        from airflow_mlops_provider.hooks.kserve_preflight import read_input_example
        from airflow_mlops_provider.hooks.mlflow import MLflowHook

        hook = MLflowHook(self.mlflow_conn_id)
        try:
            return replace(test, request=read_input_example(hook, model))
        except TransientError as error:
            if self.model is not None:
                raise
            self.log.warning("No request to send, so only readiness is asked for: %s", error)
            return None
        finally:
            hook.close()
