"""The command line: ``mlops-runtime score | serve | fetch | packages | serving-runtime``. Maps every outcome to an exit
code and one line.

0 done · 1 the input or the state says no · 2 usage, or a system does not answer · 143 SIGTERM. A traceback means a bug.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
import traceback
from collections.abc import Sequence

from mlops_runtime import __version__
from mlops_runtime.cleanup import stop_on_signals
from mlops_runtime.errors import DONE, REFUSED, RuntimeProblem, UsageError, redact
from mlops_runtime.termination import write_termination_message

_MODEL_FLAGS = (
    ("--model-uri", "MODEL_URI", "models:/m-…, models:/name/7, runs:/…, or a local directory"),
    ("--model-digest", "MODEL_DIGEST", "sha256:<hex> of the artifact's MLmodel file"),
    ("--tracking-uri", "MLFLOW_TRACKING_URI", "MLflow server"),
)
_SCORE_FLAGS = (
    *_MODEL_FLAGS,
    ("--input", "INPUT_URI", "a file, a directory or a glob; local path, file://, s3://, gs://"),
    ("--input-format", "MLOPS_INPUT_FORMAT", "parquet, csv or jsonl, where file names do not say"),
    ("--output", "OUTPUT_URI", "ends in / or has no known ending: a directory of parts; else one file"),
    ("--format", "MLOPS_OUTPUT_FORMAT", "parquet (default), csv or jsonl"),
    ("--keep", "MLOPS_KEY_COLUMNS", "columns to keep beside the predictions, comma-separated"),
    ("--batch-rows", "MLOPS_BATCH_ROWS", "rows per prediction; 0: by the width of a row"),
    ("--partition", "MLOPS_PARTITION", "which part, from 0"),
    ("--partitions", "MLOPS_PARTITIONS", "how many parts"),
    ("--xcom-path", "MLOPS_XCOM_PATH", "where the result goes as JSON"),
)
_SERVE_FLAGS = (
    ("--model-dir", "MODEL_DIR", "directory with a model (default /mnt/models); without one, the URI is fetched"),
    *_MODEL_FLAGS,
    ("--model-name", "MODEL_NAME", "name of the model in the paths (default: model)"),
    ("--host", "MLOPS_HOST", "address to listen on (default 0.0.0.0)"),
    ("--port", "PORT", "port to listen on (default 8080)"),
    ("--workers", "MLOPS_WORKERS", "processes, each with a model of its own (default 1)"),
    ("--threads", "MLOPS_THREADS", "predictions at the same time in one process (default 1)"),
    ("--drain-seconds", "MLOPS_DRAIN_SECONDS", "how long to answer new requests after SIGTERM (default 5)"),
    ("--grace-seconds", "MLOPS_GRACE_SECONDS", "how long running requests may take after that (default 20)"),
)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser; every flag of ``score`` and ``serve`` overrides the variable named in its help."""
    parser = argparse.ArgumentParser(
        prog="mlops-runtime", description="Apply an MLflow model to files, serve it over HTTP, or fetch it."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="score | serve | fetch | packages | …")
    scoring = commands.add_parser("score", help="predict every row of the input and write the predictions")
    _add_flags(scoring, _SCORE_FLAGS)
    scoring.add_argument(
        "--keys-as-text",
        action="store_const",
        const="1",
        help="keep CSV key columns exactly as written [MLOPS_KEYS_AS_TEXT]",
    )
    _add_flags(commands.add_parser("serve", help="answer predictions over HTTP: v1, v2, /invocations"), _SERVE_FLAGS)
    fetching = commands.add_parser("fetch", help="download a model into a directory")
    fetching.add_argument("model_uri", metavar="MODEL_URI", help="mlflow://models:/m-…?digest=sha256:…, or a model URI")
    fetching.add_argument("destination", metavar="DEST")
    fetching.add_argument("--digest", help="sha256:<hex> of the artifact's MLmodel file [MODEL_DIGEST]")
    fetching.add_argument("--tracking-uri", help="MLflow server [MLFLOW_TRACKING_URI]")
    commands.add_parser("packages", help="print Python's version and all packages of this image as JSON")
    runtime = commands.add_parser("serving-runtime", help="print the ClusterServingRuntime of this image for KServe")
    runtime.add_argument("--image", required=True, help="the image's name in the manifest")
    runtime.add_argument("--packages", metavar="FILE", help="what `packages` printed in another image")
    runtime.add_argument("--name", default="mlops-mlflow", help="the runtime's name (default mlops-mlflow)")
    return parser


