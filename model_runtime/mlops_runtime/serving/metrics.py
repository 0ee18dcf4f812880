"""What Prometheus reads at ``/metrics``. The SDK's own ``request_predict_seconds`` and the like are there as well.

With several workers each keeps its numbers in a shared directory, which ``prometheus_client`` looks for when it is
imported: so this module is imported late, after the server has named it.
"""

from __future__ import annotations

import os

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, exposition, multiprocess

from mlops_runtime.serving.identity import ModelIdentity
from mlops_runtime.serving.notes import RequestNote

MULTIPROCESS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_BUCKETS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

REQUESTS = Counter("mlops_requests", "Predictions asked for", ("model", "protocol", "code"))
SECONDS = Histogram("mlops_request_seconds", "Time to answer one", ("model", "protocol"), buckets=_BUCKETS)
ROWS = Counter("mlops_prediction_rows", "Rows predicted", ("model", "protocol"))
ERRORS = Counter("mlops_request_errors", "Requests that got no prediction", ("model", "protocol", "code", "reason"))
MODEL = Gauge(
    "mlops_model_info",
    "The served model; always 1",
    ("model", "uri", "run_id", "digest", "version"),
    multiprocess_mode="livemax",
)


def describe(identity: ModelIdentity) -> None:
    """State which model is served."""
    MODEL.labels(identity.name, identity.uri, identity.run_id, identity.digest, identity.version).set(1)


def count(note: RequestNote, status: int, seconds: float) -> None:
    """Count one answered request."""
    REQUESTS.labels(note.model, note.protocol, str(status)).inc()
    SECONDS.labels(note.model, note.protocol).observe(seconds)
    if status < 400:  # where HTTP's errors begin
        ROWS.labels(note.model, note.protocol).inc(note.rows)
    else:
        ERRORS.labels(note.model, note.protocol, str(status), note.reason).inc()


def render(accept: str) -> tuple[bytes, str]:
    """Return all metrics and their content type."""
    registry = REGISTRY
    if os.environ.get(MULTIPROCESS_VARIABLE):
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    encoder, content_type = exposition.choose_encoder(accept)
    return encoder(registry), content_type
