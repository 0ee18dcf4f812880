"""The whole error tree, and the one question it answers: is it worth trying again?

::

    MLOpsProviderError
    ├── PermanentError              trying again changes nothing; an operator turns it into AirflowFailException
    │   ├── DeclarationError        what people wrote: models/*.yaml, environments.yaml
    │   │   └── PolicyError         written correctly, but the platform does not allow it
    │   ├── ModelNotFoundError      no model, run, experiment, alias or artifact answers the selector
    │   ├── AmbiguousModelError     several do, and the declaration says not to guess
    │   ├── ModelChangedError       what was pinned is no longer what lies there (deleted run, other digest)
    │   ├── AccessDeniedError       401 or 403
    │   ├── NotMLflowError          something answers, but it is not an MLflow server
    │   ├── ConflictError           an object in the cluster, or a field of it, is somebody else's
    │   ├── IncompatibleRuntimeError  the serving runtime cannot run this model
    │   ├── DeploymentFailedError   the cluster shows that this rollout will not succeed
    │   ├── CanaryRejectedError     a candidate broke a bar; the stable version serves on
    │   └── PredictionFailedError   the endpoint's answer is an error, or not what was asked for
    ├── TransientError              unreachable, 429, 5xx: Airflow retries
    │   └── DeploymentTimeoutError  not ready in time, and nothing says why: waiting longer may help
    └── RunnerError                 the program that applied the model failed or was stopped: Airflow retries

Bad arguments are ``ValueError``. The module does no I/O and imports nothing of the project.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class MLOpsProviderError(Exception):
    """Base of every error this project raises on purpose."""


class PermanentError(MLOpsProviderError):
    """Trying again changes nothing: somebody has to act. The message says who and how."""


class TransientError(MLOpsProviderError):
    """The other side is away or overloaded; the same call may succeed later.

    :param retry_after_seconds: what the server asked for, if it did.
    """

    def __init__(self, message: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing that is wrong in a file: ``models/churn.yaml:12:5: environment: 'prd' is unknown; use dev or prod``.

    :param line: 1-based; 0 where the problem is the file itself.
    :param column: 1-based; 0 where the problem is the file itself.
    :param field: dotted path inside the document, ``batch.resources.cpu``; empty for the document itself.
    :param rule: name of the policy rule that refused it; empty where no policy is concerned.
    """

    file: str
    line: int
    column: int
    field: str
    message: str
    rule: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        parts = [place, *([self.field] if self.field else []), self.message]
        return ": ".join(parts) + (f" [{self.rule}]" if self.rule else "")


class DeclarationError(PermanentError):
    """A declaration or an environments file cannot be used. Carries every problem of the file, not only the first."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class PolicyError(DeclarationError):
    """The declaration is well formed, but ``environments.yaml`` does not allow what it asks for."""


class ModelNotFoundError(PermanentError):
    """Nothing answers the selector. The message names experiment, tag and the next step."""


class AmbiguousModelError(PermanentError):
    """Several models answer the selector.

    :param candidates: run IDs, model IDs or versions, as the message lists them.
    """

    def __init__(self, message: str, *, candidates: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.candidates: tuple[str, ...] = tuple(candidates)


class ModelChangedError(PermanentError):
    """What was pinned before is gone or differs now; nothing is silently substituted."""


class AccessDeniedError(PermanentError):
    """The server answered 401 or 403."""


class NotMLflowError(PermanentError):
    """Something answers at the address, but it does not speak MLflow's REST API."""


class ConflictError(PermanentError):
    """An object in the cluster is not ours, or somebody else owns a field of it. The message names them."""


class IncompatibleRuntimeError(PermanentError):
    """The serving runtime lacks what the model needs, or is not there. Found before anything is deployed."""


class DeploymentFailedError(PermanentError):
    """A rollout cannot succeed as it is. The first line is the cause; events, conditions and logs follow."""


class CanaryRejectedError(PermanentError):
    """A candidate broke a bar. The first line names the gate, the measured value and the bar."""


class PredictionFailedError(PermanentError):
    """An endpoint answered with an error, too late, or with something else than was asked for."""


class DeploymentTimeoutError(TransientError):
    """A rollout was not ready in time, without evidence that it never will be."""


class RunnerError(MLOpsProviderError):
    """The program that applied the model failed or was stopped. Only its owner knows whether a retry helps."""
