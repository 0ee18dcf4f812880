"""``airflow-mlops run``: apply a declared model on this machine, under the contract a pod gets.

Decides how the interval of a run is given on the command line and how a declared template is filled in without Airflow.
Resolves over the network (MLflow's own environment variables say where) and starts a process.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_mlops_provider.cli.chosen_model import add_model_arguments, load_chosen_model
from airflow_mlops_provider.exceptions import PermanentError

if TYPE_CHECKING:
    from airflow_mlops_provider.declaration.batch_spec import BatchSpec
    from airflow_mlops_provider.declaration.loader import EnvironmentModel
    from airflow_mlops_provider.hooks.mlflow_settings import MLflowSettings

_NAME = re.compile(r"\{\{-?\s*(\w+(?:\.\w+)?)\s*-?\}\}")


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "run",
        help="apply the model on this machine, as a pod would",
        description="MLFLOW_TRACKING_URI and MLflow's credential variables say where the model is looked up.",
    )
    add_model_arguments(parser)
    parser.add_argument("--job", metavar="NAME", help="which of batch_jobs; default: the one of batch")
    parser.add_argument(
        "--param", action="append", default=[], metavar="NAME=VALUE", help="a declared parameter; may be repeated"
    )
    parser.add_argument("--interval-start", type=_moment, metavar="TIME", help="ISO 8601; default: today, 00:00 UTC")
    parser.add_argument("--interval-end", type=_moment, metavar="TIME", help="ISO 8601; default: a day later")
    parser.add_argument(
        "--partition", type=int, metavar="N", help="0-based; default: one process takes the whole input"
    )
    parser.add_argument("--input-uri", metavar="URI", help="score this instead of the declared input")
    parser.add_argument("--output-uri", metavar="URI", help="write there instead of to the declared output")
    parser.add_argument("--output", choices=("text", "json"), default="text")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Resolve, run to the end, print the result, and return the exit code."""
    from airflow_mlops_provider.hooks.local_process import LocalProcess
    from airflow_mlops_provider.hooks.mlflow_settings import MLflowSettings

    model = load_chosen_model(arguments)
    batch = _chosen_job(model, arguments.job)
    try:
        settings = MLflowSettings.from_environment()
    except PermanentError as error:
        print(error, file=sys.stderr)
        return 2
    command, variables = _program(model, batch, settings, arguments)
    result = LocalProcess(command, variables, lambda line: print(line, file=sys.stderr, flush=True)).run(
        timeout_seconds=batch.timeout.total_seconds() if batch.timeout else None
    )
    if arguments.output == "json":
        print(json.dumps({"model_uri": variables["MODEL_URI"], "result": result}, ensure_ascii=False, indent=2))
    else:
        print(f"{variables['MODEL_URI']}: " + (json.dumps(result, ensure_ascii=False) if result else "done"))
    return 0


def _chosen_job(model: EnvironmentModel, name: str | None) -> BatchSpec:
    """Return the job that the arguments name; the only one need not be named."""
    from airflow_mlops_provider.declaration.jobs import MAIN_JOB, job_name
    from airflow_mlops_provider.declaration.wording import advice, quoted

    jobs = model.batch_jobs()
    if not jobs:
        raise PermanentError(f"{model.file}: {model.model} has no batch job; declare batch:, or choose another model")
    kind = f"{MAIN_JOB}.{name}" if name else MAIN_JOB
    if kind in jobs:
        return jobs[kind]
    names = [named for job in jobs if (named := job_name(job))]
    if name:
        raise PermanentError(f"{model.file}: no job of batch_jobs is called {quoted(name)}; {advice(name, names)}")
    if len(jobs) == 1:
        return next(iter(jobs.values()))
    raise PermanentError(
        f"{model.file}: {model.model} has several batch jobs; name one with --job {' or '.join(names)}"
    )


def _program(
    model: EnvironmentModel, batch: BatchSpec, settings: MLflowSettings, arguments: argparse.Namespace
) -> tuple[list[str], dict[str, str]]:
    from airflow_mlops_provider.dag_factory.pod_arguments import program_variables
    from airflow_mlops_provider.declaration.standard_runtime import STANDARD_COMMAND
    from airflow_mlops_provider.hooks.mlflow_client import MLflowClient
    from airflow_mlops_provider.manifests.contract import build_contract

    interval = _interval(arguments)
    params = read_params(batch, arguments.param)
    values = {**_template_values(*interval), **{f"params.{name}": value for name, value in params.items()}}
    with MLflowClient(settings) as client:
        resolved = client.resolve_model(model.selector())
    contract = build_contract(
        resolved.to_dict(),
        tracking_uri=settings.tracking_uri,
        environment=model.environment,
        data_interval=(interval[0].isoformat(), interval[1].isoformat()),
        partition=arguments.partition or 0,
        partitions=batch.partitions if arguments.partition is not None else 1,
        input_uri=arguments.input_uri or fill_in(batch.input, values),
        output_uri=arguments.output_uri or fill_in(batch.output, values),
        parameters=params,
    )
    own = {name: fill_in(value, values) or "" for name, value in program_variables(model, batch).items()}
    command = [fill_in(part, values) or "" for part in (*(batch.command or STANDARD_COMMAND), *(batch.args or ()))]
    return command, {**own, **contract, **settings.credential_variables()}


def read_params(batch: BatchSpec, given: list[str]) -> dict[str, Any]:
    """Return the job's parameters: ``NAME=VALUE`` where given, otherwise the default.

    :raises PermanentError: one is not declared, or its value does not fit.
    """
    from airflow_mlops_provider.declaration.parameters import read_value
    from airflow_mlops_provider.declaration.wording import advice, quoted

    values = {name: parameter.form_default() for name, parameter in batch.params.items()}
    for item in given:
        name, equals, text = item.partition("=")
        if not equals:
            raise PermanentError(f"--param {item}: has no value; write {item}=VALUE")
        if name not in batch.params:
            raise PermanentError(f"--param {item}: {quoted(name)} is not declared; {advice(name, list(batch.params))}")
        try:
            values[name] = read_value(batch.params[name], text)
        except ValueError as error:
            raise PermanentError(f"--param {item}: {error}") from None
    return values


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not ISO 8601; write 2026-01-31T00:00:00+00:00") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _interval(arguments: argparse.Namespace) -> tuple[datetime, datetime]:
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    start: datetime = arguments.interval_start or midnight
    return start, arguments.interval_end or start + timedelta(days=1)


def _template_values(start: datetime, end: datetime) -> dict[str, str]:
    day = start.strftime("%Y-%m-%d")
    return {
        "ds": day,
        "ds_nodash": day.replace("-", ""),
        "ts": start.isoformat(),
        "ts_nodash": start.strftime("%Y%m%dT%H%M%S"),
        "logical_date": str(start),
        "data_interval_start": str(start),
        "data_interval_end": str(end),
        "run_id": f"local__{start.isoformat()}",
    }


def fill_in(text: str | None, values: dict[str, Any]) -> str | None:
    """Return *text* with ``{{ ds }}`` and its kin filled in.

    :raises PermanentError: it holds what only Airflow can render.
    """
    if text is None:
        return None
    filled = _NAME.sub(lambda match: str(values.get(match[1], match[0])), text)
    if "{{" in filled or "{%" in filled:
        raise PermanentError(
            f"{text!r} can only be rendered by Airflow; here {', '.join(sorted(values))} are known. "
            "Give --input-uri and --output-uri instead"
        )
    return filled
