"""How progress looks: one moving line on a terminal, plain lines with seconds elsewhere. Writes to a stream."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final, TextIO

_FRAMES: Final = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_ERASE_LINE: Final = "\r\x1b[K"
_REMINDER_SECONDS = 15.0


class Display:
    """Tells what is going on, and for how long.

    :param stream: standard error unless told; results go to standard output.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._moving = self._stream.isatty()
        self._started = time.monotonic()
        self._step_started = self._started
        self._reminded = self._started
        self._title = ""
        self._frame = 0

    @contextmanager
    def step(self, title: str, done: str = "", *, talkative: bool = False) -> Iterator[None]:
        """Show a step while it runs, and that it is done.

        :param done: said at the end instead of the title.
        :param talkative: the step writes lines of its own.
        """
        self._title, self._step_started, self._reminded = title, time.monotonic(), time.monotonic()
        own_line = talkative or not self._moving
        self._write(f"{self._clock()} {title} …\n" if own_line else f"  {title} …")
        try:
            yield
        except BaseException:
            self._write(f"{self._erase()}{self._clock()} ✗ {title}\n")
            raise
        seconds = time.monotonic() - self._step_started
        self._write(f"{self._erase()}{self._clock()} ✓ {done or title} ({seconds:.0f} s)\n")

    def progress(self, what: str) -> None:
        """Show that ``what`` is still being waited for; meant to be called often."""
        now = time.monotonic()
        if self._moving:
            self._frame = (self._frame + 1) % len(_FRAMES)
            waited = f"{_FRAMES[self._frame]} {self._title} … {now - self._step_started:.0f} s"
            self._write(f"{_ERASE_LINE}{waited}")
        elif now - self._reminded >= _REMINDER_SECONDS:
            self._reminded = now
            self._write(f"{self._clock()}   … still waiting: {what}\n")

    def say(self, text: str = "") -> None:
        """Write a line of its own."""
        self._write(f"{self._erase()}{text}\n")

    def _erase(self) -> str:
        return _ERASE_LINE if self._moving else ""

    def _clock(self) -> str:
        return f"[{time.monotonic() - self._started:4.0f} s]"

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


def table(header: Sequence[str], rows: Sequence[Sequence[str]], indent: str = "  ") -> str:
    """Lay out rows in columns."""
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    lines = [header, ["─" * width for width in widths], *rows]
    return "\n".join(
        indent + "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
