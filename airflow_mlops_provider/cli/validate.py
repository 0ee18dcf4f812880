"""``airflow-mlops validate``: everything that is wrong in declarations, before Airflow sees them.

Decides what is checked across files: every file by itself, then that no model is declared twice. Reads files, no
network.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlops_provider.cli.files import (
    ENVIRONMENTS_FILE_NAME,
    add_environments_option,
    explicit_environments,
    find_declarations,
)
from airflow_mlops_provider.cli.problem_output import Report, as_github, as_gitlab, as_json, as_text
from airflow_mlops_provider.exceptions import DeclarationError, Problem

if TYPE_CHECKING:
    from airflow_mlops_provider.declaration import EnvironmentModel, Environments


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
    checker = Checker(explicit_environments(arguments))
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
    """What is known so far about a set of files."""

    def __init__(self, explicit_environments: str | None) -> None:
        self._explicit = explicit_environments
        self._files: dict[str, None] = {}
        self._unchecked = 0
        self._problems: list[Problem] = []
        self._models: list[tuple[EnvironmentModel, ...]] = []
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
        problems = tuple(sorted({*self._problems, *duplicate_problems(self._models)}))
        return Report(len(self._files), self._unchecked, problems)

    def _check_declaration(self, file: Path) -> None:
        from airflow_mlops_provider.declaration import find_environments, load_declaration

        if file.parent not in self._nearest:
            self._nearest[file.parent] = find_environments(file, self._explicit)
        environments = self._load_environments(self._nearest[file.parent])
        if environments is None:
            self._unchecked += 1
        else:
            self._models.append(load_declaration(file, environments))

    def _load_environments(self, file: Path) -> Environments | None:
        """Return the environments, or None where they have problems, which are told once."""
        from airflow_mlops_provider.declaration import load_environments

        key = file.resolve()
        if key not in self._environments:
            self._environments[key] = None
            try:
                self._environments[key] = load_environments(_shown(file))
            except DeclarationError as error:
                self._files[_shown(file)] = None
                self._problems += error.problems
        return self._environments[key]


def duplicate_problems(models: Sequence[tuple[EnvironmentModel, ...]]) -> Iterator[Problem]:
    """Yield a problem for each file that declares a model which another file has declared already."""
    first: dict[str, EnvironmentModel] = {}
    for loaded in models:
        for model in loaded[:1]:
            other = first.setdefault(model.model, model)
            if other is not model:
                yield _duplicate(model, other)


def _duplicate(model: EnvironmentModel, other: EnvironmentModel) -> Problem:
    there = ":".join(map(str, other.origin["model"]))
    file, line = model.origin["model"]
    ids = (
        f" (its DAGs would be called {', '.join(model.dag_ids())} too)"
        if model.environment == other.environment
        else ""
    )
    return Problem(file, line, 1, "model", f"{model.model!r} is also declared in {there}{ids}; rename one of them")


def _shown(file: Path) -> str:
    """Return the path as short as it can be said from here."""
    try:
        return str(file.relative_to(Path.cwd()))
    except ValueError:
        return str(file)
