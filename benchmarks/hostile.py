"""Can any input surprise the loader: mutated valid files, generated documents and noise, each accepted or refused.

Refused means: by a ``DeclarationError`` whose every line names file, line and column; for what is wrong with a value,
the field too. Anything else (a traceback, more CPU or memory than the bars) ends the run with the input that did it.
Prints counts, and the most CPU time and memory that one input took. Linux only:
``python benchmarks/hostile.py [--cases 20000] [--seed 0] [--json FILE]``. The test suite runs it with fewer cases.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from airflow_mlops_provider.declaration import load_declaration, load_environments
from airflow_mlops_provider.declaration.json_schema import build_schemas
from airflow_mlops_provider.exceptions import DeclarationError

DECLARATIONS = Path(__file__).resolve().parents[1] / "tests" / "declarations"
MAX_CPU_SECONDS = 0.1
MAX_MEMORY_BYTES = 200 * 1024 * 1024
#: What takes longer is judged again: the garbage collector and the machine's other work take their turns.
_SUSPICIOUS_SECONDS = 0.02
_REPEATS = 5
_AT_ONCE = 1000  # Hypothesis remembers all inputs of a run, and its own work grows with them
_LINE = re.compile(r"m\.yaml:\d+:\d+: .*\S")
_FIELD = re.compile(r"m\.yaml:\d+:\d+: (?!not YAML)[^:]*\w[^:]*: .*\S")
#: Share of the cases; the rest is noise.
_SHARES = {"mutated declarations": 0.5, "mutated environments": 0.1, "generated documents": 0.3}
_SNIPPETS = [
    *(b"&a ", b"*a", b"!x ", b"!!python/name:os.system ", b"<<: ", b"{{ conn }}", b"{% for i in range(10**9) %}"),
    *(b"- ", b": ", b"{", b"}", b"[", b"]", b"'", b'"', b"\n", b"\n  ", b"\t", b"---\n", b"...\n", b"? ", b"| \n"),
    *(b"null", b"true", b"-1", b"1e999", b"12:30", b"no", b"0x1", b"2026-13-45", b".inf", b"0" * 50, b"%", b"#"),
    *(b"\xff", b"\x00", b"\xef\xbb\xbf", b"\xf0\x9f\x92\xa9", b"\\ud800", b"\\0", b"\xe2\x80\xae", b"\r", b"[" * 30),
]


@dataclass
class Tally:
    """What became of all inputs."""

    accepted: int = 0
    refused: int = 0
    refused_with_field: int = 0
    problems: int = 0
    worst_cpu_seconds: float = 0.0
    worst_memory_bytes: int = 0
    kinds: Counter[str] = field(default_factory=Counter)

    def add(self, kind: str, problems: str | None, seconds: float, memory: int) -> None:
        self.kinds[kind] += 1
        self.worst_memory_bytes = max(self.worst_memory_bytes, memory)
        self.worst_cpu_seconds = max(self.worst_cpu_seconds, seconds)
        if problems is None:
            self.accepted += 1
            return
        lines = problems.split("\n")
        assert all(_LINE.fullmatch(line) for line in lines), problems
        self.refused += 1
        self.problems += len(lines)
        self.refused_with_field += any(_FIELD.fullmatch(line) for line in lines)


class Judge:
    """Gives one input after another to the loader."""

    def __init__(self, folder: Path) -> None:
        self.tally = Tally()
        self._file = folder / "m.yaml"
        self._environments = load_environments(DECLARATIONS / "environments.yaml")

    def declaration(self, kind: str, data: bytes) -> None:
        self._judge(kind, data, lambda: load_declaration(self._file, self._environments))

    def environments(self, kind: str, data: bytes) -> None:
        self._judge(kind, data, lambda: load_environments(self._file))

    def _judge(self, kind: str, data: bytes, load: Callable[[], object]) -> None:
        self._file.write_bytes(data)
        forget_peak()
        held = memory_bytes("VmRSS")
        problems, seconds = self._load(load)
        taken = max(0, memory_bytes("VmHWM") - held)
        for _ in range(_REPEATS):
            if seconds < _SUSPICIOUS_SECONDS:
                break
            seconds = min(seconds, self._load(load)[1])
        assert seconds < MAX_CPU_SECONDS, f"{seconds * 1000:.0f} ms of CPU"
        assert taken < MAX_MEMORY_BYTES, f"{taken >> 20} MiB"
        self.tally.add(kind, problems, seconds, taken)

    def _load(self, load: Callable[[], object]) -> tuple[str | None, float]:
        problems = None
        started = time.process_time()
        try:
            load()
        except DeclarationError as error:
            problems = str(error)
        seconds = time.process_time() - started
        return problems and problems.replace(str(self._file), "m.yaml"), seconds


def memory_bytes(field_name: str) -> int:
    """Return ``VmRSS``, what the process holds, or ``VmHWM``, the most it held since :func:`forget_peak`."""
    status = Path("/proc/self/status").read_text()
    return int(re.findall(rf"{field_name}:\s+(\d+) kB", status)[0]) * 1024


def forget_peak() -> None:
    """https://docs.kernel.org/filesystems/proc.html: writing 5 to clear_refs resets VmHWM."""
    Path("/proc/self/clear_refs").write_text("5")


