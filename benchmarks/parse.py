"""How long does a DAG file take to parse, next to a plain Python loop and the other YAML factories.

Every side builds the same N DAGs of one pod task in a fresh process, imports not counted: the plain loop with
KubernetesPodOperator itself (the floor), this project with one declaration for each, dag-factory and blueprint with one
YAML for each. Sides take turns, so that a busy machine slows all alike. Measured: CPU per DAG, bytes of the serialised
DAG. Prints medians and ratios to the floor: ``python benchmarks/parse.py [--sizes 10 200] [--rounds 3] [--json FILE]``.

Peers are installed with uv into a virtual environment in the user's cache; one that cannot be is left out with its
reason. It gets the same versions of Airflow and the Kubernetes provider as this one.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
PEERS = ("dag-factory==1.1.0", "airflow-blueprint==0.5.0")
_SAME = ("apache-airflow", "apache-airflow-providers-cncf-kubernetes")

ENVIRONMENTS = {
    "apiVersion": "mlops/v1",
    "environments": {
        "prod": {
            "namespace": "ml",
            "image": "registry.example/runtime:1",
            "model": {"run_tag": {"stage": "prod"}},
            "allow": {"jinja": ["ds"], "uri_schemes": ["s3"], "max_cpu": "4", "max_memory": "8Gi"},
        }
    },
}
#: Around each side: one process, imports first, then the clock.
FRAME = """
import json, os, sys, time
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.sdk import DAG
from airflow.serialization.serialized_objects import DagSerialization
folder, count = sys.argv[1], int(sys.argv[2])
{imports}
start = time.process_time()
{build}
seconds = time.process_time() - start
dags = [dag for dag in dags if dag.dag_id.startswith("prod.")]
assert len(dags) == count, (len(dags), count)
assert all(len(dag.tasks) == 1 for dag in dags)
size = sum(len(json.dumps(DagSerialization.to_dict(dag), default=str)) for dag in dags) // count
print("RESULT", json.dumps({{"seconds": seconds, "bytes": size}}))
"""
PLAIN = """
dags = []
for number in range(count):
    with DAG(f"prod.model-{number}.batch", schedule="0 3 * * *", default_args={"owner": "me", "retries": 2}) as dag:
        KubernetesPodOperator(
            task_id="score", name="score", namespace="ml", image="registry.example/runtime:1",
            cmds=["mlops-runtime", "score"],
            env_vars={"INPUT_URI": "s3://in/{{ ds }}/", "OUTPUT_URI": "s3://out/{{ ds }}/"},
            container_resources={"requests": {"cpu": "1", "memory": "2Gi"}, "limits": {"cpu": "1", "memory": "2Gi"}},
        )
    dags.append(dag)
"""
OURS = """
from pathlib import Path
dags = [dag for file in sorted(Path(folder, "models").glob("*.yaml")) for dag in load_model_dags(file).values()]
"""
OURS_IMPORTS = """
from airflow_mlops_provider import load_model_dags
import airflow_mlops_provider.dag_factory.batch, airflow_mlops_provider.operators.mlflow
"""
DAG_FACTORY = """
from pathlib import Path
found = {}
for file in sorted(Path(folder, "dag-factory").glob("*.yaml")):
    load_yaml_dags(globals_dict=found, config_filepath=str(file))
dags = [dag for dag in found.values() if isinstance(dag, DAG)]
"""
BLUEPRINT = """
dags = build_all_airflow_dags(folder + "/blueprint", register_globals={}, render_templates=False)
"""
BLUEPRINT_TEMPLATE = """
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from blueprint import BaseModel, Blueprint

class ScoreConfig(BaseModel):
    input: str
    output: str

class Score(Blueprint[ScoreConfig]):
    def render(self, config):
        return KubernetesPodOperator(
            task_id=self.step_id, name="score", namespace="ml", image="registry.example/runtime:1",
            cmds=["mlops-runtime", "score"],
            env_vars={"INPUT_URI": config.input, "OUTPUT_URI": config.output},
            container_resources={"requests": {"cpu": "1", "memory": "2Gi"}, "limits": {"cpu": "1", "memory": "2Gi"}},
        )