def _add_flags(parser: argparse.ArgumentParser, flags: Sequence[tuple[str, str, str]]) -> None:
    for flag, variable, text in flags:
        parser.add_argument(flag, metavar="VALUE", help=f"{text} [{variable}]")


def run_score(arguments: argparse.Namespace) -> None:
    """Score, then hand over the result."""
    from dataclasses import asdict

    from mlops_runtime.score import score
    from mlops_runtime.settings import build_settings
    from mlops_runtime.xcom import write_xcom

    settings = build_settings(vars(arguments), os.environ)
    write_xcom(asdict(score(settings)), settings.xcom_path)


def run_serve(arguments: argparse.Namespace) -> None:
    """Serve until SIGTERM."""
    from mlops_runtime.serving.server import serve
    from mlops_runtime.serving.settings import build_serve_settings

    serve(build_serve_settings(vars(arguments), os.environ))


def run_fetch(arguments: argparse.Namespace) -> None:
    """Fetch, then print the directory."""
    from mlops_runtime.fetch import fetch
    from mlops_runtime.sources import parse_source

    digest = arguments.digest if arguments.digest is not None else os.environ.get("MODEL_DIGEST", "")
    source = parse_source(arguments.model_uri, digest)
    path = fetch(source.uri, arguments.destination, source.digest, arguments.tracking_uri or "")
    sys.stdout.write(f"{path}\n")


def run_packages(arguments: argparse.Namespace) -> None:
    """Print what is installed."""
    from mlops_runtime.packages import list_packages

    sys.stdout.write(json.dumps(list_packages(), indent=2) + "\n")


def run_serving_runtime(arguments: argparse.Namespace) -> None:
    """Print the manifest that offers this image to KServe."""
    import yaml

    from mlops_runtime.packages import list_packages, read_packages
    from mlops_runtime.serving_runtime import build_serving_runtime

    packages = read_packages(arguments.packages) if arguments.packages else list_packages()
    manifest = build_serving_runtime(arguments.name, arguments.image, packages)
    sys.stdout.write(yaml.safe_dump(manifest, sort_keys=False, width=120))


_COMMANDS = {
    "score": run_score, "serve": run_serve, "fetch": run_fetch, "packages": run_packages,
    "serving-runtime": run_serving_runtime,
}  # fmt: skip
#: Commands whose last word goes into the pod's status. That of ``score`` is Airflow's: the kubelet's file holds XCom.
_SPEAKING = ("serve", "fetch")


def prepare_process() -> None:
    """Send what libraries cache below HOME to the temporary directory: the root may be read-only and HOME absent."""
    try:
        temporary = tempfile.gettempdir()
    except FileNotFoundError:  # nothing is writable; fetch makes a directory of its own beside what it fetches
        temporary = "/tmp"  # noqa: S108  # only a name here
    for name in ("XDG_CACHE_HOME", "MPLCONFIGDIR", "NUMBA_CACHE_DIR", "HF_HOME"):
        os.environ.setdefault(name, os.path.join(temporary, "mlops-cache"))
    # Without HOME, a user ID that is not in the password file has no home at all, and Path.home() raises.
    os.environ.setdefault("HOME", temporary)
    stop_on_signals()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    arguments = build_parser().parse_args(argv)
    try:
        prepare_process()
        _COMMANDS[arguments.command](arguments)
    except RuntimeProblem as problem:
        kind = " usage:" if isinstance(problem, UsageError) else ""
        text = f"mlops-runtime: error:{kind} {' '.join(redact(str(problem)).split())}"
        sys.stderr.write(f"{text}\n")
        _say_last(arguments.command, text)
        return problem.exit_code
    except Exception as problem:
        sys.stderr.write(redact(traceback.format_exc()))
        sys.stderr.write("mlops-runtime: error: this is a bug in mlops-runtime; report it with the lines above\n")
        _say_last(arguments.command, f"mlops-runtime: bug: {redact(repr(problem))}")
        return REFUSED
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    return DONE


def _say_last(command: str, text: str) -> None:
    if command in _SPEAKING:
        write_termination_message(text)
