"""What the standard runtime image runs where a declaration names no command of its own. No I/O."""

from __future__ import annotations

from typing import Final

#: Policy, factory and operators mean the same program by it.
STANDARD_COMMAND: Final = ("mlops-runtime", "score")
#: The ClusterServingRuntime of ``deploy/kserve``, which serves where a declaration names no other.
STANDARD_SERVING_RUNTIME: Final = "mlops-mlflow"
