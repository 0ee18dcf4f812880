"""The batch jobs of a model under one roof: the one of ``batch``, and those of ``batch_jobs``.

Decides what a job is called: its *kind* is the end of its DAG's ID, ``batch`` or ``batch.weekly``. No I/O.
"""

from __future__ import annotations

from typing import Final

from airflow_mlops_provider.declaration.batch_spec import BatchSpec
from airflow_mlops_provider.declaration.model import ModelDeclaration
from airflow_mlops_provider.declaration.node import Path

MAIN_JOB: Final = "batch"


def batch_jobs(declaration: ModelDeclaration) -> dict[str, BatchSpec]:
    """Return the jobs by kind, that of ``batch`` first."""
    main = {MAIN_JOB: declaration.batch} if declaration.batch is not None else {}
    return main | {f"{MAIN_JOB}.{name}": spec for name, spec in declaration.batch_jobs.items()}


def job_name(kind: str) -> str | None:
    """Return ``weekly`` of ``batch.weekly``; the job of ``batch`` has no name of its own."""
    return kind.partition(".")[2] or None


def job_path(kind: str) -> Path:
    """Return where the job stands in a declaration: ``("batch_jobs", "weekly")``."""
    name = job_name(kind)
    return (MAIN_JOB,) if name is None else ("batch_jobs", name)


def read_reference(reference: str) -> tuple[str, str]:
    """Return model and kind that an entry of ``after`` names: ``churn.weekly`` → ``("churn", "batch.weekly")``."""
    model, _, name = reference.partition(".")
    return model, f"{MAIN_JOB}.{name}" if name else MAIN_JOB


def reference_to(dag_id: str) -> str:
    """Return what an entry of ``after`` calls the job of a DAG: ``prod.churn.batch.weekly`` → ``churn.weekly``."""
    _, model, kind = dag_id.split(".", 2)
    name = job_name(kind)
    return f"{model}.{name}" if name else model
