"""Which Jinja expressions a declared text holds.

Decides only between «these expressions» and «something I will not judge», and calls everything it cannot read
completely the latter. Renders nothing and does not import jinja2. No I/O.
"""

from __future__ import annotations

import re
from collections.abc import Collection

#: An expression without braces, so that nothing can be nested in it; ``{{-`` and ``-}}`` only strip white space.
_EXPRESSION = re.compile(r"\{\{[-+]?([^{}]*?)[-+]?\}\}")
_OPENING = re.compile(r"\{[{%#]")
_ENOUGH = 3
_SPACES = re.compile(r"\s+")


def has_template(text: str) -> bool:
    """Whether Jinja would see anything in the text."""
    return _OPENING.search(text) is not None


def forbidden_expressions(text: str, allowed: Collection[str]) -> list[str]:
    """Return what is not allowed: other expressions, statements and whatever else opens like a template.

    Ends with the third: one is enough to refuse the text, and a text may hold thousands.
    """
    forbidden: list[str] = []
    position = 0
    # From left to right, as Jinja reads: whatever opens first decides what the rest means.
    while len(forbidden) < _ENOUGH and (opening := _OPENING.search(text, position)):
        expression = _EXPRESSION.match(text, opening.start())
        if expression is None:
            return [*forbidden, text[opening.start() : opening.start() + 40]]
        inner = _SPACES.sub(" ", expression[1]).strip()
        forbidden += [] if inner in allowed else [inner]
        position = expression.end()
    return forbidden
