"""A DAG that stands for a broken declaration: seen by everybody, run by nobody. No I/O."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from airflow.sdk import DAG, BaseOperator
from airflow.sdk.exceptions import AirflowFailException

from airflow_mlops_provider.manifests.naming import label_value


class BrokenDeclarationOperator(BaseOperator):
    """Fail with the declaration's problems.

    :param problems: one a line, each with its place.
    """

    ui_color = "#f5d5d5"

    def __init__(self, *, problems: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.problems = problems

    def execute(self, context: Any) -> None:
        raise AirflowFailException(self.problems)


def build_notice_dag(file: Path, problems: str, *, name: str | None = None) -> DAG:
    """Return the DAG ``broken.<name>``, which shows *problems* on its page.

    :param name: tells apart what has the same file name; default: the file's, without its suffix.
    """
    lines = "\n".join(f"    {line}" for line in problems.splitlines())
    with DAG(
        f"broken.{label_value(name or file.stem)}",
        schedule=None,
        description=f"{file.name} cannot be used: {problems.splitlines()[0]}"[:250],
        doc_md=f"**{file.name} cannot be used.** Mend it and push again.\n\n{lines}\n",
        tags=["mlops", "broken"],
        default_args={"retries": 0},
    ) as dag:
        BrokenDeclarationOperator(task_id="show_problems", problems=problems)
    return dag
