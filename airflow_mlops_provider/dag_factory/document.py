"""The text on a DAG's page: where it comes from, whose it is, which model it applies. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from airflow_mlops_provider.dag_factory.outline import build_outline
from airflow_mlops_provider.declaration.batch_spec import BatchSpec
from airflow_mlops_provider.declaration.jobs import MAIN_JOB
from airflow_mlops_provider.declaration.loader import EnvironmentModel


def build_document(model: EnvironmentModel, batch: BatchSpec, kind: str = MAIN_JOB) -> str:
    """Return Markdown: the declaration's own text, then the facts as a table."""
    outline = build_outline(model, batch, kind)
    rows = {
        "Model": model.selector(),
        "Environment": model.environment + (" (protected)" if model.settings.protected else ""),
        "Owner": model.owner,
        "Declared in": f"`{model.file}`",
        "Starts": outline["starts"],
        "Input": f"`{batch.input}`" if batch.input else "—",
        "Output": f"`{batch.output}`" if batch.output else "—",
        "Runs": "one process per partition" if model.settings.runner == "local" else "one pod per partition",
        "Partitions": batch.partitions,
        "Updates the asset": f"`{outline['reports']}`",
    }
    return render_document(model, rows)


def render_document(model: EnvironmentModel, rows: Mapping[str, object]) -> str:
    """Return the declaration's own text, then *rows* and the declared links as a table."""
    rows = {**rows, **{_cell(name): f"<{url}>" for name, url in model.declaration.links.items()}}
    table = "\n".join(f"| {name} | {_cell(value)} |" for name, value in rows.items())
    own = f"{model.doc.rstrip()}\n\n" if model.doc else ""
    return f"{own}| | |\n|---|---|\n{table}\n"


def _cell(value: object) -> str:
    return str(value).replace("|", chr(92) + "|")
