"""What the platform defines once for all environments of its file, and each environment names.

Decides that a name which nobody defined is a mistake, and hands every environment the definitions of its file. No I/O.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING

from pydantic import ValidationError

from airflow_mlops_provider.declaration.defined_template import DefinedTemplate
from airflow_mlops_provider.declaration.environment import Environment, EnvironmentsFile
from airflow_mlops_provider.declaration.node import MappingNode, Path, find_key, find_value
from airflow_mlops_provider.declaration.notifier import DefinedNotifier
from airflow_mlops_provider.declaration.problems import problem_at, schema_problems
from airflow_mlops_provider.declaration.template_check import template_problems
from airflow_mlops_provider.declaration.wording import advice, quoted
from airflow_mlops_provider.exceptions import Problem

if TYPE_CHECKING:
    from airflow_mlops_provider.declaration.pod_template import PodTemplate


def read_templates(root: MappingNode) -> tuple[dict[str, PodTemplate], list[Problem]]:
    """Return the file's templates, and what is wrong with them."""
    if "templates" not in root.fields:
        return {}, []
    from airflow_mlops_provider.declaration.pod_template import TemplatesPart

    try:
        return dict(TemplatesPart.model_validate({"templates": root.fields["templates"].plain()}).templates), []
    except ValidationError as error:
        return {}, schema_problems(error, root, TemplatesPart)


def bind_definitions(file: EnvironmentsFile, templates: Mapping[str, PodTemplate], root: MappingNode) -> list[Problem]:
    """Give each environment the definitions that it names, and return what is wrong with them.

    :param root: the document that the file was read from.
    """
    notifiers = {name: _placed(name, file, root) for name in file.notifiers}
    defined = {name: _placed_template(name, template, root) for name, template in templates.items()}
    for environment in file.environments.values():
        environment.define(notifiers=notifiers, templates=defined)
    unknown = [
        problem_at(find_value(root, path), f"{quoted(name)} is not defined under {kind}; {advice(name, known)}")
        for path, name, kind, known in _references(file)
        if name not in known
    ]
    wrong = [problem_at(find_value(root, path), message) for path, message in template_problems(file, templates)]
    return [*unknown, *wrong]


def _placed_template(name: str, template: PodTemplate, root: MappingNode) -> DefinedTemplate:
    place = find_key(root, ("templates", name))
    return DefinedTemplate(
        name=name, spec=template.pod_spec(), mounts=template.mounts(), file=place.file, line=place.line
    )


def _placed(name: str, file: EnvironmentsFile, root: MappingNode) -> DefinedNotifier:
    definition, place = file.notifiers[name], find_value(root, ("notifiers", name, "class"))
    return DefinedNotifier(
        name=name,
        class_path=definition.class_path,
        arguments=definition.arguments,
        file=place.file,
        line=place.line,
        column=place.column,
    )


def _references(file: EnvironmentsFile) -> Iterator[tuple[Path, str, str, Collection[str]]]:
    """Yield every name with its path, and what it may be."""
    for name, environment in file.environments.items():
        at = ("environments", name)
        for index, template in enumerate(environment.allow.templates):
            yield (*at, "allow", "templates", index), template, "templates", list(file.templates)
        for field, names in _notifiers_of(environment).items():
            for index, notifier in enumerate(names):
                yield (*at, *field, index), notifier, "notifiers", list(file.notifiers)


def _notifiers_of(environment: Environment) -> dict[tuple[str, str], tuple[str, ...]]:
    return {
        ("allow", "notifiers"): environment.allow.notifiers,
        ("notify", "on_failure"): environment.notify.on_failure or (),
        ("notify", "on_success"): environment.notify.on_success or (),
    }
