"""How long does a DAG file take to parse, next to plain Python loops and the other YAML factories.

The sides take turns, each in processes of its own, so that a busy machine slows all alike; what counts is CPU time,
never the clock. Floors: *bare*, a loop with the pod operator that does what a peer's YAML says; *whole*, a loop written
by hand whose DAGs are those of this project to the byte; *whole, as usual*, the same with the trigger form where
everybody puts it. ``parsing/inputs.py`` has their text. Prints medians and ratios:

    python benchmarks/parse.py [--sizes 10 200 2000] [--rounds 5] [--json FILE]

More than 200 DAGs, and workers, are measured twice only. A peer that cannot be installed is left out, with the reason.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
from parsing.inputs import write_inputs
from parsing.peers import install_peers

_CHILD = Path(__file__).resolve().parent / "parsing" / "child.py"
_FLOORS = {"bare": "plain loop, bare", "whole": "plain loop, whole", "whole-as-usual": "plain loop, whole, as usual"}
_TITLES = {**_FLOORS, "ours": "this project", "dag-factory": "dag-factory 1.1.0", "blueprint": "blueprint 0.5.0"}
#: One file for each DAG: blueprint reads whole directories only.
_EACH = ("bare", "whole", "ours", "dag-factory")
_EACH_FILES = 20
_FEW_ROUNDS_ABOVE, _FEW_ROUNDS = 200, 2
_VALIDATED_FILES = 1000

Samples = dict[str, list[dict[str, Any]]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10, 200, 2000], metavar="N", help="numbers of DAGs")
    parser.add_argument("--rounds", type=int, default=5, help="processes of each side; at least 5 for a statement")
    parser.add_argument("--json", type=Path, help="where to keep all measurements")
    arguments = parser.parse_args()
    peers, reason = install_peers()
    if reason:
        print(f"dag-factory, blueprint: left out, they do not install: {reason}")
    pythons = dict.fromkeys([*_FLOORS, "ours"], sys.executable)
    pythons |= {"dag-factory": peers, "blueprint": peers} if peers else {}
    measured: dict[str, Any] = {}
    for count in arguments.sizes:
        measured[str(count)] = measure_size(pythons, count, arguments.rounds)
    measured["validate"] = measure_validation(arguments.rounds)
    print_validation(measured["validate"])
    if arguments.json:
        arguments.json.write_text(json.dumps(measured, indent=1) + "\n")


def measure_size(pythons: dict[str, str], count: int, rounds: int) -> dict[str, Samples]:
    """Measure all sides with *count* DAGs, and print what comes of it."""
    rounds = rounds if count <= _FEW_ROUNDS_ABOVE else min(rounds, _FEW_ROUNDS)
    last = str(count - 1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_inputs(folder, count)

        def child(side: str, mode: str, *arguments: str) -> Any:
            return run_child(pythons[side], folder, mode, side, *arguments)

        found: dict[str, Samples] = {"fresh": {side: [] for side in pythons}, "wanted": {}}
        for _ in range(rounds):
            for side in pythons:
                found["fresh"][side].append(child(side, "fresh", str(count)))
        found["fork"] = {side: child(side, "fork", str(count), str(rounds)) for side in pythons}
        found["each"] = {side: child(side, "each", str(min(count, _EACH_FILES))) for side in pythons if side in _EACH}
        for _ in range(_FEW_ROUNDS):
            for side in ("whole", "ours"):
                for title, file in (("all in one file", "all"), ("one file each", last)):
                    runs = found["wanted"].setdefault(f"{_TITLES[side]}, {title}", [])
                    runs.append(child(side, "wanted", file, f"prod.model-{last}.batch"))
    print_size(count, found)
    return found


def run_child(python: str, folder: Path, mode: str, *arguments: str) -> Any:
    """Run one measured process and return what it found.

    :raises RuntimeError: the side failed; with its last words.
    """
    settings = {"AIRFLOW_HOME": str(folder / "home"), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    environment = {**os.environ, **settings}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # without bytecode every import takes twice as long
    command = [python, str(_CHILD), mode, str(folder), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    for line in done.stdout.splitlines():
        if line.startswith("RESULT "):
            return json.loads(line.removeprefix("RESULT "))
    raise RuntimeError(f"{mode} {arguments}: {done.stderr.strip()[-2000:]}")


def measure_validation(rounds: int) -> list[dict[str, float]]:
    """Measure ``airflow-mlops validate`` over a directory, start to end."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_inputs(folder, _VALIDATED_FILES)
        command = [str(Path(sys.executable).with_name("airflow-mlops")), "validate", str(folder)]
        return [_run_timed(command) for _ in range(rounds)]


