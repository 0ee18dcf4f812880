"""The files of the demonstration's repository, as a platform engineer and a data scientist write them. Pure."""

from __future__ import annotations

from airflow_mlops_provider.demo.train import EXPERIMENT, KEY, REGISTERED_MODEL

MODEL = "tumours"
ENVIRONMENT = "prod"
DAG_ID = f"{ENVIRONMENT}.{MODEL}.batch"
TASK_ID = "score"
MLFLOW_CONNECTION = "mlflow_prod"
KUBERNETES_CONNECTION = "k8s_prod"


def write_declaration(input_uri: str, output_uri: str) -> str:
    """Return ``models/tumours.yaml``."""
    return f"""\
apiVersion: mlops/v1
model: {MODEL}
description: Tell malignant tumours from benign ones
owner: diagnostics@example.com
experiment: {EXPERIMENT}
registered_model: {REGISTERED_MODEL}
batch:
  input: {input_uri}
  output: {output_uri}
  key_columns: [{KEY}]
  retries: 0
environments:
  {ENVIRONMENT}: {{}}
"""


def write_local_environments() -> str:
    """Return an ``environments.yaml`` whose jobs are processes of the Airflow worker."""
    return f"""\
apiVersion: mlops/v1
environments:
  {ENVIRONMENT}:
    runner: local
    model: {{run_tag: {{stage: {ENVIRONMENT}}}, on_ambiguous: fail}}
    connections: {{mlflow: {MLFLOW_CONNECTION}}}
    allow: {{uri_schemes: [file]}}
"""


def write_pod_environments(namespace: str, image: str, claim: str, mount: str) -> str:
    """Return an ``environments.yaml`` whose jobs are pods that share the volume ``claim``."""
    return f"""\
apiVersion: mlops/v1
environments:
  {ENVIRONMENT}:
    runner: kubernetes
    namespace: {namespace}
    image: {image}
    image_pull_policy: IfNotPresent
    volumes: [{{claim: {claim}, mount_path: {mount}}}]
    model: {{run_tag: {{stage: {ENVIRONMENT}}}, on_ambiguous: fail}}
    connections: {{mlflow: {MLFLOW_CONNECTION}, kubernetes: {KUBERNETES_CONNECTION}}}
    allow: {{uri_schemes: [file], max_cpu: "2", max_memory: 4Gi}}
"""
