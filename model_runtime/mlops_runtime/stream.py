"""Run an iterator in a thread, a few items ahead. No I/O of its own; errors arrive where the items would have.

Arrow reads and parses without the interpreter lock, so this hides reading behind loading and predicting.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")
_POLL_SECONDS = 0.2  # how soon a reader that nobody listens to gives up


@dataclass(frozen=True, slots=True)
class _Next(Generic[Item]):
    item: Item


@dataclass(frozen=True, slots=True)
class _End:
    problem: BaseException | None


@contextlib.contextmanager
def read_ahead(items: Iterator[Item], waiting: int = 2) -> Iterator[Iterator[Item]]:
    """Give the items of ``items``, produced by a thread that stops when the block ends.

    :param waiting: how many finished items may wait; this bounds the memory.

    """
    line: queue.Queue[_Next[Item] | _End] = queue.Queue(waiting)
    stopped = threading.Event()

    def put(entry: _Next[Item] | _End) -> bool:
        while not stopped.is_set():
            with contextlib.suppress(queue.Full):
                line.put(entry, timeout=_POLL_SECONDS)
                return True
        return False

    def produce() -> None:
        try:
            for item in items:
                if not put(_Next(item)):
                    return
            put(_End(None))
        except BaseException as problem:  # not handled but handed over, whatever it is
            put(_End(problem))

    thread = threading.Thread(target=produce, name="read-ahead", daemon=True)
    thread.start()
    try:
        yield _drain(line)
    finally:
        stopped.set()
        thread.join()


def _drain(line: queue.Queue[_Next[Item] | _End]) -> Iterator[Item]:
    while True:
        entry = line.get()
        if isinstance(entry, _End):
            if entry.problem is not None:
                raise entry.problem
            return
        yield entry.item
