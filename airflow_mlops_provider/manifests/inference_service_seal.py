"""What marks a service in the cluster as ours, and as this very version of it.

Decides the hash of a desired spec, where it stands (so that KServe hands it on to Deployment and pods), whose an object
is, and what we applied to it before. Lineage annotations are outside of the hash and change only with it: KServe
rolls the pods for every changed annotation. Pure, no I/O.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from airflow_mlops_provider.exceptions import ConflictError
from airflow_mlops_provider.manifests.inference_service import LLM_KIND
from airflow_mlops_provider.manifests.naming import MANAGED_BY, PREFIX

SPEC_HASH_ANNOTATION: Final = f"{PREFIX}/spec-hash"
MANAGED_BY_LABEL: Final = "app.kubernetes.io/managed-by"
ENVIRONMENT_LABEL: Final = f"{PREFIX}/environment"
#: Our name among the managers of an object's fields (server-side apply).
FIELD_MANAGER: Final = "airflow-mlops"
_HASH_LENGTH: Final = 16


def compute_spec_hash(manifest: Mapping[str, Any]) -> str:
    """Return the hash of all that is asked for: spec, labels and annotations, without what :func:`seal` adds."""
    metadata = manifest["metadata"]
    asked = {
        "kind": manifest["kind"],
        "labels": metadata.get("labels"),
        "annotations": metadata.get("annotations"),
        "spec": manifest["spec"],
    }
    text = json.dumps(asked, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:_HASH_LENGTH]


def seal(manifest: Mapping[str, Any], lineage: Mapping[str, str]) -> tuple[dict[str, Any], str]:
    """Return a copy of *manifest* that says which version it is and where it comes from, and the version's hash.

    :param lineage: annotations that say where it comes from; they do not take part in the hash.
    """
    spec_hash = compute_spec_hash(manifest)
    sealed = copy.deepcopy(dict(manifest))
    holder = _annotated_part(sealed)
    holder["annotations"] = {**(holder.get("annotations") or {}), **lineage, SPEC_HASH_ANNOTATION: spec_hash}
    return sealed, spec_hash


def pod_annotations(manifest: Mapping[str, Any]) -> dict[str, str]:
    """Return the annotations that a service hands on to its pods: the seal, if it has one, and the lineage."""
    return dict(_annotated_part(manifest).get("annotations") or {})


def read_spec_hash(manifest: Mapping[str, Any]) -> str | None:
    """Return the hash in a service's seal, None where it has none."""
    return pod_annotations(manifest).get(SPEC_HASH_ANNOTATION)


def _annotated_part(manifest: Mapping[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = manifest["spec"]
    if manifest["kind"] == LLM_KIND:
        return spec
    predictor: dict[str, Any] = spec.setdefault("predictor", {})
    return predictor


def check_ownership(live: Mapping[str, Any], environment: str | None = None) -> None:
    """Refuse an object that is not ours.

    :param environment: label value of the environment that it has to belong to; None: any of ours.
    :raises ConflictError: names the object and those who manage it.
    """
    metadata = live["metadata"]
    labels = metadata.get("labels") or {}
    owner = labels.get(MANAGED_BY_LABEL)
    if owner != MANAGED_BY:
        managers = ", ".join(sorted({str(item.get("manager")) for item in metadata.get("managedFields") or ()}))
        raise ConflictError(
            f"{describe(live)} is not ours: its label {MANAGED_BY_LABEL} is {owner!r}, not {MANAGED_BY!r} (managed by "
            f"{managers or 'unknown'}); choose another name, or have its owner delete it"
        )
    theirs = labels.get(ENVIRONMENT_LABEL)
    if environment is not None and theirs not in (None, environment):
        raise ConflictError(
            f"{describe(live)} belongs to environment {theirs!r}, not {environment!r}; choose another name or namespace"
        )


def describe(manifest: Mapping[str, Any]) -> str:
    """Return how messages call an object: ``InferenceService ml-prod/churn``."""
    metadata = manifest["metadata"]
    return f"{manifest.get('kind', 'object')} {metadata.get('namespace', 'default')}/{metadata['name']}"


def asked_before(live: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what we applied to *live* last, read from its managed fields; None where we never did.

    Applying it again asks for the same object. What the API server, KServe or anybody else filled in is not in it.
    https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management (v1.34)
    """
    for entry in live["metadata"].get("managedFields") or ():
        ours = entry.get("manager") == FIELD_MANAGER and entry.get("operation") == "Apply"
        if ours and not entry.get("subresource"):
            asked = _pick(live, entry.get("fieldsV1") or {})
            metadata = asked.setdefault("metadata", {})
            metadata |= {key: live["metadata"][key] for key in ("name", "namespace")}
            return {"apiVersion": entry["apiVersion"], "kind": live["kind"], **asked}
    return None


def _pick(value: Any, fields: Mapping[str, Any]) -> Any:
    """Return the part of *value* that a ``fieldsV1`` set names; an empty set names all of it."""
    names = {key: below for key, below in fields.items() if key != "."}
    if not names:
        return copy.deepcopy(value)
    if isinstance(value, list):
        return list(_pick_items(value, names))
    return {
        key[2:]: _pick(value[key[2:]], below)
        for key, below in names.items()
        if key.startswith("f:") and key[2:] in value
    }


def _pick_items(items: list[Any], names: Mapping[str, Any]) -> Iterator[Any]:
    for key, below in names.items():
        wanted = json.loads(key[2:])
        for item in items:
            if key.startswith("v:") and item == wanted:
                yield item
            elif key.startswith("k:") and all(item.get(name) == part for name, part in wanted.items()):
                yield _pick(item, below)
