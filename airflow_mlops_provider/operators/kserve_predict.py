"""Asking an online service for predictions, and knowing which model answered.

Decides whom to ask and what counts as the right model: what each asked pod's own annotation says. Does I/O through the
KServe hook while a task runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from airflow_mlops_provider.exceptions import PredictionFailedError
from airflow_mlops_provider.hooks.failing import permanent_errors_fail
from airflow_mlops_provider.manifests.inference_service_request import prediction_path
from airflow_mlops_provider.manifests.naming import MODEL_URI_ANNOTATION

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_mlops_provider.manifests.rollout import Observation


class KServePredictOperator(BaseOperator):
    """Send requests to an InferenceService and return its answers.

    :param request: body of one request, in JSON types. (templated)
    :param requests: or several, which the pods take in turn. (templated)
    :param path: default: the protocol's own (``/v2/models/<name>/infer``); ``/invocations`` takes MLflow's bodies.
    :param access: ``api-server``: ask the pods that are ready, of whichever version, through the API server's proxy;
        ``url``: the service's address.
    :param expect_model_uri: fail unless every pod that serves says it has this model. (templated)
    :param max_latency_seconds: fail if an answer takes longer.
    :param expect_shape: of the predictions; None in it stands for any length.
    :return: ``{"answers": […], "latency_seconds": 0.012, "sources": ["pod …"], "model_uris": ["models:/…"]}``
    :raises AirflowFailException: an answer is an error, too late or of another shape, or another model would answer.
    """

    template_fields: Sequence[str] = (
        "name",
        "namespace",
        "kubernetes_conn_id",
        "request",
        "requests",
        "path",
        "expect_model_uri",
    )
    ui_color = "#dcebf7"

    def __init__(
        self,
        *,
        name: str,
        namespace: str,
        kubernetes_conn_id: str = "kubernetes_default",
        request: Any = None,
        requests: Sequence[Any] | None = None,
        protocol: str = "v2",
        path: str | None = None,
        access: str = "api-server",
        expect_model_uri: str | None = None,
        max_latency_seconds: float | None = None,
        expect_shape: Sequence[int | None] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.name = name
        self.namespace = namespace
        self.kubernetes_conn_id = kubernetes_conn_id
        self.request = request
        self.requests = requests
        self.protocol = protocol
        self.path = path
        self.access = access
        self.expect_model_uri = expect_model_uri
        self.max_latency_seconds = max_latency_seconds
        self.expect_shape = expect_shape

    def execute(self, context: Context) -> dict[str, Any]:
        """Find the pods, check their model, ask."""
        from airflow_mlops_provider.hooks.kserve import KServeHook
        from airflow_mlops_provider.hooks.kserve_verify import check_answer, find_doors

        with permanent_errors_fail():
            hook = KServeHook(self.kubernetes_conn_id)
            seen = hook.observe(self._reference())
            if seen.service is None:
                raise PredictionFailedError(f"{self._reference()} does not exist; deploy it first")
            models = self._check_models(seen)
            doors = find_doors(hook, seen, self.access)
            path = self.path or prediction_path(self.protocol, self.name)
            answers = []
            for index, body in enumerate(self._bodies()):
                answer = doors[index % len(doors)].ask("POST", path, body)
                check_answer(answer, max_latency_seconds=self.max_latency_seconds, expect_shape=self.expect_shape)
                answers.append(answer)
        self.log.info("%d answers from %s", len(answers), ", ".join(sorted({item.source for item in answers})))
        return {
            "answers": [item.json() for item in answers],
            "latency_seconds": max(item.latency_seconds for item in answers),
            "sources": sorted({item.source for item in answers}),
            "model_uris": models,
        }

    def _reference(self) -> Any:
        from airflow_mlops_provider.hooks.kserve_api import ServiceReference

        return ServiceReference(name=self.name, namespace=self.namespace)

    def _bodies(self) -> Sequence[Any]:
        if (self.request is None) == (self.requests is None):
            raise ValueError("give one of request and requests")
        bodies = [self.request] if self.requests is None else self.requests
        if not bodies:
            raise ValueError("requests is empty")
        return bodies

    def _check_models(self, seen: Observation) -> list[str]:
        from airflow_mlops_provider.manifests.rollout_evidence import pod_is_ready

        found: Mapping[str, str] = {
            item["metadata"]["name"]: (item["metadata"].get("annotations") or {}).get(MODEL_URI_ANNOTATION, "")
            for item in seen.pods
            if pod_is_ready(item)
        }
        for pod, uri in found.items():
            if self.expect_model_uri is not None and uri != self.expect_model_uri:
                raise PredictionFailedError(
                    f"pod {pod} serves model {uri or 'unknown'}, not {self.expect_model_uri}; wait for the rollout"
                )
        return sorted(set(found.values()) - {""})
