"""Which model answers: what a probe needs to prove that these pods serve that version.

The digest is computed from what was loaded; URI, run and version are what the deployment said (``MODEL_URI``,
``MODEL_RUN_ID``, ``MODEL_VERSION``), else what the model's own ``MLmodel`` says. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from mlops_runtime.errors import redact
from mlops_runtime.serving.settings import ServeSettings


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """The served model. ``name`` is its name on this server; empty strings where nobody knows."""

    name: str
    uri: str
    digest: str
    run_id: str = ""
    version: str = ""

    def parameters(self) -> dict[str, str]:
        """Return the part that answers of the server carry."""
        return {
            "model_uri": self.uri,
            "model_digest": self.digest,
            "model_run_id": self.run_id,
            "model_version": self.version,
        }

    def headers(self) -> dict[str, str]:
        """Return the same for HTTP headers, whose values are ASCII."""
        return {"X-Model-Uri": quote(self.uri, safe=":/@.-_~"), "X-Model-Digest": self.digest}


def identify(settings: ServeSettings, mlmodel: Mapping[str, Any], digest: str) -> ModelIdentity:
    """Put together what is known about the loaded model."""
    own_id = str(mlmodel.get("model_id") or "")
    return ModelIdentity(
        name=settings.model_name,
        uri=redact(settings.model_uri) or (f"models:/{own_id}" if own_id else ""),
        digest=digest,
        run_id=settings.run_id or str(mlmodel.get("run_id") or ""),
        version=settings.version,
    )
