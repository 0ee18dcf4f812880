"""What can be known before anything is deployed: is the runtime there, and can it run this model?

Decides which files of the model and which annotation of the runtime are compared; the comparison is
:mod:`airflow_mlops_provider.manifests.runtime_packages`'s. Does I/O through the MLflow and KServe hooks.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from airflow_mlops_provider.exceptions import IncompatibleRuntimeError, ModelNotFoundError
from airflow_mlops_provider.hooks.mlflow_api import (
    ApiError,
    Conversation,
    Request,
    fetch,
    logged_model_file,
    run_file,
    version_file,
)
from airflow_mlops_provider.manifests.inference_service_request import EXAMPLE_FILE
from airflow_mlops_provider.manifests.runtime_packages import PACKAGES_ANNOTATION, compare_requirements

if TYPE_CHECKING:
    from airflow_mlops_provider.declaration import ResolvedModel
    from airflow_mlops_provider.hooks.kserve import KServeHook
    from airflow_mlops_provider.hooks.mlflow import MLflowHook


def check_runtime(kserve: KServeHook, mlflow: MLflowHook, model: ResolvedModel, *, name: str, namespace: str) -> str:
    """Compare what the model needs with what the runtime has, and return what was found out, in words.

    :raises IncompatibleRuntimeError: there is no such runtime, it is disabled, or it lacks what the model needs.
    """
    runtime = kserve.get_runtime(name, namespace)
    if runtime is None:
        raise IncompatibleRuntimeError(
            f"runtime {name!r} is neither a ServingRuntime of namespace {namespace!r} nor a ClusterServingRuntime; "
            "install it (deploy/kserve/), or name another one with runtime="
        )
    if runtime["spec"].get("disabled"):
        raise IncompatibleRuntimeError(f"runtime {name!r} is disabled; enable it, or name another one with runtime=")
    told = (runtime["metadata"].get("annotations") or {}).get(PACKAGES_ANNOTATION)
    if not told:
        return f"runtime {name} does not say what is installed in it ({PACKAGES_ANNOTATION}): not compared"
    requirements = read_model_file(mlflow, model, "requirements.txt")
    if requirements is None:
        return "the model has no requirements.txt: not compared with the runtime"
    problems = _compare(requirements, _python_version(read_model_file(mlflow, model, "python_env.yaml")), told)
    if problems:
        raise IncompatibleRuntimeError(
            f"runtime {name!r} cannot run model {model.uri}: {'; '.join(problems)}; see docs/kserve.md, "
            "«Models with other requirements»"
        )
    return f"runtime {name} has what the model's requirements.txt asks for"


def _compare(requirements: str, python_version: str | None, told: str) -> tuple[str, ...]:
    return compare_requirements(requirements, python_version, json.loads(told))


def _python_version(python_env: str | None) -> str | None:
    found = re.search(r"^python:\s*['\"]?([\d.]+)", python_env or "", re.MULTILINE)
    return found.group(1) if found else None


def read_input_example(mlflow: MLflowHook, model: ResolvedModel) -> Any:
    """Return the request that was saved with the model, ready to be posted.

    :raises ModelNotFoundError: the model was logged without one.
    """
    text = read_model_file(mlflow, model, EXAMPLE_FILE)
    if text is None:
        raise ModelNotFoundError(
            f"model {model.uri} has no input example for the smoke test; log it with input_example=…, or give "
            'smoke_test={"request": {…}}'
        )
    return json.loads(text)


def read_model_file(mlflow: MLflowHook, model: ResolvedModel, file: str) -> str | None:
    """Return a small text file of the model, None where it has none."""
    content = mlflow.get_conn().run(_fetch(_request_for(model, file)))
    return None if content is None else content.decode("utf-8", "replace")


def _request_for(model: ResolvedModel, file: str) -> Request:
    subject = f"{file} of model {model.uri}"
    if model.model_id:
        return logged_model_file(model.model_id, file, subject)
    if model.uri.startswith("runs:/"):
        run_id, _, path = model.uri.removeprefix("runs:/").partition("/")
        return run_file(run_id, f"{path}/{file}".lstrip("/"), subject)
    name, _, version = model.uri.removeprefix("models:/").rpartition("/")
    return version_file(name, version, file, subject)


def _fetch(request: Request) -> Conversation[bytes | None]:
    try:
        return (yield from fetch(request))
    except ApiError as error:
        if error.is_not_found:
            return None
        raise
