"""Declarations that would make the same DAG, in one bundle or in two: Airflow would run whichever it parsed last.

Decides who collides with whom, from what each declaration calls its own; both sides are refused, because nobody can say
which was meant. Bundles learn of one another by a small file that each leaves beside its checkout, so that no network
and no database is asked; bundles whose checkouts lie on another machine are not seen. It reads declarations, and reads
and writes those files.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from airflow_mlops_provider.bundles.stubs import Checkout, nearest_environments, read_regular
from airflow_mlops_provider.declaration.collection import DeclaredNames, duplicate_problems, read_names
from airflow_mlops_provider.declaration.environment import Environments
from airflow_mlops_provider.declaration.loader import load_environments
from airflow_mlops_provider.exceptions import DeclarationError, Problem

#: Beside a bundle's checkouts, outside what Airflow parses and what a repository can write.
NAMES_FILE = "names.json"
#: Every refresh writes it anew: one this old was left by a DAG processor that has moved to another machine.
_FORGOTTEN_SECONDS = 86_400


@dataclass(frozen=True, slots=True)
class Neighbour:
    """Another bundle of this Airflow, and where its checkouts lie."""

    name: str
    directory: Path


class NameReader:
    """Reads what declarations call their own; a file that did not change is not read twice."""

    def __init__(self) -> None:
        self._known: dict[str, DeclaredNames | None] = {}

    def read(self, checkout: Checkout) -> dict[PurePosixPath, DeclaredNames]:
        """Return the names of every declaration that has some, reduced to the DAGs that this bundle builds."""
        seen: dict[str, DeclaredNames | None] = {}
        settings: dict[Path, Environments | None] = {}
        found: dict[PurePosixPath, DeclaredNames] = {}
        for declaration in checkout.declarations:
            content = read_regular(checkout.root / declaration) if declaration not in checkout.refused else None
            if content is None:
                continue
            digest = hashlib.sha256(content).hexdigest()
            names = self._known[digest] if digest in self._known else read_names(checkout.root / declaration)
            seen[digest] = names
            if names is None:
                continue
            file = checkout.environments or nearest_environments(checkout.root, declaration)
            if file not in settings:
                settings[file] = _read_environments(file)
            shown = str(PurePosixPath(checkout.prefix) / declaration)
            found[declaration] = replace(names, file=shown, dag_ids=_offered(names.dag_ids, checkout, settings[file]))
        self._known = seen
        return found


def find_duplicates(
    names: Mapping[PurePosixPath, DeclaredNames], neighbours: Sequence[Neighbour]
) -> dict[PurePosixPath, Problem]:
    """Return the problem of each own declaration whose DAGs another one would make as well."""
    by_file = {item.file: declaration for declaration, item in names.items()}
    everybody = [*names.values(), *(item for neighbour in neighbours for item in _read_neighbour(neighbour))]
    problems = duplicate_problems(everybody, same_dags=True)
    return {by_file[problem.file]: problem for problem in problems if problem.file in by_file}


def write_names(directory: Path, names: Mapping[PurePosixPath, DeclaredNames], *, scratch: Path) -> None:
    """Tell the neighbours. The caller holds the bundle's lock; readers see the old file or the new one."""
    items = [
        {"file": item.file, "line": item.line, "model": item.model, "dag_ids": item.dag_ids} for item in names.values()
    ]
    scratch.write_text(json.dumps(items), encoding="utf-8")
    os.replace(scratch, directory / NAMES_FILE)


def _read_neighbour(neighbour: Neighbour) -> Iterator[DeclaredNames]:
    path = neighbour.directory / NAMES_FILE
    content = read_regular(path)
    if content is None or time.time() - path.stat().st_mtime > _FORGOTTEN_SECONDS:
        return
    for item in json.loads(content):
        file = f"bundle {neighbour.name}, {item['file']}"
        yield DeclaredNames(file=file, line=item["line"], model=item["model"], dag_ids=tuple(item["dag_ids"]))


def _offered(dag_ids: Sequence[str], checkout: Checkout, environments: Environments | None) -> tuple[str, ...]:
    kept = []
    for dag_id in dag_ids:
        name = dag_id.partition(".")[0]
        settings = environments.get(name) if environments is not None else None
        if checkout.offer.includes(name, settings):
            kept.append(dag_id)
    return tuple(kept)


def _read_environments(file: Path) -> Environments | None:
    try:
        return load_environments(file)
    except DeclarationError:
        return None  # every declaration tells it
