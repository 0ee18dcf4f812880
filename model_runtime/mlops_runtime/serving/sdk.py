"""Import the ``kserve`` SDK without what it does on import: it parses this process's command line as its own."""

from __future__ import annotations

import sys

_arguments, sys.argv = sys.argv, sys.argv[:1]
try:
    import kserve  # noqa: F401
except ImportError as problem:
    from mlops_runtime.errors import UsageError

    raise UsageError(
        f"the kserve SDK cannot be imported ({problem}); install mlops-model-runtime with its extra: serve"
    ) from problem
finally:
    sys.argv = _arguments
