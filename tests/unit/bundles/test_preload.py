from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

SCRIPT = """
import json, sys
from airflow_mlops_provider.bundles.preload import preload
names = ["airflow_mlops_provider.dag_factory.batch", "airflow_mlops_provider.operators.mlflow", "kubernetes", "mlflow"]
found = []
for theirs in (None, "airflow.providers.cncf.kubernetes.operators.pod"):
    if theirs:
        __import__(theirs)
    preload()
    found.append([name in sys.modules for name in names])
print("FOUND", json.dumps(found))
"""


@pytest.mark.parametrize(
    ("allowed", "found"),
    [
        pytest.param("True", [[True, False, False, False], [True, True, True, False]], id="asked for"),
        pytest.param("False", [[False, False, False, False], [False, False, True, False]], id="switched off"),
    ],
)
def test_the_operator_is_loaded_only_after_airflow_loaded_its_parent(allowed: str, found: list[list[bool]]) -> None:
    environment = {**os.environ, "AIRFLOW__DAG_PROCESSOR__PARSING_PRE_IMPORT_MODULES": allowed}
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False, env=environment)
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("FOUND ")]
    assert json.loads(line.removeprefix("FOUND ")) == found
