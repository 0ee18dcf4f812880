"""The same N DAGs in each dialect: what the sides of ``parse.py`` read.

Decides what is compared. *bare* is what a peer's YAML says: a schedule, retries, one pod. *whole* is what the factory
makes of a declaration: besides, a page that says where the DAG comes from, a trigger form, an asset, labels, the
model's selector. Writes files, nothing else.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from airflow_mlops_provider.bundles.stubs import Checkout, find_declarations, sync_stubs

SOURCE, TARGET, SCHEDULE = "s3://in/{{ ds }}/", "s3://out/{{ ds }}/", "0 3 * * *"
AMOUNT = {"cpu": "1", "memory": "2Gi"}
IMAGE = "registry.example/runtime:1"
ENVIRONMENTS = {
    "apiVersion": "mlops/v1",
    "environments": {
        "prod": {
            "namespace": "ml",
            "image": IMAGE,
            "model": {"run_tag": {"stage": "prod"}},
            "allow": {"jinja": ["ds"], "uri_schemes": ["s3"], "max_cpu": "4", "max_memory": "8Gi"},
        }
    },
}

BARE = f"""
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.sdk import DAG

for number in NUMBERS:
    with DAG(
        f"prod.model-{{number}}.batch", schedule="{SCHEDULE}", default_args={{"owner": "me", "retries": 2}}
    ) as globals()[f"dag_{{number}}"]:
        KubernetesPodOperator(
            task_id="score", name="score", namespace="ml", image="{IMAGE}", cmds=["mlops-runtime", "score"],
            env_vars={{"INPUT_URI": "{SOURCE}", "OUTPUT_URI": "{TARGET}"}},
            container_resources={{"requests": {AMOUNT}, "limits": {AMOUNT}}},
        )
"""
#: What a careful engineer writes, constants outside the loop. FORM says where the trigger form goes.
WHOLE = f"""
import airflow.providers.cncf.kubernetes.operators.pod
from datetime import UTC, datetime, timedelta
from airflow.sdk import DAG, Asset, CronDataIntervalTimetable, Param
from airflow_mlops_provider.operators.mlflow import MLflowModelBatchOperator

START = datetime(2025, 1, 1, tzinfo=UTC)
DEFAULTS = {{
    "owner": "me", "retries": 2, "retry_delay": timedelta(minutes=5), "retry_exponential_backoff": 2.0,
    "max_retry_delay": timedelta(hours=1), "execution_timeout": None, "priority_weight": 1,
}}
RESOURCES = {{"requests": {AMOUNT}, "limits": {AMOUNT}}}
TEXT, MOMENT = {{"type": ["null", "string"]}}, {{"type": ["null", "string"], "format": "date-time"}}
FORM = {{
    "model_run_id": Param(
        None, title="MLflow run ID", description="Run the model of this MLflow run instead.", **TEXT
    ),
    "data_interval_start": Param(
        None, title="Data interval start", description="Score this interval instead of the run's own.", **MOMENT
    ),
    "data_interval_end": Param(None, title="Data interval end", **MOMENT),
}}

for number in NUMBERS:
    model = f"model-{{number}}"
    rows = {{
        "Model": "experiment '/churn', tag stage=prod", "Environment": "prod", "Owner": "me",
        "Declared in": f"`models/{{number}}.yaml`", "Starts": "{SCHEDULE} (UTC)", "Input": "`{SOURCE}`",
        "Output": "`{TARGET}`", "Runs": "one pod per partition", "Partitions": 1,
        "Updates the asset": f"`prod.{{model}}.scores`",
    }}
    with DAG(
        f"prod.{{model}}.batch", schedule=CronDataIntervalTimetable("{SCHEDULE}", timezone="UTC"), start_date=START,
        catchup=False, description=f"Apply the model {{model}} in prod", default_args=DEFAULTS,
        doc_md="| | |\\n|---|---|\\n" + "".join(f"| {{name}} | {{value}} |\\n" for name, value in rows.items()),
        tags=["batch", "mlops", model, "prod"],%(inside)s
    ) as dag:
        MLflowModelBatchOperator(
            task_id="score", use_run_params=True, outlets=[Asset(f"prod.{{model}}.scores")],
            model={{"experiment": "/churn", "run_tag": {{"stage": "prod"}}, "on_ambiguous": "latest"}},
            mlflow_conn_id="mlflow_default", environment="prod", input_uri="{SOURCE}", output_uri="{TARGET}",
            name=f"prod-{{model}}", namespace="ml", image="{IMAGE}", cmds=["mlops-runtime", "score"],
            container_resources=RESOURCES, kubernetes_conn_id="kubernetes_default",
            labels={{
                "app.kubernetes.io/name": model, "app.kubernetes.io/instance": f"prod-{{model}}",
                "app.kubernetes.io/component": "batch", "app.kubernetes.io/part-of": "mlops",
                "app.kubernetes.io/managed-by": "airflow-mlops-provider", "airflow-mlops/environment": "prod",
                "airflow-mlops/env-key": "prod", "airflow-mlops/ephemeral": "false",
            }},
            annotations={{"airflow-mlops/declaration": f"models/{{number}}.yaml"}},
        )%(after)s
    globals()[f"dag_{{number}}"] = dag
