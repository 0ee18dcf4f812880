"""``airflow-mlops resolve``: which model a declaration means right now.

Decides which server is asked: ``--tracking-uri`` or MLflow's own variables, since Airflow's connections are not known
here. How a model is found is the MLflow client's business. Reads files, asks the MLflow server.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace

from airflow_mlops_provider.cli.chosen_model import add_model_arguments, load_chosen_model
from airflow_mlops_provider.exceptions import PermanentError


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser("resolve", help="ask MLflow which model would be used now")
    add_model_arguments(parser)
    parser.add_argument("--tracking-uri", metavar="URL", help="the MLflow server; default: $MLFLOW_TRACKING_URI")
    parser.add_argument(
        "--timeout", type=float, default=30.0, metavar="SECONDS", help="give up on an unreachable server (default: 30)"
    )
    parser.add_argument("--output", choices=("text", "json"), default="text")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Ask, print, and return the exit code."""
    selector = load_chosen_model(arguments).selector()
    from airflow_mlops_provider.hooks.mlflow_client import resolve_model
    from airflow_mlops_provider.hooks.mlflow_settings import MLflowSettings

    try:
        settings = MLflowSettings.from_environment(tracking_uri=arguments.tracking_uri)
    except PermanentError as error:
        print(error, file=sys.stderr)
        return 2
    resolved = resolve_model(replace(settings, total_seconds=arguments.timeout), selector).to_dict()
    if arguments.output == "json":
        print(json.dumps(resolved, indent=2, ensure_ascii=False))
    else:
        width = max(map(len, resolved))
        print("\n".join(f"{key:<{width}}  {value}" for key, value in resolved.items() if value is not None))
    return 0
