"""Names, labels and annotations of everything this project creates in a cluster.

Decides how an object says what it is and whose it is; who may create it is the policy's business. Pure, no I/O.
Syntax of labels: https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/ (v1.34).
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Mapping
from typing import Final

MANAGED_BY: Final = "airflow-mlops-provider"
#: Prefix of our own label and annotation keys.
PREFIX: Final = "airflow-mlops"

#: The whole resolved model as JSON: what a pod runs is what its own annotation says, whatever was resolved since.
MODEL_ANNOTATION: Final = f"{PREFIX}/resolved-model"
MODEL_URI_ANNOTATION: Final = f"{PREFIX}/model-uri"
DAG_RUN_ANNOTATION: Final = f"{PREFIX}/dag-run"
DECLARATION_ANNOTATION: Final = f"{PREFIX}/declaration"
#: Rises when somebody clears the task, and not on a retry: a pod from before a clearing is not picked up again.
CLEARED_ANNOTATION: Final = f"{PREFIX}/max-tries"
#: Differs in every create request: tells our own pod, whose create reply was lost, from a namesake.
CREATE_ID_ANNOTATION: Final = f"{PREFIX}/create-id"

_LABEL_VALUE_LENGTH = 63
_ENV_SLUG_LENGTH = 30
_HASH_LENGTH = 8


def slugify(text: str, *, max_length: int = _ENV_SLUG_LENGTH) -> str:
    """Return lower-case ``[a-z0-9-]`` that starts with a letter; never empty. Different texts may give equal slugs."""
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    slug = re.sub(r"[^a-z0-9]+", "-", ascii_text.lower()).strip("-")
    if not slug or not slug[0].isalpha():
        slug = f"b-{slug}".strip("-")
    return slug[:max_length].strip("-")


def build_env_key(project_id: str, full_ref: str) -> str:
    """Return the key of a branch's own environment: a readable slug, and a hash so that no two branches share one.

    ``build_env_key("42", "refs/heads/feature/foo")`` → ``feature-foo-…``; the hash is taken from project and full ref.
    """
    branch = full_ref.removeprefix("refs/heads/")
    digest = hashlib.sha256(f"{project_id}\0{full_ref}".encode()).hexdigest()[:_HASH_LENGTH]
    return f"{slugify(branch)}-{digest}"


def label_value(text: str) -> str:
    """Return *text* as a legal label value; what does not fit is shortened and told apart by a hash."""
    clean = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-_.")
    if clean == text and len(text) <= _LABEL_VALUE_LENGTH:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:_HASH_LENGTH]
    return f"{clean[: _LABEL_VALUE_LENGTH - _HASH_LENGTH - 1].strip('-_.')}-{digest}".lstrip("-")


def ownership_labels(
    model: str,
    environment: str,
    *,
    version: str | None = None,
    component: str = "batch",
    job: str | None = None,
    project: str | None = None,
    env_key: str | None = None,
    ephemeral: bool = False,
) -> dict[str, str]:
    """Return the labels that every object of a model in an environment carries.

    They never hold anything that is only known at run time: the pod operator finds its pod again by its labels.
    """
    labels = {
        "app.kubernetes.io/name": label_value(model),
        "app.kubernetes.io/instance": label_value(f"{environment}-{model}"),
        "app.kubernetes.io/component": component,
        "app.kubernetes.io/part-of": "mlops",
        "app.kubernetes.io/managed-by": MANAGED_BY,
        f"{PREFIX}/environment": label_value(environment),
        f"{PREFIX}/env-key": label_value(env_key or environment),
        f"{PREFIX}/ephemeral": str(ephemeral).lower(),
    }
    optional: Mapping[str, str | None] = {
        "app.kubernetes.io/version": version,
        f"{PREFIX}/project": project,
        f"{PREFIX}/job": job,
    }
    return labels | {key: label_value(value) for key, value in optional.items() if value}
