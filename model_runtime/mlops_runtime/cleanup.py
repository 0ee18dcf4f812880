"""Leave nothing behind: actions to run at the end, whether it comes by return, by error or by signal.

A Python signal handler waits until the interpreter is between two bytecodes, and a model's native code may run for
minutes. So the signal only writes a byte into a pipe (``set_wakeup_fd``); a thread reads it, runs the actions and ends
the process.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_PATIENCE_SECONDS = 5.0  # a network that hangs must not hold up the end
_actions: list[Callable[[], None]] = []
_lock = threading.Lock()


@contextlib.contextmanager
def on_exit(action: Callable[[], None]) -> Iterator[None]:
    """Run ``action`` once, at the end of the block or when the process is told to stop within it."""
    with _lock:
        _actions.append(action)
    try:
        yield
    finally:
        with _lock:
            mine = action in _actions
            if mine:
                _actions.remove(action)
        if mine:
            action()


def _run_all() -> None:
    while True:
        with _lock:
            if not _actions:
                return
            action = _actions.pop()
        with contextlib.suppress(Exception):
            action()


def stop_on_signals() -> None:
    """Make SIGTERM end the process with 143 and SIGINT with 130, promptly and cleanly. Call in the main thread."""
    receiver, sender = os.pipe()
    os.set_blocking(sender, False)
    for number in _SIGNALS:
        signal.signal(number, lambda *_: None)
    signal.set_wakeup_fd(sender, warn_on_full_buffer=False)
    threading.Thread(target=_wait_and_stop, args=(receiver,), name="stop-on-signal", daemon=True).start()


def release_signals() -> None:
    """Undo :func:`stop_on_signals` for somebody who ends in an order of his own; what is open is closed by ``with``."""
    signal.set_wakeup_fd(-1)
    for number in _SIGNALS:
        # Not the default handler: uvicorn raises the signal once more when it is done, and the exit code is to be 0.
        signal.signal(number, lambda *_: None)


def _wait_and_stop(receiver: int) -> None:
    while True:
        number = os.read(receiver, 1)[0]
        if number in _SIGNALS:
            break
    sys.stderr.write(f"mlops-runtime: stopped by {signal.Signals(number).name}\n")
    sys.stderr.flush()
    worker = threading.Thread(target=_run_all, daemon=True)
    worker.start()
    worker.join(_PATIENCE_SECONDS)
    os._exit(128 + number)
