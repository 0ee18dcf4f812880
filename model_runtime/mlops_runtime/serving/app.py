"""The HTTP application: which path answers what. The SDK's data plane decodes, calls the model and encodes.

KServe's own ``ModelServer`` is not used: on SIGTERM it forgets its models at once, so requests that still arrive get
404; it lets any client unload the model; it hands exception texts to clients; and its workers get the model pickled.
"""

from __future__ import annotations

from typing import Any, cast

import orjson
from kserve.constants.constants import PredictorProtocol
from kserve.errors import InferenceError, InvalidInput, ModelNotFound
from kserve.model_repository import ModelRepository
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.rest.v2_datamodels import InferenceRequest
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mlops_runtime.errors import InputError, ModelError
from mlops_runtime.serving import metrics
from mlops_runtime.serving.lifecycle import Lifecycle
from mlops_runtime.serving.middleware import RequestMiddleware
from mlops_runtime.serving.model import ServedModel
from mlops_runtime.serving.notes import current_note
from mlops_runtime.serving.replies import json_reply, problem_body
from mlops_runtime.serving.tensors import describe_inputs, describe_outputs

_JSON_TYPES = ("application/json", "application/cloudevents+json", "application/ld+json", "")
_BINARY_HEADER = "inference-header-content-length"


def build_app(model: ServedModel, lifecycle: Lifecycle) -> Starlette:
    """Put routes, errors and middleware around a loaded model."""
    registry = ModelRepository()
    registry.update(model)
    routes = Endpoints(model, DataPlane(registry), lifecycle).routes()
    metrics.describe(model.identity)
    return Starlette(
        routes=routes,
        lifespan=lifecycle.span,
        middleware=[
            Middleware(RequestMiddleware, lifecycle=lifecycle, model=model.name, headers=model.identity.headers())
        ],
        exception_handlers={
            InputError: _answer_problem(400),
            InvalidInput: _answer_problem(400),
            ModelError: _answer_problem(500),
            ModelNotFound: _answer_problem(404),
            HTTPException: _answer_http_exception,
        },
    )


