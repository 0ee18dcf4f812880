"""What the platform's templates add to a pod, in CEL: what ``declaration.template_wall`` says in Python.

Decides how a part of a template is known again after the API server has filled in its defaults: by the fields that say
where data comes from and which program runs. Pure, no I/O.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

Spec = Mapping[str, Any]


def judged_containers(templates: Sequence[Spec]) -> str:
    """Return the containers that rules about images and programs are asked: all but the templates' own."""
    ours = [_container(item) for template in templates for item in template.get("initContainers", ())]
    every = "dyn(object.spec.containers) + dyn(object.spec.?initContainers.orValue([])"
    return every + (f".filter(i, !{_any(ours)}))" if ours else ")")


def affinity_condition(templates: Sequence[Spec], field: str) -> str:
    """Return the condition that the node affinity in *field* is a template's."""
    found = [template.get("affinity", {}).get("nodeAffinity") for template in templates]
    return _any([f"dyn({field}) == {_dynamic(item)}" for item in found if item])


def class_condition(templates: Sequence[Spec], field: str) -> str:
    """Return the condition that the pod names no class, or one that a template names.

    :param field: ``priorityClassName`` or ``runtimeClassName``.
    """
    named = sorted({template[field] for template in templates if template.get(field)})
    return f"object.spec.?{field}.orValue('') in {_cel(['', *named])}"


def volume_condition(templates: Sequence[Spec], kind: str | None = None) -> str:
    """Return the condition that the volume ``v`` is a template's.

    :param kind: only volumes of this kind, ``secret``.
    """
    volumes = [item for template in templates for item in template.get("volumes", ())]
    return _any([_volume(item) for item in volumes if kind is None or kind in item])


def _container(item: Spec) -> str:
    variables = [
        f"(e.name == {_cel(e['name'])} && e.?value.orValue('') == {_cel(e['value'])})" for e in item.get("env", ())
    ]
    parts = [
        f"i.name == {_cel(item['name'])}",
        f"i.image == {_cel(item['image'])}",
        f"i.?command.orValue([]) == {_cel(item.get('command', []))}",
        f"i.?args.orValue([]) == {_cel(item.get('args', []))}",
        f"i.?env.orValue([]).all(e, {_any(variables)})",
        "size(i.?envFrom.orValue([])) == 0",
    ]
    return f"({' && '.join(parts)})"


def _volume(item: Spec) -> str:
    (kind,) = set(item) - {"name"}
    source, written = f"v.{kind}", item[kind]
    named = {
        "configMap": f"{source}.?name.orValue('') == {_cel(written.get('name'))}",
        "secret": f"{source}.?secretName.orValue('') == {_cel(written.get('secretName'))}",
        "persistentVolumeClaim": f"{source}.claimName == {_cel(written.get('claimName'))}"
        + (f" && {source}.?readOnly.orValue(false)" if written.get("readOnly") else ""),
        "emptyDir": "true",
    }
    # ``dyn``: the schema that the type checker sees ends at the claim's resources.
    condition = named[kind] if kind in named else _ephemeral(f"dyn({source}.volumeClaimTemplate.spec)", written)
    return f"(v.name == {_cel(item['name'])} && has({source}) && {condition})"


def _ephemeral(field: str, source: Spec) -> str:
    spec = source["volumeClaimTemplate"]["spec"]
    size = spec["resources"]["requests"]["storage"]
    # Where no class is named the API server fills in the cluster's own.
    storage_class = spec.get("storageClassName")
    parts = [
        f"{field}.?accessModes.orValue([]) == {_cel(spec['accessModes'])}",
        f"quantity({field}.resources.requests['storage']).compareTo(quantity({_cel(size)})) == 0",
        f"!has({field}.dataSource) && !has({field}.dataSourceRef) && !has({field}.volumeName)",
        *([f"{field}.?storageClassName.orValue('') == {_cel(storage_class)}"] if storage_class else []),
    ]
    return " && ".join(parts)


def _any(conditions: Sequence[str]) -> str:
    return f"({' || '.join(conditions)})" if conditions else "false"


def _dynamic(value: Any) -> str:
    """Return nested values as a CEL literal.

    ``dyn``: to CEL's type checker an object is no map, and a map has values of one type.
    """
    if isinstance(value, dict):
        return "dyn({" + ", ".join(f"{_cel(key)}: {_dynamic(item)}" for key, item in value.items()) + "})"
    if isinstance(value, list):
        return f"dyn([{', '.join(map(_dynamic, value))}])"
    return f"dyn({_cel(value)})"


def _cel(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
