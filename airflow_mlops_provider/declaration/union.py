"""Unions of which one field tells the kind: ``smoke_test: {from: input_example}``.

Decides how pydantic is told which field that is, and how a problem's location is read back: pydantic puts the kind
into it, the author did not. No I/O.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, LiteralString, get_args, get_origin

from pydantic import BaseModel, Discriminator, Tag

UNKNOWN_KIND: Final[LiteralString] = "unknown_kind"
#: Starts the kind in a location; no name of a field does.
_MARK: Final = "\0"


def kind(name: str) -> Tag:
    """Mark one member of a union: ``Annotated[Number, kind("number")]``."""
    return Tag(_MARK + name)


def chosen_by(field: str, *kinds: str, default: str | None = None) -> Discriminator:
    """Return what makes a union of members marked with :func:`kind` one that is chosen by *field*.

    Where the field is not written, a written field of the kind's own name tells it: ``{request: {…}}``.

    :param field: as it is written, alias included.
    :param default: the kind where nothing tells it.
    """

    def mark_of(value: Any) -> str | None:
        if isinstance(value, Mapping):
            named = next((name for name in kinds if value.get(name) is not None), default)
            found = named if value.get(field) is None else value[field]
        else:
            found = _attribute(value, field)
        return _MARK + found if isinstance(found, str) and found in kinds else None

    # Told by the message: a context would be a dictionary, and what annotates a type must be hashable.
    message = f"{field}: {','.join(kinds)}"
    return Discriminator(mark_of, custom_error_type=UNKNOWN_KIND, custom_error_message=message)


def read_unknown_kind(message: str) -> tuple[str, list[str]]:
    """Return the field and the kinds that an error of type ``UNKNOWN_KIND`` is about."""
    field, _, kinds = message.partition(": ")
    return field, kinds.split(",")


def _attribute(value: object, field: str) -> object:
    """Return the field of an object that was built in Python."""
    fields = type(value).model_fields if isinstance(value, BaseModel) else {}
    return next((getattr(value, name) for name, info in fields.items() if field in (name, info.alias)), None)


def is_kind(step: object) -> bool:
    """Whether a step of a location is a kind and nothing that was written."""
    return isinstance(step, str) and step.startswith(_MARK)


def member(annotation: Any, step: str) -> Any:
    """Return the member of the union somewhere in *annotation* that a location's step names."""
    arguments = get_args(annotation)
    if get_origin(annotation) is Annotated and any(isinstance(item, Tag) and item.tag == step for item in arguments):
        return arguments[0]
    return next((found for part in arguments if (found := member(part, step)) is not None), None)
