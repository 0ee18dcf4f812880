"""From what pydantic found to what a person reads: ``file:line:column: field: what is wrong; what to do``.

Decides wording and place of schema problems. Never repeats a value it was not written to repeat: values may be secrets.
No I/O.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from airflow_mlops_provider.declaration.field_types import TOGETHER
from airflow_mlops_provider.declaration.node import MappingNode, Path, Place, find_key, find_value
from airflow_mlops_provider.declaration.union import UNKNOWN_KIND, is_kind, member, read_unknown_kind
from airflow_mlops_provider.declaration.wording import advice, choices, quoted
from airflow_mlops_provider.exceptions import Problem

#: A file with more problems is not read to the end by anyone.
MAX_PROBLEMS = 100
_KINDS = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "mapping_type": "a mapping of 'key: value' lines",
    "dict_type": "a mapping of 'key: value' lines",
    "model_type": "a mapping of 'key: value' lines",
    "model_attributes_type": "a mapping of 'key: value' lines",
}
_ADVICE = {
    "int_type": "write for example 2",
    "int_from_float": "write for example 2",
    "float_type": "write for example 0.5",
}
#: What these words meant before YAML 1.2, and to many people still do.
_YAML_1_1 = {"yes": "true", "on": "true", "true": "true", "no": "false", "off": "false", "false": "false"}
_LIMITS = {"greater_than_equal": ("ge", "at least"), "less_than_equal": ("le", "at most")}
_CONTAINERS = (Mapping, tuple, dict)
_LITERAL = re.compile(r"'([^']*)'")


def schema_problems(
    error: ValidationError, root: MappingNode, schema: type[BaseModel], *, complete: bool = True
) -> list[Problem]:
    """Return a problem for each error, at the place where the field was written.

    :param complete: False where something is still to be laid over ``root``, which may add what is missing.
    """
    details = error.errors(include_url=False, include_input=True)
    if not complete:
        details = [detail for detail in details if detail["type"] not in ("missing", TOGETHER)]
    within = {detail["loc"][:-1] for detail in details}
    # Of a list whose entries are wrong, pydantic also says that it is too short: they do not count.
    details = [detail for detail in details if detail["type"] != "too_short" or detail["loc"] not in within]
    return [_problem(detail, root, schema) for detail in details[:MAX_PROBLEMS]]


def problem_at(place: Place, message: str, *, rule: str = "") -> Problem:
    return Problem(place.file, place.line, place.column, place.field, message, rule)


def in_order(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Return the problems of a file by place, each once, and not without end."""
    ordered = sorted(set(problems))
    rest = len(ordered) - MAX_PROBLEMS
    if rest > 0:
        last = ordered[MAX_PROBLEMS - 1]
        ordered[MAX_PROBLEMS:] = [
            Problem(last.file, last.line, last.column, "", f"{rest} more problems follow; mend these first")
        ]
    return tuple(ordered)


def _problem(detail: ErrorDetails, root: MappingNode, schema: type[BaseModel]) -> Problem:
    context = detail.get("ctx", {})
    error = detail["type"]
    at_key = detail["loc"][-1:] == ("[key]",)
    steps: Path = tuple(step for step in detail["loc"] if step != "[key]")
    path: Path = tuple(step for step in steps if not is_kind(step))
    if context.get("field"):
        path = (*path, context["field"])
    if error == UNKNOWN_KIND and isinstance(detail.get("input"), Mapping):
        path = (*path, read_unknown_kind(detail["msg"])[0])
    if error == "extra_forbidden":
        candidates = _fields_at(schema, steps[:-1])
        return problem_at(find_key(root, path), f"unknown field; {advice(str(path[-1]), candidates)}")
    place = find_key(root, path) if at_key or error == "missing" else find_value(root, path)
    return problem_at(place, _message(detail, error, context))


