"""What the templates of an environment add to its pods, as the walls see it.

Decides what in a finished Pod (JSON types) is exactly a template's. A pod may have the parts of any template that
declarations may extend there: whoever may extend it could have had them anyway. No I/O.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from airflow_mlops_provider.declaration.environment import Environment


def is_from_a_template(part: Mapping[str, Any], kind: str, environment: Environment) -> bool:
    """Whether a volume or init container is one of a template's.

    :param kind: ``volumes`` or ``initContainers``.
    """
    # The security context is the frame's business, whatever it is.
    shown = {key: value for key, value in part.items() if key != "securityContext"}
    return any(shown == item for item in _parts(kind, environment))


def is_affinity_of_a_template(affinity: Mapping[str, Any], environment: Environment) -> bool:
    """Whether a node affinity is a template's."""
    templates = environment.templates.values()
    return any(affinity == template.spec.get("affinity", {}).get("nodeAffinity") for template in templates)


def named_by_templates(field: str, environment: Environment) -> set[str]:
    """Return the classes that templates name.

    :param field: ``priorityClassName`` or ``runtimeClassName``.
    """
    return {template.spec[field] for template in environment.templates.values() if field in template.spec}


def _parts(kind: str, environment: Environment) -> Iterator[Mapping[str, Any]]:
    for template in environment.templates.values():
        yield from template.spec.get(kind, ())
