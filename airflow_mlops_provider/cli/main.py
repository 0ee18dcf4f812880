"""``airflow-mlops``: the command line.

Decides which commands exist and what an exit code means: 0 done, 1 the input or the state says no, 2 usage or an
unreachable system. Each command is a module of its own and imports what it needs when it runs, so that the program
starts at once; none imports Airflow or mlflow here. Does no I/O beyond the standard streams.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from airflow_mlops_provider import __version__
from airflow_mlops_provider.cli import admission_policy, demo, explain, resolve, run, schema, validate
from airflow_mlops_provider.exceptions import MLOpsProviderError, TransientError

#: In the order of ``--help``. A command module has ``register(subparsers)``, which sets ``run``: arguments → exit code.
COMMANDS = (validate, explain, resolve, run, schema, admission_policy, demo)

EXIT_NO = 1
EXIT_UNREACHABLE = 2
_EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells report it


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="airflow-mlops", description="From a tagged MLflow run to batch jobs and services."
    )
    parser.add_argument("--version", action="version", version=f"airflow-mlops {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.register(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = build_parser().parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except MLOpsProviderError as error:
        print(error, file=sys.stderr)
        return EXIT_UNREACHABLE if isinstance(error, TransientError) else EXIT_NO
    except KeyboardInterrupt:
        return _EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader, `head` for example, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_NO


if __name__ == "__main__":
    sys.exit(main())
