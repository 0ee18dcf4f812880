"""How our errors become Airflow's: which of them stop a task's retries.

Decides nothing else. No I/O.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from airflow.sdk.exceptions import AirflowFailException

from airflow_mlops_provider.exceptions import AccessDeniedError, PermanentError
from airflow_mlops_provider.hooks.kubernetes_access import missing_permission


@contextmanager
def permanent_errors_fail() -> Iterator[None]:
    """Turn our permanent errors, and arguments that cannot be right, into the exception that stops the retries."""
    try:
        yield
    except (PermanentError, ValueError) as error:
        raise AirflowFailException(f"{type(error).__name__}: {error}") from error


@contextmanager
def missing_permissions_fail() -> Iterator[None]:
    """Turn a permission that the Kubernetes provider found missing, however it tells so, into a named permanent error.

    It arrives as an answer of either client, as a failed handshake, or as a traceback in a trigger's event.
    """
    try:
        yield
    except AirflowFailException:
        raise
    except Exception as error:
        for link in _chain(error):
            if denied := missing_permission(str(link)):
                raise AirflowFailException(f"{AccessDeniedError.__name__}: {denied}") from error
        raise


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
