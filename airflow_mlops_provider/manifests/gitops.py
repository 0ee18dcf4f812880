"""A service's manifest as a file that Argo CD applies.

Decides where the file lies, how it is written, and when two files say the same. Pure, no I/O.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Final

import yaml

from airflow_mlops_provider.manifests.inference_service_seal import pod_annotations, read_spec_hash
from airflow_mlops_provider.manifests.naming import DAG_RUN_ANNOTATION, MODEL_ANNOTATION

_FILE_NAME: Final = "inferenceservice.yaml"
_HEADER: Final = "# Written by the online DAG of airflow-mlops; the next deployment replaces it.\n"
#: What differs from run to run, though the service is the same.
_OF_THE_RUN: Final = (DAG_RUN_ANNOTATION, MODEL_ANNOTATION)


def manifest_path(directory: str, name: str) -> str:
    """Return the file's path in the repository: one directory per service, as Argo CD's generators like it."""
    return f"{directory}/{name}/{_FILE_NAME}"


def render_manifest(manifest: Mapping[str, Any]) -> str:
    """Return the file's text."""
    return _HEADER + yaml.safe_dump(dict(manifest), sort_keys=False, allow_unicode=True, width=1000)


def read_manifest(text: str | None) -> dict[str, Any] | None:
    """Return what a file says, None where it is no manifest: somebody may have edited it."""
    try:
        found = yaml.safe_load(text) if text else None
    except yaml.YAMLError:
        return None
    whole = isinstance(found, dict) and isinstance(found.get("spec"), dict) and "kind" in found
    return found if whole else None


def says_the_same(text: str | None, manifest: Mapping[str, Any]) -> bool:
    """Whether the file asks for the same service; which run asked for it first does not matter."""
    found = read_manifest(text)
    return found is not None and _without_run(found) == _without_run(manifest)


def spec_hash_in(text: str | None) -> str | None:
    """Return the hash in a file's seal."""
    found = read_manifest(text)
    return read_spec_hash(found) if found else None


def _without_run(manifest: Mapping[str, Any]) -> dict[str, Any]:
    bare = copy.deepcopy(dict(manifest))
    annotations = (bare["spec"].get("predictor") or bare["spec"]).get("annotations") or {}
    if pod_annotations(manifest):
        for name in _OF_THE_RUN:
            annotations.pop(name, None)
    return bare
