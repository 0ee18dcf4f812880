"""How our errors become Airflow's: which of them stop a task's retries.

Decides nothing else. No I/O.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from airflow.sdk.exceptions import AirflowFailException

from airflow_mlops_provider.exceptions import PermanentError


@contextmanager
def permanent_errors_fail() -> Iterator[None]:
    """Turn our permanent errors, and arguments that cannot be right, into the exception that stops the retries."""
    try:
        yield
    except (PermanentError, ValueError) as error:
        raise AirflowFailException(f"{type(error).__name__}: {error}") from error