def _message(detail: ErrorDetails, kind: str, context: Mapping[str, Any]) -> str:
    if kind in ("refused", TOGETHER):
        return str(context["text"])
    if kind == "value_error":
        return str(context["error"])
    if kind == "missing":
        return "is missing; add it"
    if kind == "literal_error":
        return _literal_message(detail.get("input"), _LITERAL.findall(str(context.get("expected", ""))))
    if kind == UNKNOWN_KIND:
        return _unknown_kind_message(detail.get("input"), detail["msg"])
    if kind in _KINDS:
        return _kind_message(kind, detail.get("input"))
    if kind in _LIMITS:
        bound, words = _LIMITS[kind]
        return f"is out of range; it must be {words} {context[bound]}"
    return _length_message(kind, context)


def _literal_message(written: object, allowed: list[str]) -> str:
    if not isinstance(written, str):
        return f"must be text; use {choices(allowed)}"
    return f"{quoted(written)} is unknown; {advice(written, allowed)}"


def _unknown_kind_message(union: object, message: str) -> str:
    if not isinstance(union, Mapping):
        return _kind_message("model_type", union)
    field, allowed = read_unknown_kind(message)
    written = union.get(field)
    return f"is missing; write one of {choices(allowed)}" if written is None else _literal_message(written, allowed)


def _kind_message(kind: str, written: object) -> str:
    found = _kind_of(written)
    return f"must be {_KINDS[kind]}, not {found}; {_kind_advice(kind, written, found)}"


def _kind_advice(kind: str, written: object, found: str) -> str:
    if found == "empty":
        return "fill it or remove it"
    if kind == "string_type":
        return "put it in quotes" if found in ("a number", "a fraction", "true or false") else "write one value"
    if kind == "bool_type":
        meant = _YAML_1_1.get(written.lower()) if isinstance(written, str) else None
        return f"write {meant or 'true or false'} without quotes"
    if kind == "tuple_type":
        return "write [a, b], or one '- ' line for each entry"
    if kind in ("int_type", "float_type") and found == "text":
        return "write it without quotes"
    return _ADVICE.get(kind, "indent its fields below it")


def _kind_of(value: object) -> str:
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number" if isinstance(value, int) else "a fraction"
    if isinstance(value, str):
        return "text"
    return "a mapping" if isinstance(value, Mapping) else "a list"


def _length_message(kind: str, context: Mapping[str, Any]) -> str:
    if kind in ("too_short", "string_too_short"):
        return "is empty; fill it or remove it"
    if kind in ("too_long", "string_too_long"):
        return f"is too long; at most {context.get('max_length')} " + (
            "characters" if kind.startswith("string") else "entries"
        )
    if kind == "finite_number":
        return "must be a finite number"
    if kind == "string_pattern_mismatch" and "\\x00" not in str(context.get("pattern")):
        return f"is not spelt as it must be; it has to match {context.get('pattern')}"
    if kind == "string_pattern_mismatch":
        return "holds characters that are not allowed here (control characters or line breaks); remove them"
    return f"is not valid ({kind.replace('_', ' ')}); see the schema"


def _fields_at(schema: type[BaseModel], steps: Path) -> list[str]:
    """Return the names that a mapping may have at the place that a location names."""
    annotation: Any = schema
    for step in steps:
        annotation = _step(annotation, step)
    model = _model_in(annotation)
    return [field.alias or name for name, field in model.model_fields.items()] if model else []


def _step(annotation: Any, step: str | int) -> Any:
    if isinstance(step, str) and is_kind(step):
        return member(annotation, step)
    bare = _unwrapped(annotation)
    if get_origin(bare) in _CONTAINERS:  # the step is an entry's key or index
        return next(part for part in reversed(get_args(bare)) if part is not ...)
    model = _model_in(bare)
    for name, field in model.model_fields.items() if model else ():
        if step == (field.alias or name):
            return field.annotation
    return None


def _unwrapped(annotation: Any) -> Any:
    """Return the first member of a union that is more than None."""
    if get_origin(annotation) in (None, *_CONTAINERS) or not get_args(annotation):
        return annotation
    return _unwrapped(next((part for part in get_args(annotation) if part is not type(None)), None))


def _model_in(annotation: Any) -> type[BaseModel] | None:
    bare = _unwrapped(annotation)
    return bare if isinstance(bare, type) and issubclass(bare, BaseModel) else None
