"""From files to frozen objects: ``environments.yaml`` and ``models/*.yaml``.

Decides the order (read, merge, validate, check the policy) and that all problems of a file are told in one go. Fields,
rules and wording are decided by its neighbours. Reads the files it is given, nothing else: no configuration, no process
environment, no network.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from pydantic import ValidationError

from airflow_mlops_provider.declaration.batch_spec import BatchSpec
from airflow_mlops_provider.declaration.definitions import bind_definitions, read_templates
from airflow_mlops_provider.declaration.environment import Environment, Environments, EnvironmentsFile
from airflow_mlops_provider.declaration.jobs import batch_jobs, job_path, read_reference
from airflow_mlops_provider.declaration.known_part import known_part
from airflow_mlops_provider.declaration.model import ModelDeclaration, ModelFile
from airflow_mlops_provider.declaration.node import (
    MappingNode,
    Node,
    Place,
    dotted,
    find_key,
    find_value,
    is_null,
    merge,
    walk_leaves,
    without,
)
from airflow_mlops_provider.declaration.online_spec import OnlineSpec
from airflow_mlops_provider.declaration.policy import check_policy
from airflow_mlops_provider.declaration.problems import in_order, problem_at, schema_problems
from airflow_mlops_provider.declaration.selector import ModelSelector
from airflow_mlops_provider.declaration.wording import advice, quoted
from airflow_mlops_provider.declaration.yaml_document import read_document
from airflow_mlops_provider.exceptions import DeclarationError, PolicyError, Problem

#: The end of a dag_id: ``batch``, ``batch.<job>``, ``online`` or ``probe``.
Kind: TypeAlias = str
ENVIRONMENTS_FILE_NAME = "environments.yaml"
#: The same in every environment: they say which model and which schema this is.
_FIXED_FIELDS = ("apiVersion", "model", "environments")


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentModel:
    """One declared model in one environment: merged, valid and allowed there.

    :param file: the declaration, as messages call it.
    :param environment: name of the environment.
    :param settings: what the platform says of that environment.
    :param declaration: everything people wrote, defaults filled in.
    :param written: everything people wrote, each value with its place.
    """

    file: str
    environment: str
    settings: Environment
    declaration: ModelDeclaration
    written: MappingNode

    @property
    def origin(self) -> Mapping[str, tuple[str, int]]:
        """Dotted field → (file, line) of every value that was written; defaults are absent."""
        return {dotted(path): (node.file, node.line) for path, node in walk_leaves(self.written)}

    @property
    def model(self) -> str:
        return self.declaration.model

    @property
    def owner(self) -> str:
        return self.declaration.owner

    @property
    def description(self) -> str | None:
        return self.declaration.description

    @property
    def doc(self) -> str | None:
        return self.declaration.doc

    @property
    def tags(self) -> tuple[str, ...]:
        return self.declaration.tags

    @property
    def batch(self) -> BatchSpec | None:
        return self.declaration.batch

    @property
    def online(self) -> OnlineSpec | None:
        """The service, where there can be one: an environment of the local runner has no namespace to serve in."""
        return self.declaration.online if self.settings.namespace else None

    def selector(self) -> ModelSelector:
        """Return which model is meant here."""
        return self.settings.model.selector_for(self.declaration)

    def batch_jobs(self) -> Mapping[Kind, BatchSpec]:
        """Return every batch job by kind: ``batch`` and, of ``batch_jobs``, ``batch.weekly``."""
        return batch_jobs(self.declaration)

    def dag_id(self, kind: Kind) -> str:
        """Return ``prod.churn.batch`` or ``prod.churn.batch.weekly``."""
        return f"{self.environment}.{self.model}.{kind}"

    def dag_ids(self) -> tuple[str, ...]:
        """Return the DAG of each kind that is declared."""
        probe = self.online and self.online.probe
        specs = {**self.batch_jobs(), "online": self.online, "probe": probe}
        return tuple(self.dag_id(kind) for kind, spec in specs.items() if spec is not None)


def find_environments(path: str | Path, explicit: str | Path | None = None) -> Path:
    """Return the environments file for a declaration (or a directory of them).

    :param explicit: what a person or Airflow's configuration named; without it, ``environments.yaml`` in the nearest
        directory above ``path``, up to the root of the repository.
    :raises DeclarationError: there is none. Nothing is assumed: without environments, nothing is allowed.
    """
    if explicit:
        return Path(explicit)
    for directory in _directories_above(path):
        candidate = os.path.join(directory, ENVIRONMENTS_FILE_NAME)
        if os.path.isfile(candidate):
            return Path(candidate)
        if _is_repository(directory):
            break
    message = f"no {ENVIRONMENTS_FILE_NAME} beside it or above it; create one, or name it with --environments"
    raise DeclarationError([Problem(str(path), 0, 0, "", f"{message} or [mlops] environments_file")])


def find_repository(path: str | Path) -> str | None:
    """Return the root of the repository that holds ``path``, or None where it is in none."""
    return next(filter(_is_repository, _directories_above(path)), None)


def _directories_above(path: str | Path) -> Iterator[str]:
    """Yield the directory of a file (or the directory itself) and those above it, as text: this runs for every file."""
    directory = os.path.join(os.getcwd(), path)
    if not os.path.isdir(directory):
        directory = os.path.dirname(directory)
    above = None
    while directory != above:
        yield directory
        directory, above = os.path.dirname(directory), directory


def _is_repository(directory: str) -> bool:
    return os.path.exists(os.path.join(directory, ".git"))


def load_environments(path: str | Path) -> Environments:
    """Read ``environments.yaml``.

    :raises DeclarationError: with every problem of the file.
    """
    document = read_document(Path(path))
    templates, wrong = read_templates(document.root)
    problems = [*document.problems, *wrong]
    try:
        file = EnvironmentsFile.model_validate(document.root.plain())
    except ValidationError as error:
        problems += schema_problems(error, document.root, EnvironmentsFile)
        raise DeclarationError(in_order(problems)) from None
    if not problems:
        problems += bind_definitions(file, templates, document.root)
    if problems:
        raise DeclarationError(in_order(problems))
    return Environments(str(path), file.environments)


def load_declaration(
    path: str | Path, environments: Environments, *, shown_as: str | None = None
) -> tuple[EnvironmentModel, ...]:
    """Read one ``models/<name>.yaml`` and return its model in every environment it goes to, in the order written.

    :param shown_as: how messages call the file; default: the path as given.
    :raises PolicyError: it is well formed, but an environment does not allow what it asks for.
    :raises DeclarationError: it is not well formed. Either carries every problem of the file.
    """
    file = shown_as or str(path)
    document = read_document(Path(path), shown_as=file)
    problems = list(document.problems)
    loaded: list[EnvironmentModel] = []
    base = without(document.root, "environments")
    overlays = dict(_overlays(document.root, environments, problems))
    for name, overlay in overlays.items():
        merged = merge(base, overlay) if overlay.fields else base
        declaration = _validate(merged, problems)
        if declaration is not None:
            here = find_key(document.root, ("environments", name))
            problems += _check(declaration, merged, name, environments, here)
            loaded.append(_environment_model(file, name, environments[name], declaration, merged))
        elif (known := known_part(merged)) is not None:
            problems += _policy_problems(known, merged, name, environments)
    # An overlay hides what it replaces; where every one does, or there is none, nothing else has looked at the base.
    if all(overlay.fields for overlay in overlays.values()):
        _validate(base, problems, complete=not overlays)
    if problems:
        ordered = in_order(problems)
        raise (PolicyError if all(problem.rule for problem in ordered) else DeclarationError)(ordered)
    return tuple(loaded)


def _overlays(
    root: MappingNode, environments: Environments, problems: list[Problem]
) -> Iterator[tuple[str, MappingNode]]:
    """Yield the overlay of each environment that exists; say what is wrong with the others."""
    node = root.fields.get("environments")
    if not isinstance(node, MappingNode) or not node.fields:
        known = ", ".join(f"{name}: {{}}" for name in list(environments)[:3])
        problems.append(
            problem_at(
                find_key(root, ("environments",)), f"must say where the model goes; write for example {{{known}}}"
            )
        )
        return
    for name, overlay in node.fields.items():
        place = find_key(root, ("environments", name))
        if name not in environments:
            problems.append(
                problem_at(place, f"environment {quoted(name)} is unknown; {advice(name, list(environments))}")
            )
        elif isinstance(checked := _overlay(name, overlay, node), MappingNode):
            problems += _fixed_field_problems(checked)
            yield name, without(checked, *_FIXED_FIELDS)
        else:
            problems.append(problem_at(place, "must be a mapping of what differs here; write {} where nothing does"))


def _overlay(name: str, overlay: Node, environments: MappingNode) -> Node:
    """Return the overlay; ``prod:`` with nothing after it is an empty one."""
    if not is_null(overlay):
        return overlay
    return MappingNode(overlay.file, overlay.line, overlay.column, (*environments.path, name), {}, {})


def _fixed_field_problems(overlay: MappingNode) -> Iterator[Problem]:
    for field in _FIXED_FIELDS:
        if field in overlay.fields:
            yield problem_at(find_key(overlay, (field,)), "is the same in every environment; remove it here")


def _validate(merged: MappingNode, problems: list[Problem], *, complete: bool = True) -> ModelDeclaration | None:
    try:
        return ModelDeclaration.model_validate(merged.plain())
    except ValidationError as error:
        problems += schema_problems(error, merged, ModelFile, complete=complete)
        return None


def _check(
    declaration: ModelDeclaration, merged: MappingNode, name: str, environments: Environments, here: Place
) -> Iterator[Problem]:
    """Yield what only the environment can know."""
    settings = environments[name]
    needed = settings.model.needs()
    if getattr(declaration, needed) is None:
        yield problem_at(here, f"environment {quoted(name)} chooses the model by its {needed}; add the field {needed}")
    jobs = batch_jobs(declaration)
    if not jobs and declaration.online is None:
        yield problem_at(here, "there is nothing to do here; declare batch, batch_jobs or online")
    elif not jobs and settings.namespace is None:
        yield problem_at(here, "an online service needs a namespace, and the environment has none; remove it here")
    yield from _check_after(jobs, declaration.model, merged)
    yield from _policy_problems(declaration, merged, name, environments)


def _policy_problems(
    declaration: ModelDeclaration, merged: MappingNode, name: str, environments: Environments
) -> Iterator[Problem]:
    for violation in check_policy(declaration, environments[name]):
        place = find_value(merged, violation.path)
        yield problem_at(place, f"in {quoted(name)}: {violation.message}", rule=violation.rule)


def _check_after(jobs: Mapping[Kind, BatchSpec], model: str, merged: MappingNode) -> Iterator[Problem]:
    for kind, spec in jobs.items():
        for index, reference in enumerate(spec.after):
            if read_reference(reference) == (model, kind):
                place = find_value(merged, (*job_path(kind), "after", index))
                yield problem_at(place, "a job cannot start after itself; remove it")


def _environment_model(
    file: str, name: str, settings: Environment, declaration: ModelDeclaration, merged: MappingNode
) -> EnvironmentModel:
    return EnvironmentModel(file=file, environment=name, settings=settings, declaration=declaration, written=merged)
