"""The same files, parsed at other times, elsewhere and in other processes: Airflow must see the same DAGs.

A difference would make a new version of every DAG at every parse. Nothing of the project is patched; the processes'
clock is: libfaketime would need a system package, and a time namespace does not move the wall clock.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_mlops_provider.bundles.stubs import Checkout, find_declarations, sync_stubs

DECLARATIONS = Path(__file__).parents[2] / "declarations"
#: Python reads it at start, before anything else has asked for the time.
CLOCK = """
import datetime, os, time
shift = int(os.environ["SHIFT_SECONDS"])
real_time, real_time_ns, real_datetime = time.time, time.time_ns, datetime.datetime
time.time = lambda: real_time() + shift
time.time_ns = lambda: real_time_ns() + shift * 10**9
class Meta(type):
    def __instancecheck__(cls, value): return issubclass(type(value), cls)
    def __subclasscheck__(cls, other): return type.__subclasscheck__(real_datetime if cls is Shifted else cls, other)
class Shifted(real_datetime, metaclass=Meta):
    @classmethod
    def now(cls, tz=None): return cls.fromtimestamp(time.time(), tz)
    @classmethod
    def utcnow(cls): return cls.fromtimestamp(time.time(), datetime.timezone.utc).replace(tzinfo=None)
    @classmethod
    def today(cls): return cls.fromtimestamp(time.time())
datetime.datetime = Shifted
"""
PARSE = """
import datetime, json, os, sys, time
from airflow.dag_processing.dagbag import DagBag
from airflow.models.serialized_dag import SerializedDagModel
from airflow.serialization.serialized_objects import DagSerialization
root = sys.argv[1]
dags, errors = {}, {}
for folder, _, names in os.walk(root):
    for name in names:
        if name.endswith(".mlops.py"):
            bag = DagBag(os.path.join(folder, name), bundle_path=__import__("pathlib").Path(root), bundle_name="models")
            dags |= bag.dags
            errors |= bag.import_errors
data = {dag_id: DagSerialization.to_dict(dag) for dag_id, dag in dags.items()}
print("RESULT", json.dumps({
    "year": datetime.datetime.now().year, "errors": errors,
    "dags": {dag_id: json.dumps(item, sort_keys=True) for dag_id, item in data.items()},
    "hashes": {dag_id: SerializedDagModel.hash(item) for dag_id, item in data.items()},
}))
"""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("checkout")
    (root / ".git").mkdir()
    (root / "models").mkdir()
    (root / "environments.yaml").write_bytes((DECLARATIONS / "environments.yaml").read_bytes())
    for file in (DECLARATIONS / "valid").glob("*.yaml"):
        # Each is called churn in its own test; here they stand side by side.
        text = file.read_text(encoding="utf-8")
        lines = [f"model: {file.stem}" if line.startswith("model:") else line for line in text.splitlines()]
        (root / "models" / file.name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    declarations = find_declarations(root, ("models/*.yaml",))
    sync_stubs(Checkout(root=root, declarations=declarations), scratch=root.parent / "stub.tmp")
    return root


def parse(checkout: Path, directory: Path, *, shift_seconds: int, zone: str, hash_seed: str) -> dict[str, object]:
    (directory / "sitecustomize.py").write_text(CLOCK)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW__MLOPS__")},
        "PYTHONPATH": os.pathsep.join([str(directory), *filter(None, sys.path)]),
        "PYTHONHASHSEED": hash_seed,
        "TZ": zone,
        "SHIFT_SECONDS": str(shift_seconds),
    }
    command = [sys.executable, "-c", PARSE, str(checkout)]
    done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    result: dict[str, object] = json.loads(done.stdout.rpartition("RESULT ")[2])
    return result


def test_three_parses_at_other_times_give_the_same_dags(
    checkout: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    years = 365 * 86_400
    found = [
        parse(checkout, tmp_path_factory.mktemp("here"), shift_seconds=shift, zone=zone, hash_seed=hash_seed)
        for shift, zone, hash_seed in (
            (0, "UTC", "0"),
            (3 * years, "Asia/Tokyo", "1"),
            (-2 * years, "America/Lima", "7"),
        )
    ]
    assert len({result["year"] for result in found}) == 3
    assert all(result["errors"] == {} for result in found)
    assert len(found[0]["dags"]) >= len(list((checkout / "models").glob("*.yaml")))  # type: ignore[arg-type]
    for key in ("dags", "hashes"):
        assert found[0][key] == found[1][key] == found[2][key]