"""
#: Where everybody puts the form: Airflow then checks each schema twice for every DAG.
FORM_AS_USUAL = {"inside": " params=FORM,", "after": ""}
#: Where the factory puts it. The lower of the two floors, and the one whose DAGs are the same to the byte.
FORM_LAST = {"inside": "", "after": "\n    for name, param in FORM.items():\n        dag.params[name] = param"}

OURS = """
import airflow.providers.cncf.kubernetes.operators.pod
from airflow_mlops_provider import load_model_dags
load_model_dags("models", globals=globals())
"""
DAG_FACTORY = """
from pathlib import Path
from dagfactory import load_yaml_dags
for file in sorted((Path(__file__).parent / "dag-factory").glob(PATTERN)):
    load_yaml_dags(globals_dict=globals(), config_filepath=str(file))
"""
BLUEPRINT = """
from pathlib import Path
from blueprint import build_all_airflow_dags
build_all_airflow_dags(str(Path(__file__).parent / "blueprint"), register_globals=globals(), render_templates=False)
"""
BLUEPRINT_TEMPLATE = f"""
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from blueprint import BaseModel, Blueprint

class ScoreConfig(BaseModel):
    input: str
    output: str

class Score(Blueprint[ScoreConfig]):
    def render(self, config):
        return KubernetesPodOperator(
            task_id=self.step_id, name="score", namespace="ml", image="{IMAGE}",
            cmds=["mlops-runtime", "score"], env_vars={{"INPUT_URI": config.input, "OUTPUT_URI": config.output}},
            container_resources={{"requests": {AMOUNT}, "limits": {AMOUNT}}},
        )
"""


def write_inputs(folder: Path, count: int) -> None:
    """Write one DAG file for each side that builds all DAGs, and one for each DAG where a side can be split."""
    for name in ("models", "dag-factory", "blueprint", "home"):
        (folder / name).mkdir()
    (folder / ".git").mkdir()
    (folder / "environments.yaml").write_text(yaml.safe_dump(ENVIRONMENTS))
    (folder / "blueprint" / "templates.py").write_text(BLUEPRINT_TEMPLATE)
    for number in range(count):
        for place, document in _documents(number).items():
            (folder / place.format(number)).write_text(yaml.safe_dump(document, sort_keys=False))
    for name, text in {"all": f"range({count})", **{str(number): f"[{number}]" for number in range(count)}}.items():
        pattern = "*.yaml" if name == "all" else f"{name}.yaml"
        (folder / f"bare.{name}.py").write_text(f"NUMBERS = {text}\n{BARE}")
        (folder / f"whole.{name}.py").write_text(f"NUMBERS = {text}\n{WHOLE % FORM_LAST}")
        (folder / f"whole-as-usual.{name}.py").write_text(f"NUMBERS = {text}\n{WHOLE % FORM_AS_USUAL}")
        (folder / f"dag-factory.{name}.py").write_text(f"PATTERN = {pattern!r}\n{DAG_FACTORY}")
    (folder / "ours.all.py").write_text(OURS)
    (folder / "blueprint.all.py").write_text(BLUEPRINT)
    declarations = find_declarations(folder, ["models/*.yaml"])
    sync_stubs(Checkout(root=folder, declarations=declarations), scratch=folder / "home" / "stub.tmp")


def _documents(number: int) -> dict[str, Any]:
    ours = {
        "apiVersion": "mlops/v1",
        "model": f"model-{number}",
        "owner": "me",
        "experiment": "/churn",
        "batch": {"schedule": SCHEDULE, "input": SOURCE, "output": TARGET, "resources": AMOUNT},
        "environments": {"prod": {}},
    }
    task = {
        "task_id": "score",
        "operator": "airflow.providers.cncf.kubernetes.operators.pod.KubernetesPodOperator",
        "name": "score",
        "namespace": "ml",
        "image": IMAGE,
        "cmds": ["mlops-runtime", "score"],
        "env_vars": {"INPUT_URI": SOURCE, "OUTPUT_URI": TARGET},
        "container_resources": {"requests": AMOUNT, "limits": AMOUNT},
    }
    defaults = {"owner": "me", "retries": 2, "start_date": "2025-01-01"}
    dag_id = f"prod.model-{number}.batch"
    peer = {dag_id: {"schedule": SCHEDULE, "catchup": False, "default_args": defaults, "tasks": [task]}}
    step = {"blueprint": "score", "input": SOURCE, "output": TARGET}
    return {
        "models/{}.yaml": ours,
        "dag-factory/{}.yaml": peer,
        "blueprint/{}.dag.yaml": {"dag_id": dag_id, "schedule": SCHEDULE, "steps": {"score": step}},
    }