class Endpoints:
    """The three protocols of one model."""

    def __init__(self, model: ServedModel, dataplane: DataPlane, lifecycle: Lifecycle) -> None:
        self._model = model
        self._dataplane = dataplane
        self._lifecycle = lifecycle

    def routes(self) -> list[Route]:
        """Return all paths."""
        return [
            Route("/", self.live),
            Route("/v1/models", self.list_models),
            Route("/v1/models/{name}", self.describe_v1),
            Route("/v1/models/{name}:predict", self.predict_v1, methods=["POST"]),
            Route("/v2", self.describe_server),
            Route("/v2/health/live", self.live),
            Route("/v2/health/ready", self.ready),
            Route("/v2/models", self.list_models),
            Route("/v2/models/{name}", self.describe_v2),
            Route("/v2/models/{name}/ready", self.model_ready),
            Route("/v2/models/{name}/infer", self.infer_v2, methods=["POST"]),
            Route("/invocations", self.invoke, methods=["POST"]),
            Route("/ping", self.ping),
            Route("/health", self.ping),
            Route("/version", self.mlflow_version),
            Route("/metrics", self.metrics),
        ]

    async def predict_v1(self, request: Request) -> Response:
        """KServe's v1."""
        name = self._named(request)
        headers = dict(request.headers)
        try:
            body, attributes = self._dataplane.decode(await request.body(), headers)
        except InvalidInput as problem:
            raise InputError(f"request: is no JSON and no CloudEvent: {problem}") from problem
        if isinstance(body, bytes):  # a content type that the SDK leaves alone, such as one with a charset
            _refuse_other_types(request)
            body = _parse_json(body)
        answer, _ = await self._dataplane.infer(name, body, headers)
        content, extra = self._dataplane.encode(name, answer, headers, attributes)
        if isinstance(content, bytes):
            return Response(content, headers=extra)
        return json_reply(content, headers=extra)

    async def infer_v2(self, request: Request) -> Response:
        """Open inference, as JSON or with its binary extension."""
        name = self._named(request)
        headers = dict(request.headers)
        body: Any = await request.body()
        if _BINARY_HEADER not in headers:
            body = _read_inference_request(_parse_json(body))
        try:
            decoded, _ = self._dataplane.decode(body, headers, PredictorProtocol.REST_V2.value, name)
        except (InferenceError, ValueError, KeyError, TypeError, AttributeError) as problem:
            raise InputError(f"request: cannot be decoded: {problem}") from problem
        answer, _ = await self._dataplane.infer(name, decoded, headers)
        content, extra = self._dataplane.encode(name, answer, {}, {})
        if isinstance(content, bytes):
            return Response(content, headers=extra, media_type="application/octet-stream")
        return json_reply(content, headers=extra)

    async def invoke(self, request: Request) -> Response:
        """MLflow's scoring protocol."""
        _refuse_other_types(request)
        answer, _ = await self._dataplane.infer(self._model.name, _parse_json(await request.body()))
        return json_reply(answer)

    async def describe_v1(self, request: Request) -> Response:
        """Say whether the model is ready, and which one it is."""
        ready = not self._lifecycle.is_draining
        content = {"name": self._named(request), "ready": ready, "parameters": self._model.identity.parameters()}
        return json_reply(content, 200 if ready else 503)

    async def describe_v2(self, request: Request) -> Response:
        """Open inference's model metadata; ``parameters`` says which model it is."""
        identity, signature = self._model.identity, self._model.signature
        content: dict[str, Any] = {
            "name": self._named(request),
            "platform": "mlflow",
            "inputs": describe_inputs(signature),
            "outputs": describe_outputs(signature),
            "parameters": identity.parameters(),
        }
        if identity.version:
            content["versions"] = [identity.version]
        return json_reply(content)

    async def model_ready(self, request: Request) -> Response:
        """Open inference's readiness of one model."""
        ready = not self._lifecycle.is_draining
        return json_reply({"name": self._named(request), "ready": ready}, 200 if ready else 503)

    async def ready(self, request: Request) -> Response:
        """Open inference's readiness of the server: false from SIGTERM on."""
        ready = not self._lifecycle.is_draining
        return json_reply({"ready": ready}, 200 if ready else 503)

    async def live(self, request: Request) -> Response:
        """Open inference's liveness, and KServe v1's at ``/``."""
        return json_reply({"live": True, "status": "alive"})

    async def list_models(self, request: Request) -> Response:
        """Name the one model."""
        return json_reply({"models": [self._model.name]})

    async def describe_server(self, request: Request) -> Response:
        """Open inference's server metadata."""
        from mlops_runtime import __version__

        return json_reply({"name": "mlops-runtime", "version": __version__, "extensions": ["binary_tensor_data"]})

    async def ping(self, request: Request) -> Response:
        """MLflow's health, which is readiness: its answer is an empty line."""
        return Response("\n", 503 if self._lifecycle.is_draining else 200, media_type="application/json")

    async def mlflow_version(self, request: Request) -> Response:
        """MLflow's version, as its server says it."""
        from mlflow.version import VERSION

        return Response(VERSION, media_type="application/json")

    async def metrics(self, request: Request) -> Response:
        """Prometheus' page."""
        content, content_type = metrics.render(request.headers.get("accept", ""))
        return Response(content, headers={"content-type": content_type})

    def _named(self, request: Request) -> str:
        name = str(request.path_params["name"])
        if name != self._model.name:
            raise HTTPException(404, f"model {name!r} is not here; this server has {self._model.name!r}")
        return name


def _refuse_other_types(request: Request) -> None:
    found = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if found not in _JSON_TYPES:
        raise HTTPException(415, f"content type {found!r} is not read here; send application/json")


def _parse_json(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as problem:
        raise InputError(f"request: is no JSON: {problem}") from problem


def _read_inference_request(body: Any) -> InferenceRequest:
    try:
        return InferenceRequest.model_validate(body)
    except ValidationError as problem:
        places = [f"{'.'.join(map(str, error['loc'])) or 'body'}: {error['msg']}" for error in problem.errors()[:5]]
        raise InputError(f"request: is no open inference request: {'; '.join(places)}") from problem


def _answer_problem(status: int) -> Any:
    async def answer(request: Request, problem: Exception) -> Response:
        note = current_note()
        note.reason = type(problem).__name__
        return json_reply(problem_body(note, status, str(problem)), status)

    return answer


async def _answer_http_exception(request: Request, problem: Exception) -> Response:
    found = cast(HTTPException, problem)  # this is registered for no other
    note = current_note()
    note.reason = "HTTPException"
    body = problem_body(note, found.status_code, found.detail)
    return json_reply(body, found.status_code, dict(found.headers or {}))
