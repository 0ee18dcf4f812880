"""``airflow-mlops validate``: everything that is wrong in declarations, before Airflow sees them.

Decides what is checked across files: every file by itself, then that no model is declared twice, and in a
directory that no job waits for one that is not there. Reads files, no network.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlops_provider.cli.files import (
    ENVIRONMENTS_FILE_NAME,
    add_environments_option,
    explicit_environments,
    find_declarations,
    shown,
)
from airflow_mlops_provider.cli.problem_output import Report, as_github, as_gitlab, as_json, as_text
from airflow_mlops_provider.exceptions import DeclarationError, Problem

if TYPE_CHECKING:
    from airflow_mlops_provider.declaration import EnvironmentModel, Environments
    from airflow_mlops_provider.declaration.collection import DeclaredNames


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "validate", help="check declarations and environments.yaml; exit 1 if anything is wrong"
    )
    parser.add_argument(
        "paths", nargs="+", metavar="PATH", help="a declaration, or a directory with models/*.yaml below it"
    )
    add_environments_option(parser)
    parser.add_argument("--output", choices=("text", "json", "gitlab", "github"), default="text")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Check, print, and return the exit code."""
    try:
        files = find_declarations(arguments.paths)
    except FileNotFoundError as error:
        print(error, file=sys.stderr)
        return 2
    checker = Checker(explicit_environments(arguments), complete=any(Path(path).is_dir() for path in arguments.paths))
    for file in files:
        checker.check(file)
    report = checker.report()
    print(_RENDERERS[arguments.output](report))
    return 1 if report.problems else 0


_RENDERERS: dict[str, Callable[[Report], str]] = {
    "text": as_text,
    "json": as_json,
    "gitlab": as_gitlab,
    "github": as_github,
}


class Checker:
    """What is known so far about a set of files.

    :param complete: they are all there is, so that a job which waits for none of them waits in vain.
    """

    def __init__(self, explicit_environments: str | None, *, complete: bool) -> None:
        self._explicit = explicit_environments
        self._complete = complete
        self._files: dict[str, None] = {}
        self._unchecked = 0
        self._problems: list[Problem] = []
        self._models: list[EnvironmentModel] = []
        self._names: list[DeclaredNames] = []
        self._unreadable: list[str] = []
        self._environments: dict[Path, Environments | None] = {}
        self._nearest: dict[Path, Path] = {}

    def check(self, file: Path) -> None:
        """Check one file, a declaration or an ``environments.yaml``."""
        self._files[str(file)] = None
        try:
            if file.name == ENVIRONMENTS_FILE_NAME:
                self._load_environments(file)
            else:
                self._check_declaration(file)
        except DeclarationError as error:
            self._problems += error.problems

    def report(self) -> Report:
        """Return all problems by file and place."""
        problems = tuple(sorted({*self._problems, *self._problems_between_files()}))
        return Report(len(self._files), self._unchecked, problems)

    def _problems_between_files(self) -> Iterator[Problem]:
        from airflow_mlops_provider.declaration.collection import duplicate_problems, waiting_problems

        yield from duplicate_problems(self._names)
        if self._complete and not self._unchecked:
            dag_ids = {dag_id for names in self._names for dag_id in names.dag_ids}
            yield from waiting_problems(self._models, dag_ids, self._unreadable)

    def _check_declaration(self, file: Path) -> None:
        from airflow_mlops_provider.declaration import find_environments, load_declaration
        from airflow_mlops_provider.declaration.collection import names_of, read_names

        if file.parent not in self._nearest:
            self._nearest[file.parent] = find_environments(file, self._explicit)
        environments = self._load_environments(self._nearest[file.parent])
        if environments is None:
            self._unchecked += 1
            return
        names = None
        try:
            loaded = load_declaration(file, environments)
            self._models += loaded
            names = names_of(loaded)
        except DeclarationError:
            names = read_names(file)
            raise
        finally:  # what a broken file calls its own counts too
            if names is None:
                self._unreadable.append(file.stem)
            else:
                self._names.append(names)

    def _load_environments(self, file: Path) -> Environments | None:
        """Return the environments, or None where they have problems, which are told once."""
        from airflow_mlops_provider.declaration import load_environments

        key = file.resolve()
        if key not in self._environments:
            self._environments[key] = None
            try:
                self._environments[key] = load_environments(shown(file))
            except DeclarationError as error:
                self._files[shown(file)] = None
                self._problems += error.problems
        return self._environments[key]
