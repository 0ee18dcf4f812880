"""Score files: read, predict, write, overlapped and in bounded memory. ``score`` is the order of events.

A thread reads and types the next batches while the model loads and predicts; two wait at most. Nothing is published
before the last row is predicted, so every error leaves the former output as it was.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_runtime.cleanup import on_exit
from mlops_runtime.encoders import Encoder
from mlops_runtime.errors import ModelError, one_line, redact
from mlops_runtime.inputs import Chunk, InputPlan, empty_keys, plan_input, read_chunks, to_model_input
from mlops_runtime.locations import Location, list_input_files
from mlops_runtime.model import (
    Model,
    download_model,
    list_mismatches,
    load_model,
    local_model_path,
    read_mlmodel,
    set_mlflow_defaults,
    verify_digest,
)
from mlops_runtime.output import DigestingFile, choose_target, open_part, refuse_strangers, translated
from mlops_runtime.partitions import FileShare
from mlops_runtime.predictions import empty_predictions, fit_schema, join_predictions, name_predictions
from mlops_runtime.settings import ScoreSettings
from mlops_runtime.signature import Signature, parse_signature
from mlops_runtime.stream import read_ahead

if TYPE_CHECKING:
    import pyarrow as pa

_REPORT_SECONDS = 10.0
_SHOWN_DIFFERENCES = 8
_STDERR = sys.stderr  # a model may replace it


@dataclass(frozen=True, slots=True)
class ScoreResult:
    """What a run did; the fields are the XCom keys."""

    rows: int
    seconds: float
    output_uri: str
    output_digest: str
    model_uri: str
    model_digest: str
    input_uri: str
    input_files: int
    partition: int
    partitions: int


def score(settings: ScoreSettings) -> ScoreResult:
    """Run one scoring job.

    A repeated call of the same partition replaces its own part and nothing else.

    :raises RuntimeProblem: see ``errors``; nothing was published.
    """
    started = time.monotonic()
    set_mlflow_defaults(settings.tracking_uri)
    target, output_format = choose_target(
        settings.output_uri, settings.output_format, settings.partition, settings.partitions
    )
    files = list_input_files(settings.input_uri, settings.input_format)
    refuse_strangers(target, settings.partitions)
    with _model_directory(settings) as directory:
        digest = verify_digest(directory, settings.digest, settings.model_uri)
        signature = parse_signature(read_mlmodel(directory))
        plan = plan_input(settings, signature, files)
        log(
            f"{len(plan.shares)} of {len(files)} files, partition {settings.partition} of {settings.partitions}, "
            f"{plan.batch_rows} rows a batch"
        )
        with read_ahead(read_chunks(plan, plan.shares)) as chunks:
            if differences := list_mismatches(directory):
                shown = ", ".join(differences[:_SHOWN_DIFFERENCES])
                more = len(differences) - _SHOWN_DIFFERENCES
                log(f"warning: the model was trained with {shown}" + (f" and {more} more" if more > 0 else ""))
            scorer = Scorer(load_model(directory, settings.model_uri), signature, plan)
            output_digest = scorer.write(chunks, target, output_format)
    seconds = round(time.monotonic() - started, 3)
    log(f"done: {scorer.progress.rows:,} rows in {seconds} s → {target}")
    return ScoreResult(
        scorer.progress.rows, seconds, str(target), output_digest, redact(settings.model_uri), digest,
        redact(settings.input_uri), len(plan.shares), settings.partition, settings.partitions,
    )  # fmt: skip


def log(text: str) -> None:
    """Write one line of progress."""
    _STDERR.write(f"mlops-runtime: {redact(text)}\n")
    _STDERR.flush()


@contextlib.contextmanager
def _model_directory(settings: ScoreSettings) -> Iterator[Path]:
    local = local_model_path(settings.model_uri)
    if local:
        yield local
        return
    scratch = Path(tempfile.mkdtemp(prefix="mlops-model-"))
    with on_exit(lambda: shutil.rmtree(scratch, ignore_errors=True)):
        yield download_model(settings.model_uri, scratch)


class Progress:
    """Counts rows and says so now and then."""

    def __init__(self) -> None:
        self.rows = 0
        self._size_bytes = 0
        self._started = self._reported = time.monotonic()

    def add(self, chunk: Chunk) -> None:
        self.rows += chunk.features.num_rows
        self._size_bytes += chunk.features.nbytes + chunk.keys.nbytes
        now = time.monotonic()
        if now - self._reported >= _REPORT_SECONDS:
            self._reported = now
            speed = self.rows / max(now - self._started, 1e-9)
            log(f"{self.rows:,} rows, {speed:,.0f} rows/s, {self._size_bytes / 1e6:,.1f} MB of columns")


class Scorer:
    """A loaded model, what it is fed with, and what becomes of its answers."""

    def __init__(self, model: Model, signature: Signature, plan: InputPlan) -> None:
        self._model = model
        self._signature = signature
        self._plan = plan
        self.progress = Progress()

    def write(self, chunks: Iterator[Chunk], target: Location, output_format: str) -> str:
        """Predict all chunks, publish the part and return its digest."""
        first = next(chunks, None)
        batch = self.predict(first) if first else self._predict_nothing()
        with translated(target):
            part = open_part(target)
            with on_exit(part.discard):
                file = DigestingFile(part)
                encoder = Encoder(file, batch.schema, output_format)
                encoder.write(batch)
                for chunk in chunks:
                    encoder.write(fit_schema(self.predict(chunk), encoder.schema))
                encoder.close()
                part.commit()
        return file.digest

    def predict(self, chunk: Chunk) -> pa.RecordBatch:
        """Return kept columns and predictions of one chunk.

        :raises ModelError: the model raised, or did not return one prediction per row.
        """
        rows = chunk.features.num_rows
        try:
            result = self._model.predict(to_model_input(chunk.features, self._signature))
            named = name_predictions(result, rows, chunk.keys.schema.names)
        except (Exception, SystemExit) as problem:
            reason = str(problem) if isinstance(problem, ModelError) else one_line(problem)
            raise ModelError(
                f"{chunk.file}: the model failed on rows {chunk.row} to {chunk.row + rows - 1} (counted from 0): "
                f"{reason}"
            ) from problem
        self.progress.add(chunk)
        return join_predictions(chunk.keys, named, self._signature)

    def _predict_nothing(self) -> pa.RecordBatch:
        """Return no rows with the columns that the other partitions write: one foreign row shows the model's types."""
        everything = [FileShare(index) for index in range(len(self._plan.files))]
        sample = next(read_chunks(self._plan, everything), None)
        if sample is None:
            return join_predictions(empty_keys(self._plan), empty_predictions(self._signature), self._signature)
        one = replace(sample, features=sample.features.slice(0, 1), keys=sample.keys.slice(0, 1))
        batch = self.predict(one).slice(0, 0)
        self.progress = Progress()
        return batch
