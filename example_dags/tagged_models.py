"""A hand-written stub: the DAGs of every declaration in ``models/``.

A repository that is read through ``ModelGitDagBundle`` needs no such file.
"""

from __future__ import annotations

from airflow_mlops_provider import load_model_dags

load_model_dags("models", environments="environments.yaml", globals=globals())
