"""A template of the platform as environments know it. Pure data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class DefinedTemplate:
    """A template that an environment allows.

    :param spec: what is added to the pod's spec, as JSON types; what the model's container mounts is not in it.
    :param mounts: what the model's container mounts.
    :param file: the platform's, as messages call it.
    """

    name: str
    spec: Mapping[str, Any]
    mounts: Sequence[Mapping[str, Any]]
    file: str
    line: int
