"""The served model: a ``kserve.Model`` whose ``predict`` checks the input against the signature and runs in a thread.

The event loop stays free, so probes are answered while a model computes. Does I/O while it loads.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import time
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import kserve
from kserve import InferOutput, InferRequest, InferResponse

from mlops_runtime.errors import InputError, ModelError, one_line
from mlops_runtime.model import Model, list_mismatches, load_model, read_mlmodel, verify_digest
from mlops_runtime.serving.answers import to_predictions, to_tensors
from mlops_runtime.serving.features import build_model_input
from mlops_runtime.serving.identity import ModelIdentity, identify
from mlops_runtime.serving.logs import log
from mlops_runtime.serving.notes import current_note
from mlops_runtime.serving.payload import Payload, parse_body, parse_tensors
from mlops_runtime.serving.settings import ServeSettings
from mlops_runtime.signature import Signature, parse_signature

_EXAMPLE_FILES = ("serving_input_example.json", "input_example.json")
#: How mlflow's own checks of the input and of its parameters begin.
_REFUSALS = (
    "Failed to enforce schema",
    "Failed to validate data against type hint",
    "Failed to validate the input data against the type hint",
    "Invalid parameters found",
)


class PredictionError(ModelError):
    """The model raised, or returned what no protocol can carry."""


class ServedModel(kserve.Model):  # type: ignore[misc]  # the SDK has no types
    """A loaded MLflow model under the name it has on this server."""

    def __init__(self, model: Model, signature: Signature, identity: ModelIdentity, threads: int = 1) -> None:
        super().__init__(identity.name)
        self.identity = identity
        self.signature = signature
        self._model = model
        self._takes_params = "params" in inspect.signature(model.predict).parameters
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="predict")
        self.ready = True

    async def predict(
        self, payload: Mapping[str, Any] | InferRequest, headers: Mapping[str, str] | None = None
    ) -> dict[str, Any] | InferResponse:
        """Answer one request of any protocol.

        :raises InputError: the request is not what the model's signature asks for.
        :raises PredictionError: the model failed.
        """
        if isinstance(payload, InferRequest):
            result, _ = await self._run(parse_tensors(payload))
            return self._to_response(payload, result)
        result, _ = await self._run(parse_body(payload))
        return {"predictions": to_predictions(result)}

    async def _run(self, payload: Payload) -> tuple[Any, int]:
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._predict, payload, current_note())

    def _predict(self, payload: Payload, note: Any) -> tuple[Any, int]:
        data, rows = build_model_input(payload, self.signature)
        note.rows = rows
        arguments = {"params": dict(payload.params)} if payload.params and self._takes_params else {}
        try:
            return self._model.predict(data, **arguments), rows
        except (Exception, SystemExit) as problem:
            if str(problem).startswith(_REFUSALS):
                raise InputError(f"request: {one_line(problem.__cause__ or problem)}") from problem
            log("the model failed", logging.ERROR, problem, request_id=note.request_id, model=self.name)
            raise PredictionError(f"the model failed: {type(problem).__name__}") from problem

    def _to_response(self, request: InferRequest, result: Any) -> dict[str, Any] | InferResponse:
        tensors = {tensor["name"]: tensor for tensor in to_tensors(result, self.signature)}
        asked = request.request_outputs or []
        for output in asked:
            if output.name not in tensors:
                raise InputError(f"request: output {output.name!r} is unknown; this model gives {', '.join(tensors)}")
        chosen = [tensors[output.name] for output in asked] or list(tensors.values())
        head = {"model_name": self.name, "model_version": self.identity.version or None}
        answer_id = request.id or uuid.uuid4().hex
        if not request.use_binary_outputs and not any(output.binary_data for output in asked):
            return {"id": answer_id, **head, "outputs": chosen}
        return InferResponse(
            response_id=answer_id,
            infer_outputs=[InferOutput(**tensor) for tensor in chosen],
            use_binary_outputs=request.use_binary_outputs,
            requested_outputs=request.request_outputs,
            **head,
        )

    def warm(self, example: Mapping[str, Any]) -> int:
        """Predict the model's own input example and return its number of rows.

        :raises ModelError: the model fails on it. :raises InputError: it is none that a client could send.
        """
        result, rows = self._predict(parse_body(example), current_note())
        to_predictions(result)
        return rows


def open_model(settings: ServeSettings, directory: Path) -> ServedModel:
    """Load the model that lies in ``directory`` and warm it up.

    :raises ModelError: it is another one than was pinned, does not load, or fails on its own input example.
    """
    started = time.monotonic()
    digest = verify_digest(directory, settings.digest, settings.model_uri or str(directory))
    mlmodel = read_mlmodel(directory)
    identity = identify(settings, mlmodel, digest)
    if differences := list_mismatches(directory):
        log("packages differ from those the model was trained with", logging.WARNING, packages=differences)
    model = ServedModel(
        load_model(directory, identity.uri or str(directory)), parse_signature(mlmodel), identity, settings.threads
    )
    loaded = time.monotonic()
    rows = _warm(model, directory)
    fields: dict[str, Any] = dict(identity.parameters())
    log("ready", model=model.name, **fields, load_seconds=round(loaded - started, 3),
        warm_seconds=round(time.monotonic() - loaded, 3), warm_rows=rows)  # fmt: skip
    return model


def _warm(model: ServedModel, directory: Path) -> int:
    example = _read_example(directory)
    if example is None:
        log("the model has no input example: it is ready without a first prediction", logging.WARNING, model=model.name)
        return 0
    try:
        return model.warm(example)
    except InputError as problem:
        log("the model's input example is no request; ready without a first prediction", logging.WARNING,
            model=model.name, error=str(problem))  # fmt: skip
        return 0
    except PredictionError as problem:
        raise ModelError(
            f"model {model.identity.uri or directory} fails on its own input example: "
            f"{one_line(problem.__cause__ or problem)}; log it again with an example that it can predict"
        ) from problem


def _read_example(directory: Path) -> Mapping[str, Any] | None:
    """Return the model's input example as a client would send it, if it has one."""
    for name in _EXAMPLE_FILES:
        try:
            found = json.loads((directory / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(found, dict):
            return {"dataframe_split": found} if {"columns", "data"} <= found.keys() else found
    return None
