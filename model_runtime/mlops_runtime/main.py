"""The command line: ``mlops-runtime score | fetch``. Maps every outcome to an exit code and one line.

0 done · 1 the input or the state says no · 2 usage, or a system does not answer · 143 SIGTERM. A traceback means a bug.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
import traceback
from collections.abc import Sequence

from mlops_runtime import __version__
from mlops_runtime.cleanup import stop_on_signals
from mlops_runtime.errors import DONE, REFUSED, RuntimeProblem, UsageError, redact

_SCORE_FLAGS = (
    ("--model-uri", "MODEL_URI", "models:/m-…, models:/name/7, runs:/…, or a local directory"),
    ("--model-digest", "MODEL_DIGEST", "sha256:<hex> of the artifact's MLmodel file"),
    ("--tracking-uri", "MLFLOW_TRACKING_URI", "MLflow server"),
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


def build_parser() -> argparse.ArgumentParser:
    """Return the parser; every flag of ``score`` overrides the variable named in its help."""
    parser = argparse.ArgumentParser(prog="mlops-runtime", description="Apply an MLflow model to files, or fetch one.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="score | fetch")
    scoring = commands.add_parser("score", help="predict every row of the input and write the predictions")
    for flag, variable, text in _SCORE_FLAGS:
        scoring.add_argument(flag, metavar="VALUE", help=f"{text} [{variable}]")
    scoring.add_argument(
        "--keys-as-text",
        action="store_const",
        const="1",
        help="keep CSV key columns exactly as written [MLOPS_KEYS_AS_TEXT]",
    )
    fetching = commands.add_parser("fetch", help="download a model into a directory")
    fetching.add_argument("model_uri", metavar="MODEL_URI")
    fetching.add_argument("destination", metavar="DEST")
    fetching.add_argument("--digest", help="sha256:<hex> of the artifact's MLmodel file [MODEL_DIGEST]")
    fetching.add_argument("--tracking-uri", help="MLflow server [MLFLOW_TRACKING_URI]")
    return parser


def run_score(arguments: argparse.Namespace) -> None:
    """Score, then hand over the result."""
    from dataclasses import asdict

    from mlops_runtime.score import score
    from mlops_runtime.settings import build_settings
    from mlops_runtime.xcom import write_xcom

    settings = build_settings(vars(arguments), os.environ)
    write_xcom(asdict(score(settings)), settings.xcom_path)


def run_fetch(arguments: argparse.Namespace) -> None:
    """Fetch, then print the directory."""
    from mlops_runtime.fetch import fetch
    from mlops_runtime.settings import parse_digest

    digest = arguments.digest if arguments.digest is not None else os.environ.get("MODEL_DIGEST", "")
    path = fetch(arguments.model_uri, arguments.destination, parse_digest(digest), arguments.tracking_uri or "")
    sys.stdout.write(f"{path}\n")


def prepare_process() -> None:
    """Send what libraries cache below HOME to the temporary directory: the root may be read-only and HOME absent."""
    for name in ("XDG_CACHE_HOME", "MPLCONFIGDIR", "NUMBA_CACHE_DIR", "HF_HOME"):
        os.environ.setdefault(name, os.path.join(tempfile.gettempdir(), "mlops-cache"))
    # Without HOME, a user ID that is not in the password file has no home at all, and Path.home() raises.
    os.environ.setdefault("HOME", tempfile.gettempdir())
    stop_on_signals()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    arguments = build_parser().parse_args(argv)
    try:
        prepare_process()
        {"score": run_score, "fetch": run_fetch}[arguments.command](arguments)
    except RuntimeProblem as problem:
        kind = " usage:" if isinstance(problem, UsageError) else ""
        sys.stderr.write(f"mlops-runtime: error:{kind} {' '.join(redact(str(problem)).split())}\n")
        return problem.exit_code
    except Exception:
        sys.stderr.write(redact(traceback.format_exc()))
        sys.stderr.write("mlops-runtime: error: this is a bug in mlops-runtime; report it with the lines above\n")
        return REFUSED
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    return DONE
