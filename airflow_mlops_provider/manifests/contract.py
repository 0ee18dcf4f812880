"""What a program that applies a model receives in its environment: the same in a pod and in a local process.

Decides the names and the values; how they reach the program (container env, process env) is the caller's business.
Pure, no I/O. The list is public, see ``docs/batch.md``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

#: Set here and by nobody else.
CONTRACT_NAMES: Final = frozenset(
    {
        "MODEL_URI",
        "MODEL_NAME",
        "MODEL_VERSION",
        "MODEL_RUN_ID",
        "MODEL_DIGEST",
        "MLFLOW_TRACKING_URI",
        "MLOPS_ENVIRONMENT",
        "DATA_INTERVAL_START",
        "DATA_INTERVAL_END",
        "MLOPS_PARTITION",
        "MLOPS_PARTITIONS",
        "INPUT_URI",
        "OUTPUT_URI",
    }
)
#: Starts the variables that hold the run's own parameters; nothing else may be called so.
PARAMETER_PREFIX: Final = "PARAM_"
#: The MLflow client would reopen the training run.
FORBIDDEN_NAMES: Final = frozenset({"MLFLOW_RUN_ID"})
#: Handed over as ``secretKeyRef`` in a pod and from the connection in a local process.
CREDENTIAL_NAMES: Final = ("MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")


def build_contract(
    model: Mapping[str, Any],
    *,
    tracking_uri: str,
    environment: str,
    data_interval: tuple[str, str],
    partition: int = 0,
    partitions: int = 1,
    input_uri: str | None = None,
    output_uri: str | None = None,
    parameters: Mapping[str, Any] | None = None,
) -> dict[str, str]:
    """Return the contract's variables.

    :param model: a ``ResolvedModel`` as a dictionary.
    :param data_interval: start and end, ISO 8601 with offset.
    :param partition: 0-based, below *partitions*.
    :param parameters: what was set for this run, by name: ``{"threshold": 0.5}`` arrives as ``PARAM_THRESHOLD=0.5``.
    """
    variables = {
        "MODEL_URI": model["uri"],
        "MODEL_NAME": model["name"],
        "MODEL_VERSION": model["version"] or "",
        "MODEL_RUN_ID": model["run_id"] or "",
        "MODEL_DIGEST": model["digest"],
        "MLFLOW_TRACKING_URI": tracking_uri,
        "MLOPS_ENVIRONMENT": environment,
        "DATA_INTERVAL_START": data_interval[0],
        "DATA_INTERVAL_END": data_interval[1],
        "MLOPS_PARTITION": str(partition),
        "MLOPS_PARTITIONS": str(partitions),
    }
    optional = {"INPUT_URI": input_uri, "OUTPUT_URI": output_uri}
    return {
        **variables,
        **{key: value for key, value in optional.items() if value},
        **{f"{PARAMETER_PREFIX}{name.upper()}": _as_text(value) for name, value in (parameters or {}).items()},
    }


def _as_text(value: Any) -> str:
    """Return text as it is, everything else as JSON says it: ``true``, ``0.5``."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def check_extra_names(names: list[str]) -> None:
    """Refuse variables that would shadow the contract or reopen the training run.

    :raises ValueError: names the variables and says what to use instead.
    """
    if taken := sorted(name for name in names if name in CONTRACT_NAMES or name.startswith(PARAMETER_PREFIX)):
        raise ValueError(f"{', '.join(taken)}: set by the operator; remove from env_vars")
    if forbidden := sorted(FORBIDDEN_NAMES.intersection(names)):
        raise ValueError(
            f"{', '.join(forbidden)}: the MLflow client would reopen the training run; read MODEL_RUN_ID instead"
        )
