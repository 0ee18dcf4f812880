"""The text on a DAG's page: where it comes from, whose it is, which model it applies. Pure."""

from __future__ import annotations

from airflow_mlops_provider.declaration.loader import EnvironmentModel
from airflow_mlops_provider.declaration.model import BatchSpec


def build_document(model: EnvironmentModel, batch: BatchSpec) -> str:
    """Return Markdown: the declaration's own text, then the facts as a table."""
    rows = {
        "Model": model.selector(),
        "Environment": model.environment + (" (protected)" if model.settings.protected else ""),
        "Owner": model.owner,
        "Declared in": f"`{model.file}`",
        "Input": f"`{batch.input}`" if batch.input else "—",
        "Output": f"`{batch.output}`" if batch.output else "—",
        "Runs": "one process per partition" if model.settings.runner == "local" else "one pod per partition",
        "Partitions": batch.partitions,
    }
    table = "\n".join(f"| {name} | {str(value).replace('|', chr(92) + '|')} |" for name, value in rows.items())
    own = f"{model.doc.rstrip()}\n\n" if model.doc else ""
    return f"{own}| | |\n|---|---|\n{table}\n"
