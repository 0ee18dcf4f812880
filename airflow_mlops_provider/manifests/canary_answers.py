"""What two versions answered to the same request, made comparable.

Decides what a prediction is in each protocol's answer, and when two are equal. Pure, no I/O.
v1 and ``/invocations``: ``{"predictions": [...]}``; v2: ``{"outputs": [{"name", "shape", "data"}]}``, see
:mod:`.inference_service_request` for the specifications.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

_EXCERPT_CHARS: Final = 80


def read_predictions(body: str) -> list[Any]:
    """Return an answer's predictions, one per row.

    :raises ValueError: it holds none.
    """
    answer = json.loads(body)
    if isinstance(answer, Mapping) and isinstance(answer.get("outputs"), list):
        return _read_tensors(answer["outputs"])
    found = answer.get("predictions") if isinstance(answer, Mapping) else answer
    if found is None:
        raise ValueError("its answer holds neither 'predictions' nor 'outputs'")
    return found if isinstance(found, list) else [found]


def _read_tensors(outputs: Sequence[Any]) -> list[Any]:
    """Turn tensors, which hold one column each, into rows."""
    columns = {str(item.get("name")): _split(item) for item in outputs if isinstance(item, Mapping)}
    if not columns:
        raise ValueError("its answer has no output")
    count = max(len(rows) for rows in columns.values())
    return [
        {name: rows[number] if number < len(rows) else None for name, rows in columns.items()}
        for number in range(count)
    ]


def _split(tensor: Mapping[str, Any]) -> list[list[Any]]:
    flat = list(_flatten(tensor.get("data") or []))
    shape = tensor.get("shape") or [len(flat)]
    width = math.prod(shape[1:])
    if not width:
        return [[] for _ in range(shape[0])]
    return [flat[start : start + width] for start in range(0, len(flat), width)]


def _flatten(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        for item in value:
            yield from _flatten(item)
    else:
        yield value


def count_equal(stable: Sequence[Any], candidate: Sequence[Any], tolerance: float) -> tuple[int, str]:
    """Return how many predictions are equal, and the first two that are not; rows that only one has are not."""
    equal, difference = 0, ""
    for mine, theirs in zip(candidate, stable, strict=False):
        if are_equal(mine, theirs, tolerance):
            equal += 1
        elif not difference:
            difference = f"stable {_shown(theirs)}, candidate {_shown(mine)}"
    if not difference and len(stable) != len(candidate):
        difference = f"stable answered {len(stable)} predictions, candidate {len(candidate)}"
    return equal, difference


def are_equal(one: Any, other: Any, tolerance: float) -> bool:
    """Whether two predictions are equal: numbers within *tolerance* (relative, absolute below 1), all else exactly.

    NaN equals NaN: it stands for a missing value.
    """
    if _is_number(one) and _is_number(other):
        if math.isnan(one) or math.isnan(other):
            return math.isnan(one) and math.isnan(other)
        return math.isclose(one, other, rel_tol=tolerance, abs_tol=tolerance)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(are_equal(a, b, tolerance) for a, b in zip(one, other, strict=True))
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return set(one) == set(other) and all(are_equal(one[key], other[key], tolerance) for key in one)
    return type(one) is type(other) and bool(one == other)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _EXCERPT_CHARS else f"{text[:_EXCERPT_CHARS]}…"