"""

SIDES = {
    "plain loop": ("", PLAIN),
    "ours": (OURS_IMPORTS, OURS),
    "dag-factory": ("from dagfactory import load_yaml_dags", DAG_FACTORY),
    "blueprint": ("from blueprint import build_all_airflow_dags", BLUEPRINT),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10, 200], metavar="N", help="numbers of DAGs")
    parser.add_argument("--rounds", type=int, default=3, help="fresh processes of each side")
    parser.add_argument("--json", type=Path, help="where to keep all measurements")
    arguments = parser.parse_args()
    peers, reason = install_peers()
    if reason:
        print(f"dag-factory, blueprint: left out, they do not install: {reason}")
    pythons = {"plain loop": sys.executable, "ours": sys.executable}
    pythons |= {"dag-factory": peers, "blueprint": peers} if peers else {}
    measured: dict[str, Any] = {}
    for count in arguments.sizes:
        with tempfile.TemporaryDirectory() as name:
            write_files(Path(name), count)
            measured[str(count)] = found = {side: [] for side in pythons}
            for _ in range(arguments.rounds):
                for side, python in pythons.items():
                    found[side].append(measure(python, side, Path(name), count))
        print_table(count, found)
    if arguments.json:
        arguments.json.write_text(json.dumps(measured, indent=2))


def install_peers() -> tuple[str | None, str | None]:
    """Return the peers' interpreter, or why there is none."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    folder = cache / "airflow-mlops-provider" / "benchmark-peers"
    python = folder / "bin" / "python"
    pins = [f"{name}=={version(name)}" for name in _SAME]
    this = f"{sys.version_info.major}.{sys.version_info.minor}"
    for command in (
        ["uv", "venv", "--quiet", "--allow-existing", "--python", this, str(folder)],
        ["uv", "pip", "install", "--quiet", "--python", str(python), *PEERS, *pins],
    ):
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError as error:
            return None, str(error)
        if done.returncode:
            return None, (done.stderr.strip().splitlines() or ["no reason given"])[-1]
    return str(python), None


def write_files(folder: Path, count: int) -> None:
    """Write what each side reads."""
    for name in ("models", "dag-factory", "blueprint", "home"):
        (folder / name).mkdir()
    (folder / ".git").mkdir()
    (folder / "environments.yaml").write_text(yaml.safe_dump(ENVIRONMENTS))
    (folder / "blueprint" / "templates.py").write_text(BLUEPRINT_TEMPLATE)
    for number in range(count):
        for place, document in documents(number).items():
            (folder / place.format(number)).write_text(yaml.safe_dump(document, sort_keys=False))


def documents(number: int) -> dict[str, Any]:
    """Return the same DAG in each dialect."""
    source, target, schedule = "s3://in/{{ ds }}/", "s3://out/{{ ds }}/", "0 3 * * *"
    amount = {"cpu": "1", "memory": "2Gi"}
    ours = {
        "apiVersion": "mlops/v1",
        "model": f"model-{number}",
        "owner": "me",
        "experiment": "/churn",
        "batch": {"schedule": schedule, "input": source, "output": target, "resources": amount},
        "environments": {"prod": {}},
    }
    task = {
        "task_id": "score",
        "operator": "airflow.providers.cncf.kubernetes.operators.pod.KubernetesPodOperator",
        "name": "score",
        "namespace": "ml",
        "image": "registry.example/runtime:1",
        "cmds": ["mlops-runtime", "score"],
        "env_vars": {"INPUT_URI": source, "OUTPUT_URI": target},
        "container_resources": {"requests": amount, "limits": amount},
    }
    defaults = {"owner": "me", "retries": 2, "start_date": "2025-01-01"}
    dag_id = f"prod.model-{number}.batch"
    peer = {dag_id: {"schedule": schedule, "catchup": False, "default_args": defaults, "tasks": [task]}}
    step = {"blueprint": "score", "input": source, "output": target}
    return {
        "models/{}.yaml": ours,
        "dag-factory/{}.yaml": peer,
        "blueprint/{}.dag.yaml": {"dag_id": dag_id, "schedule": schedule, "steps": {"score": step}},
    }


def measure(python: str, side: str, folder: Path, count: int) -> dict[str, float]:
    """Build the DAGs once in a fresh process.

    :raises RuntimeError: the side failed; with its last words.
    """
    imports, build = SIDES[side]
    settings = {"AIRFLOW_HOME": str(folder / "home"), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    environment = {**os.environ, **settings, "PYTHONPATH": str(ROOT) if side == "ours" else ""}
    script = FRAME.format(imports=imports, build=build)
    command = [python, "-c", script, str(folder), str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    for line in done.stdout.splitlines():
        if line.startswith("RESULT "):
            found: dict[str, float] = json.loads(line.removeprefix("RESULT "))
            return found
    raise RuntimeError(f"{side}: {done.stderr.strip()[-2000:]}")


def print_table(count: int, found: dict[str, list[dict[str, float]]]) -> None:
    def median(side: str, key: str) -> float:
        return statistics.median(item[key] for item in found[side])

    print(f"N = {count}, median of {len(found['ours'])} fresh processes")
    for side in found:
        seconds, size = median(side, "seconds"), median(side, "bytes")
        times, larger = seconds / median("plain loop", "seconds"), size / median("plain loop", "bytes")
        print(
            f"  {side:<12} {seconds / count * 1000:6.2f} ms CPU per DAG ({times:5.2f} × plain)"
            f"  {size:6.0f} bytes ({larger:4.2f} × plain)"
        )


if __name__ == "__main__":
    main()
