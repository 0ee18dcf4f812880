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
_SPACES = re.compile(r"\s+")


def has_template(text: str) -> bool:
    """Whether Jinja would see anything in the text."""
    return _OPENING.search(text) is not None


def forbidden_expressions(text: str, allowed: Collection[str]) -> list[str]:
    """Return what is not allowed: other expressions, statements and whatever else opens like a template."""
    if not has_template(text):
        return []
    found = [_SPACES.sub(" ", match[1]).strip() for match in _EXPRESSION.finditer(text)]
    forbidden = [expression for expression in found if expression not in allowed]
    rest = _EXPRESSION.sub("", text)
    # Removing an expression may also join two braces that were apart; refusing that too costs nobody anything.
    forbidden += [rest[match.start() : match.start() + 40] for match in _OPENING.finditer(rest)]
    return forbidden
