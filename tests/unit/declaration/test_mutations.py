"""Whatever bytes a file holds, it is accepted or refused with its place; nothing else may happen."""

from __future__ import annotations

import re
import time
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_mlops_provider.declaration import Environments, load_declaration, load_environments
from airflow_mlops_provider.exceptions import DeclarationError

DECLARATIONS = Path(__file__).parents[2] / "declarations"
SEEDS = [path.read_bytes() for path in sorted((DECLARATIONS / "valid").glob("*.yaml"))]
ENVIRONMENTS = load_environments(DECLARATIONS / "environments.yaml")
SNIPPETS = [
    b"&a",
    b"*a",
    b"!x ",
    b"<<: ",
    b"{{ conn }}",
    b"- ",
    b": ",
    b"{",
    b"}",
    b"[",
    b"]",
    b"'",
    b'"',
    b"\n",
    b"\t",
    b"---\n",
]
SNIPPETS += [
    b"null",
    b"true",
    b"-1",
    b"1e999",
    b"\xff",
    b"\xf0\x9f\x92\xa9",
    b"\\ud800",
    b"\\0",
    b"? ",
    b"| \n",
    b"#",
    b"%",
    b"0" * 50,
]
LINE = re.compile(r"m\.yaml:\d+:\d+: .*\S")
#: Generous for a loaded machine; a file of this size takes about 1 ms.
MAX_SECONDS = 2.0

_edit = st.tuples(st.floats(0, 1), st.integers(0, 12), st.one_of(st.sampled_from(SNIPPETS), st.binary(max_size=4)))


def _mutate(seed: bytes, edits: list[tuple[float, int, bytes]]) -> bytes:
    for where, removed, inserted in edits:
        start = int(where * len(seed))
        seed = seed[:start] + inserted + seed[start + removed :]
    return seed


def _judge(data: bytes, folder: Path, environments: Environments) -> None:
    file = folder / "m.yaml"
    file.write_bytes(data)
    started = time.process_time()
    problems: str | None = None
    try:
        load_declaration(file, environments)
    except DeclarationError as error:
        problems = str(error).replace(f"{folder}/", "")
    assert time.process_time() - started < MAX_SECONDS
    if problems is not None:
        assert all(LINE.fullmatch(line) for line in problems.split("\n")), problems


@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
@given(seed=st.sampled_from(SEEDS), edits=st.lists(_edit, min_size=1, max_size=6))
def test_mutated_files_never_surprise(seed: bytes, edits: list[tuple[float, int, bytes]], tmp_path: Path) -> None:
    _judge(_mutate(seed, edits), tmp_path, ENVIRONMENTS)


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
@given(parts=st.lists(st.one_of(st.sampled_from(SNIPPETS), st.binary(max_size=6)), max_size=40))
def test_generated_bytes_never_surprise(parts: list[bytes], tmp_path: Path) -> None:
    _judge(b"".join(parts), tmp_path, ENVIRONMENTS)