def mutations(seeds: list[bytes]) -> st.SearchStrategy[bytes]:
    """Insert, remove, overwrite and repeat pieces of valid files."""
    snippet, letters = st.sampled_from(_SNIPPETS), st.text(st.characters(codec="utf-8"), max_size=3).map(str.encode)
    piece = st.one_of(snippet, snippet, letters, letters, st.binary(max_size=4))
    removed = st.sampled_from([0, 0, 0, 1, 1, 2, 5, 40])
    edit = st.tuples(st.floats(0, 1), removed, piece, st.sampled_from([0, 1, 1, 1, 2, 50]))

    def mutate(data: bytes, edits: list[tuple[float, int, bytes, int]]) -> bytes:
        for where, gone, inserted, times in edits:
            start = _character_border(data, int(where * len(data)))
            data = data[:start] + inserted * times + data[_character_border(data, start + gone) :]
        return data

    return st.builds(mutate, st.sampled_from(seeds), st.lists(edit, min_size=1, max_size=4))


def _character_border(data: bytes, position: int) -> int:
    """Go on to where a character begins: most mutants should get past the question whether they are UTF-8."""
    while position < len(data) and data[position] & 0xC0 == 0x80:
        position += 1
    return position


def documents() -> st.SearchStrategy[bytes]:
    """Well-formed YAML whose keys are the schema's own, and whose values are not."""
    names = sorted(_property_names(build_schemas()))
    text = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12)
    known = st.sampled_from(
        ["mlops/v1", "churn", "prod", "dev", "test", "s3://a/", "0 3 * * *", "1h", "4Gi", "{{ ds }}"]
    )
    scalar = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), text, known, st.dates())
    key = st.one_of(st.sampled_from(names), st.sampled_from(names), text)
    value = st.recursive(
        scalar,
        lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(key, inner, max_size=6)),
        max_leaves=25,
    )
    frame: dict[str, Any] = {"apiVersion": "mlops/v1", "model": "churn", "owner": "a@example.com", "experiment": "/x"}
    root = st.dictionaries(st.sampled_from(names), value, max_size=8)
    envs = st.dictionaries(st.sampled_from(["dev", "test", "prod", "prd"]), root, max_size=3)
    whole = st.builds(lambda own, places: {**frame, "environments": places, **own}, root, envs)
    flow = st.sampled_from([True, False, None])
    return st.builds(
        lambda tree, style: yaml.safe_dump(tree, default_flow_style=style, allow_unicode=True).encode(), whole, flow
    )


def noise() -> st.SearchStrategy[bytes]:
    """Bytes that mean something to a YAML parser, in no order."""
    parts = st.lists(st.one_of(st.sampled_from(_SNIPPETS), st.binary(max_size=6)), max_size=40)
    return parts.map(b"".join)


def _property_names(schema: Any) -> set[str]:
    if isinstance(schema, list):
        return set().union(*map(_property_names, schema))
    if not isinstance(schema, dict):
        return set()
    own = set(schema["properties"]) if isinstance(schema.get("properties"), dict) else set()
    return own.union(*map(_property_names, schema.values()))


def run(cases: int, seed_number: int) -> Tally:
    """Judge that many inputs.

    :raises AssertionError: or whatever else an input caused; Hypothesis shows the smallest such input.
    """
    with tempfile.TemporaryDirectory() as folder:
        judge = Judge(Path(folder))
        seeds = [path.read_bytes() for path in sorted((DECLARATIONS / "valid").glob("*.yaml"))]
        environments = [(DECLARATIONS / "environments.yaml").read_bytes()]
        kinds: dict[str, tuple[st.SearchStrategy[bytes], Callable[[str, bytes], None]]] = {
            "mutated declarations": (mutations(seeds), judge.declaration),
            "mutated environments": (mutations(environments), judge.environments),
            "generated documents": (documents(), judge.declaration),
            "noise": (noise(), judge.declaration),
        }
        left = cases
        for kind, (strategy, judged_by) in kinds.items():
            count = round(cases * _SHARES[kind]) if kind in _SHARES else left
            left -= count
            _run_kind(kind, count, seed_number, strategy, judged_by)
        return judge.tally


def _run_kind(
    kind: str, count: int, seed_number: int, strategy: st.SearchStrategy[bytes], judge: Callable[[str, bytes], None]
) -> None:
    done = 0
    while done < count:
        # Another seed goes on where Hypothesis ends, be it before its number because a strategy repeats itself.
        before = done

        @seed(seed_number * 1_000_003 + done)
        @settings(
            max_examples=min(count - done, _AT_ONCE),
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(data=strategy)
        def judge_one(data: bytes) -> None:
            nonlocal done
            done += 1
            judge(kind, data)

        judge_one()
        assert done > before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the figures there as well")
    arguments = parser.parse_args()
    tally = run(arguments.cases, arguments.seed)
    figures = {
        "cases": sum(tally.kinds.values()),
        "kinds": dict(tally.kinds),
        "accepted": tally.accepted,
        "refused": tally.refused,
        "refused_with_field": tally.refused_with_field,
        "problems": tally.problems,
        "worst_cpu_ms": round(tally.worst_cpu_seconds * 1000, 1),
        "worst_memory_mb": round(tally.worst_memory_bytes / 1e6, 1),
    }
    if arguments.json:
        arguments.json.write_text(json.dumps(figures))
    for name, value in figures.items():
        sys.stdout.write(f"{name:20} {value}\n")


if __name__ == "__main__":
    main()
