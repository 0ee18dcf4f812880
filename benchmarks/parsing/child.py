"""One measured process of ``parse.py``: reads DAG files as Airflow's DAG processor does, and prints what it cost.

Runs in the environment of the side that is measured, so it imports nothing of this project by itself.

    child.py fresh|each FOLDER SIDE COUNT
    child.py fork FOLDER SIDE COUNT ROUNDS
    child.py wanted FOLDER SIDE all|NUMBER DAG_ID

``fresh``: imports first, apart; then one file with all DAGs. ``fork``: the parent has imported what the file names
under ``airflow.``, and for a bundle's stubs what the bundle imports; all the rest counts. ``each``: so, with one file
and one fork for each DAG. ``wanted``: a worker that asks for one DAG of that file.
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
import resource
import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

_AIRFLOW = ("airflow.sdk", "airflow.providers.cncf.kubernetes.operators.pod")
_OWN = {
    "bare": (),
    "whole": ("airflow_mlops_provider.operators.mlflow",),
    "whole-as-usual": ("airflow_mlops_provider.operators.mlflow",),
    "ours": ("airflow_mlops_provider.dag_factory.batch", "airflow_mlops_provider.operators.mlflow"),
    "dag-factory": ("dagfactory",),
    "blueprint": ("blueprint",),
}


def cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def peak_mib() -> float:
    """Return the peak of this process; ``ru_maxrss`` of a fork would hold its parent's."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def file_of(folder: Path, side: str, number: int) -> Path:
    """Return the DAG file of one DAG: for declarations, the stub that the bundle has written beside it."""
    return folder / "models" / f"{number}.yaml.mlops.py" if side == "ours" else folder / f"{side}.{number}.py"


def run_file(file: Path) -> list[Any]:
    """Run a DAG file as the DAG processor does, and return its DAGs."""
    from airflow.sdk import DAG

    names: dict[str, Any] = {"__name__": "dag_file", "__file__": str(file)}
    exec(compile(file.read_bytes(), str(file), "exec"), names)
    return list({value.dag_id: value for value in names.values() if isinstance(value, DAG)}.values())


def describe(dags: list[Any]) -> dict[str, Any]:
    """Return bytes for each DAG, and a digest of all of them that leaves out where they were built."""
    from airflow.serialization.serialized_objects import DagSerialization

    texts = []
    for dag in sorted(dags, key=lambda dag: str(dag.dag_id)):
        data = DagSerialization.to_dict(dag)
        for place in ("fileloc", "relative_fileloc", "_processor_dags_folder"):
            data["dag"].pop(place, None)
        texts.append(json.dumps(data, sort_keys=True, default=str))
    digest = hashlib.sha256("\n".join(texts).encode()).hexdigest()
    return {"bytes": sum(map(len, texts)) / len(texts), "digest": digest}


def fresh(folder: Path, side: str, count: int) -> dict[str, Any]:
    start = cpu_seconds()
    for module in _OWN[side]:
        import_module(module)
    imported, before = cpu_seconds(), peak_mib()
    gc.collect()  # what the imports left behind is not the DAGs'
    start_building = cpu_seconds()
    dags = run_file(folder / f"{side}.all.py")
    done, after = cpu_seconds(), peak_mib()
    check(dags, count)
    return {
        "import_seconds": imported - start,
        "seconds": done - start_building,
        "peak_mib": after,
        "grown_mib": after - before,
        **describe(dags),
    }


def fork(folder: Path, side: str, count: int, rounds: int) -> list[dict[str, Any]]:
    preload(side)
    return [in_child(lambda: build(folder / f"{side}.all.py", count)) for _ in range(rounds)]


def each(folder: Path, side: str, count: int) -> list[dict[str, Any]]:
    preload(side)
    return [in_child(partial(build, file_of(folder, side, number), 1)) for number in range(count)]


def build(file: Path, count: int) -> dict[str, Any]:
    start = cpu_seconds()
    dags = run_file(file)
    done = cpu_seconds()
    check(dags, count)
    return {"seconds": done - start, "peak_mib": peak_mib()}


def wanted(folder: Path, side: str, file_name: str, dag_id: str) -> dict[str, Any]:
    from airflow.sdk.definitions._internal.dag_parsing_context import _airflow_parsing_context_manager

    start = cpu_seconds()
    for module in _OWN[side]:
        import_module(module)
    imported = cpu_seconds()
    gc.collect()
    start_building = cpu_seconds()
    with _airflow_parsing_context_manager(dag_id=dag_id, task_id="score"):
        dags = run_file(folder / f"{side}.all.py" if file_name == "all" else file_of(folder, side, int(file_name)))
    done = cpu_seconds()
    if dag_id not in {dag.dag_id for dag in dags}:
        raise RuntimeError(f"no DAG {dag_id}")
    return {"seconds": done - start_building, "import_seconds": imported - start}


def preload(side: str) -> None:
    """Import what the DAG processor has imported before it forks."""
    if side == "ours":
        from airflow_mlops_provider.bundles.preload import preload as preload_for_stubs

        preload_for_stubs()
    gc.collect()
    gc.freeze()  # as the DAG processor does


def in_child(build: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return what *build* returns in a forked process."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        try:
            os.write(writer, json.dumps(build()).encode())
        except BaseException as error:
            os.write(writer, json.dumps({"error": f"{type(error).__name__}: {error}"}).encode())
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as stream:
        found: dict[str, Any] = json.loads(stream.read())
    os.waitpid(child, 0)
    if "error" in found:
        raise RuntimeError(found["error"])
    return found


def check(dags: list[Any], count: int) -> None:
    """Nobody is fast by building less."""
    found = {dag.dag_id: len(dag.tasks) for dag in dags if dag.dag_id.startswith("prod.")}
    if len(found) != count or set(found.values()) != {1}:
        raise RuntimeError(f"{len(found)} DAGs instead of {count}, with {set(found.values())} tasks each")


def main() -> None:
    mode, folder, side, last = sys.argv[1], Path(sys.argv[2]), sys.argv[3], sys.argv[4:]
    for module in _AIRFLOW:
        import_module(module)
    modes: dict[str, Callable[[], Any]] = {
        "fresh": lambda: fresh(folder, side, int(last[0])),
        "fork": lambda: fork(folder, side, int(last[0]), int(last[1])),
        "each": lambda: each(folder, side, int(last[0])),
        "wanted": lambda: wanted(folder, side, last[0], last[1]),
    }
    print("RESULT", json.dumps(modes[mode]()))


if __name__ == "__main__":
    main()
