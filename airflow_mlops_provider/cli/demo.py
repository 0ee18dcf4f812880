"""``airflow-mlops demo``: the main job on this machine, from a trained model to predictions.

Decides the options, what a signal means and the exit code; the story itself is told in ``demo.story``. Does I/O.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from functools import partial
from importlib.util import find_spec
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_mlops_provider.demo.display import Display
    from airflow_mlops_provider.demo.process import DemoError
    from airflow_mlops_provider.demo.story import Settings

_NEEDED = ("airflow", "mlflow", "sklearn", "skops", "mlops_runtime")
_EXIT_USAGE = 2


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser("demo", help="train, tag, declare, run: the main job on this machine")
    parser.add_argument("--once", action="store_true", help="end after the result; exit 0 only if it is right")
    parser.add_argument("--cluster", action="store_true", help="run the job as a pod of the development cluster")
    parser.add_argument("--port", type=int, metavar="PORT", help="Airflow's port (default: a free one)")
    parser.add_argument("--mlflow-port", type=int, metavar="PORT", help="MLflow's port (default: a free one)")
    parser.add_argument("--keep", action="store_true", help="leave the directory with databases and logs")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Tell the story and return the exit code."""
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        print(f"not installed: {', '.join(missing)}; run `make demo` in a checkout", file=sys.stderr)
        return _EXIT_USAGE
    from airflow_mlops_provider.demo.display import Display
    from airflow_mlops_provider.demo.process import DemoError
    from airflow_mlops_provider.demo.story import Settings

    settings = Settings(
        airflow_port=arguments.port,
        mlflow_port=arguments.mlflow_port,
        cluster=arguments.cluster,
        keep=arguments.keep,
    )
    display = Display()
    with _Signals(display) as signals:
        try:
            return _tell(settings, display, once=arguments.once, signals=signals)
        except DemoError as error:
            _explain(error, display, keep=arguments.keep)
            return 1


def _tell(settings: Settings, display: Display, *, once: bool, signals: _Signals) -> int:
    from airflow_mlops_provider.demo.story import demonstrate, list_facts

    shown = False
    try:
        with demonstrate(settings, display, partial(print, flush=True), signals.leave) as ending:
            shown = True
            if not once:
                print(f"\nTo look at:\n{list_facts(ending.pages)}", flush=True)
                afterwards = "what they wrote stays" if settings.keep else "then everything is removed"
                display.say(f"\nBoth servers run until you press Ctrl-C; {afterwards}.")
            while not once:
                time.sleep(1)
                ending.check_servers()
    except KeyboardInterrupt:
        if not shown:
            raise
    return 0


class _Signals:
    """The first Ctrl-C, SIGTERM or SIGHUP begins an orderly end; further ones do not disturb it."""

    def __init__(self, display: Display) -> None:
        self._display = display
        self._leaving = False
        self._signalled = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> _Signals:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self._before[number] = signal.signal(number, self._end)
        return self

    def __exit__(self, *_reason: object) -> None:
        for number, handler in self._before.items():
            # After a signal the program ends with that signal's code; an impatient second one may not change it.
            signal.signal(number, signal.SIG_IGN if self._signalled else handler)

    def leave(self) -> None:
        """Say that the end has begun. Safe to call twice."""
        if not self._leaving:
            self._leaving = True
            self._display.say("\nEnding what was started …")

    def _end(self, number: int, _frame: FrameType | None) -> None:
        if not self._leaving:
            self.leave()
            self._signalled = True
            raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)


def _explain(error: DemoError, display: Display, *, keep: bool) -> None:
    display.say(f"\nThe demonstration failed: {error}")
    if error.tail:
        display.say("".join(f"  │ {line}\n" for line in error.tail).rstrip("\n"))
    if error.log:
        display.say(f"The log was {error.log}" + ("" if keep else "; run again with --keep to have it stay."))
