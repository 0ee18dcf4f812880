"""What one call of ``mlops-runtime score`` is asked to do: flags first, then the environment, then defaults.

Checks what can be checked without I/O. The names of the variables are the batch container's contract
(``docs/model-runtime.md``).
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass

from mlops_runtime.errors import UsageError

FORMATS = ("parquet", "csv", "jsonl")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreSettings:
    """One scoring job.

    :param digest: ``sha256:<64 hex>`` of the artifact's ``MLmodel`` file, or empty: not checked.
    :param keep: columns copied beside the predictions; empty: every input column that is not a model input.
    :param keys_as_text: keep CSV key columns exactly as written instead of guessing their type.
    :param batch_rows: rows per prediction; 0: chosen from the width of a row.
    """

    model_uri: str
    digest: str
    tracking_uri: str
    input_uri: str
    input_format: str
    output_uri: str
    output_format: str
    keep: tuple[str, ...]
    keys_as_text: bool
    partition: int
    partitions: int
    batch_rows: int
    xcom_path: str


def build_settings(flags: Mapping[str, str | None], environment: Mapping[str, str]) -> ScoreSettings:
    """Merge flags over environment.

    :param flags: flag name without dashes (``model_uri``) → text, or ``None`` where it was not given.
    :raises UsageError: a required value is missing or one makes no sense.
    """

    def value(flag: str, variable: str, default: str = "") -> str:
        given = flags.get(flag)
        return (given if given is not None else environment.get(variable, default)).strip()

    def required(flag: str, variable: str) -> str:
        text = value(flag, variable)
        if not text:
            raise UsageError(f"{variable} is not set; set it or pass --{flag.replace('_', '-')}")
        return text

    partitions = _whole_number(value("partitions", "MLOPS_PARTITIONS") or "1", "MLOPS_PARTITIONS", 1)
    partition = _whole_number(value("partition", "MLOPS_PARTITION") or "0", "MLOPS_PARTITION", 0)
    if partition >= partitions:
        raise UsageError(f"MLOPS_PARTITION is {partition}, but there are {partitions}; use 0 to {partitions - 1}")
    return ScoreSettings(
        model_uri=required("model_uri", "MODEL_URI"),
        digest=parse_digest(value("model_digest", "MODEL_DIGEST")),
        tracking_uri=value("tracking_uri", "MLFLOW_TRACKING_URI"),
        input_uri=required("input", "INPUT_URI"),
        input_format=_format(value("input_format", "MLOPS_INPUT_FORMAT"), "--input-format"),
        output_uri=required("output", "OUTPUT_URI"),
        output_format=_format(value("format", "MLOPS_OUTPUT_FORMAT"), "--format"),
        keep=_names(value("keep", "MLOPS_KEY_COLUMNS")),
        keys_as_text=value("keys_as_text", "MLOPS_KEYS_AS_TEXT").lower() in ("1", "true", "yes"),
        partition=partition,
        partitions=partitions,
        batch_rows=_whole_number(value("batch_rows", "MLOPS_BATCH_ROWS") or "0", "MLOPS_BATCH_ROWS", 0),
        xcom_path=value("xcom_path", "MLOPS_XCOM_PATH"),
    )


def parse_digest(text: str) -> str:
    """Return a normalised ``sha256:…`` digest; empty stays empty.

    :raises UsageError: the text is no such digest.
    """
    digest = text.strip().lower()
    if digest and not _DIGEST.fullmatch(digest):
        raise UsageError(
            f"model digest {text!r} is not 'sha256:' and 64 hexadecimal digits; copy it from the resolved model"
        )
    return digest


def _whole_number(text: str, name: str, least: int) -> int:
    if not text.isdecimal() or int(text) < least:
        raise UsageError(f"{name} is {text!r}; use a whole number of at least {least}")
    return int(text)


def _format(text: str, flag: str) -> str:
    if text and text not in FORMATS:
        raise UsageError(f"{flag} is {text!r}; use {', '.join(FORMATS)}")
    return text


def _names(text: str) -> tuple[str, ...]:
    """Split like a CSV line, so that a name with a comma can be quoted."""
    names = [name.strip() for name in next(csv.reader([text], skipinitialspace=True), [])]
    return tuple(dict.fromkeys(name for name in names if name))
