"""What the DAG processor imports once, so that the process it forks for each stub need not.

Airflow imports before the fork what a DAG file names, but only modules of its own (``parsing_pre_import_modules``). The
schema of declarations costs more to import than a hundred DAGs cost to build. It decides which modules; does no I/O.
"""

from __future__ import annotations

import sys
from importlib import import_module

from airflow.configuration import conf

#: Modules that stubs run and that load no client of Kubernetes.
_FACTORIES = (
    "airflow_mlops_provider.dag_factory.batch",
    "airflow_mlops_provider.dag_factory.online",
    "airflow_mlops_provider.dag_factory.probe",
    "airflow_mlops_provider.operators.kserve",
)
#: Ours → theirs. Without theirs it is not imported: both Kubernetes clients come with it, and nobody may need them.
_OPERATORS = {"airflow_mlops_provider.operators.mlflow": "airflow.providers.cncf.kubernetes.operators.pod"}


def preload() -> None:
    """Import what stubs run, into the process that is going to fork.

    Airflow imports the pod operator when it meets the first stub that names it, so a later call finds more to do.
    """
    if not conf.getboolean("dag_processor", "parsing_pre_import_modules", fallback=True):
        return
    for name in _FACTORIES:
        import_module(name)
    for ours, theirs in _OPERATORS.items():
        if theirs in sys.modules:
            import_module(ours)
