"""Which model is meant by the text that people, Airflow and KServe write: ``mlflow://`` addresses and plain model URIs.

``mlflow://`` + a model URI + optionally ``?digest=sha256:…`` is the one form that goes into ``storageUri`` of an
InferenceService; names in it are percent-encoded. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote

from mlops_runtime.errors import UsageError, redact
from mlops_runtime.settings import parse_digest

SCHEME = "mlflow://"
_MODEL_SCHEMES = ("models:/", "runs:/")
_EXAMPLE = "mlflow://models:/m-…?digest=sha256:…"


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A model URI as MLflow knows it, and the digest it was pinned with (empty: none)."""

    uri: str
    digest: str = ""


def parse_source(text: str, digest: str = "") -> ModelSource:
    """Take an ``mlflow://`` address apart; any other text is a model URI or a directory already.

    :param digest: one that was named beside it; the address may repeat it, not contradict it.
    :raises UsageError: the address is none of the forms above, or the digests differ.
    """
    text = text.strip()
    if not text.startswith(SCHEME):
        return ModelSource(text, parse_digest(digest))
    address, _, query = text.removeprefix(SCHEME).partition("?")
    if not address.startswith(_MODEL_SCHEMES):
        raise UsageError(f"{redact(text)}: models:/… or runs:/… must follow mlflow://; write {_EXAMPLE}")
    asked = _read_query(text, query)
    named = parse_digest(digest)
    if asked and named and asked != named:
        raise UsageError(f"{redact(text)}: names digest {asked}, but MODEL_DIGEST or --digest is {named}; remove one")
    return ModelSource(unquote(address), asked or named)


def _read_query(text: str, query: str) -> str:
    pairs = parse_qsl(query, keep_blank_values=True)
    if [name for name, _ in pairs] not in ([], ["digest"]):
        raise UsageError(f"{redact(text)}: only one digest=sha256:… may stand after the ?; write {_EXAMPLE}")
    return parse_digest(pairs[0][1]) if pairs else ""