def _run_timed(command: Sequence[str]) -> dict[str, float]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit code {process.returncode}")
    return {"seconds": usage.ru_utime + usage.ru_stime, "peak_mib": usage.ru_maxrss / 1024}


def print_size(count: int, found: dict[str, Samples]) -> None:
    fresh, fork = found["fresh"], found["fork"]
    print(f"\n### {count} DAGs, medians of {len(fresh['ours'])}\n")
    head = [
        "",
        "fresh: ms/DAG",
        "× bare",
        "× whole",
        "own imports, ms",
        "peak MiB",
        "bytes/DAG",
        "fork: ms/DAG",
        "× bare",
    ]
    rows = []
    for side in fresh:
        new, forked = _median(fresh[side], "seconds") / count, _median(fork[side], "seconds") / count
        floors = [_median(fresh[floor], "seconds") / count for floor in ("bare", "whole")]
        rows.append(
            [
                _TITLES[side],
                f"{new * 1000:.2f}",
                *(f"{new / floor:.2f}" for floor in floors),
                f"{_median(fresh[side], 'import_seconds') * 1000:.0f}",
                f"{_median(fresh[side], 'peak_mib'):.0f} (+{_median(fresh[side], 'grown_mib'):.0f})",
                f"{_median(fresh[side], 'bytes'):.0f}",
                f"{forked * 1000:.2f}",
                f"{forked * count / _median(fork['bare'], 'seconds'):.2f}",
            ]
        )
    print_table(head, rows)
    same = fresh["ours"][0]["digest"] == fresh["whole"][0]["digest"]
    print(f"\nThe DAGs of this project and of «{_FLOORS['whole']}» are {'the same' if same else 'NOT the same'}.")
    print_each(found["each"])
    print_wanted(found["wanted"])


def print_each(each: Samples) -> None:
    rows = []
    for side, runs in each.items():
        took = _median(runs, "seconds")
        floors = [took / _median(each[floor], "seconds") for floor in ("bare", "whole")]
        rows.append([_TITLES[side], f"{took * 1000:.1f}", *(f"{floor:.2f}" for floor in floors)])
    print(f"\n{len(each['ours'])} files of one DAG, a fork for each:\n")
    print_table(["", "ms/file", "× bare", "× whole"], rows)


def print_wanted(samples: Samples) -> None:
    rows = [
        [title, *(f"{_median(runs, key) * 1000:.1f}" for key in ("seconds", "import_seconds"))]
        for title, runs in samples.items()
    ]
    print("\nA worker that needs one of them:\n")
    print_table(["", "ms", "own imports, ms"], rows)


def print_validation(runs: list[dict[str, float]]) -> None:
    print(
        f"\nairflow-mlops validate, {_VALIDATED_FILES} files: {_median(runs, 'seconds'):.2f} s CPU, "
        f"{_median(runs, 'peak_mib'):.0f} MiB, median of {len(runs)}"
    )


def print_table(head: list[str], rows: list[list[str]]) -> None:
    """Print Markdown."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    lines = [head, ["-" * width for width in widths], *rows]
    for line in lines:
        cells = [
            cell.ljust(width) if not column else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        print(f"| {' | '.join(cells)} |")


def _median(samples: list[dict[str, Any]], key: str) -> float:
    return float(statistics.median(sample[key] for sample in samples))


if __name__ == "__main__":
    main()
