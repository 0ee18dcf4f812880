"""Decides how progress looks: one line on stderr, opened by the seconds since the program began."""

from __future__ import annotations

import sys
import time

_BEGAN = time.monotonic()


def say(message: str) -> None:
    """Print one progress line."""
    print(f"[{time.monotonic() - _BEGAN:5.0f} s] {message}", file=sys.stderr, flush=True)
