"""How problems speak of what people wrote: quoting, lists of choices, «did you mean».

Decides wording only; what is wrong is decided elsewhere. No I/O.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from difflib import get_close_matches

_LONGEST_QUOTE = 60


def quoted(value: object) -> str:
    """Return the value in quotes, on one line and at most 60 characters long."""
    text = str(value)
    shortened = text if len(text) <= _LONGEST_QUOTE else text[: _LONGEST_QUOTE - 1] + "…"
    return "'" + "".join(char if char.isprintable() else ascii(char)[1:-1] for char in shortened) + "'"


def choices(names: Iterable[str], *, last: str = "or") -> str:
    """Return ``a, b or c``."""
    listed = list(names)
    return f" {last} ".join(filter(None, [", ".join(listed[:-1]), *listed[-1:]]))


def suggestion(word: str, candidates: Collection[str]) -> str | None:
    """Return the candidate that was probably meant."""
    if len(word) > _LONGEST_QUOTE:  # difflib is quadratic, and nobody mistypes a name into this
        return None
    spelt = {candidate.lower(): candidate for candidate in candidates}
    close = get_close_matches(word.lower(), spelt, n=1, cutoff=0.6)
    return spelt[close[0]] if close else None


def advice(word: str, candidates: Collection[str]) -> str:
    """Return what to write instead: «did you mean X?», with all choices where they are few."""
    listed = f"use {choices(candidates)}" if candidates else "none exists here"
    meant = suggestion(word, candidates)
    if meant is None or len(candidates) == 1:
        return listed
    return f"did you mean {quoted(meant)}?" + (f" ({listed})" if len(candidates) <= 6 else "")
