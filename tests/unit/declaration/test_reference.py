from __future__ import annotations

import re
from pathlib import Path

import pytest

from airflow_mlops_provider.declaration.reference import render_reference

PAGE = Path(__file__).parents[3] / "docs" / "declaration-reference.md"


def test_page_is_the_generated_one() -> None:
    assert PAGE.read_text(encoding="utf-8") == render_reference(), (
        "run: airflow-mlops schema --markdown > docs/declaration-reference.md"
    )


@pytest.mark.parametrize(
    "row",
    [
        "| `model` | text | required | Name of the model, part of every DAG and object name. |",
        "| `retries` | whole number, 0 to 20 | `2` | How often a failed task is tried again. |",
        "| `retry_delay` | text such as `15m`, `2h` | `5m` | Wait before the first retry. |",
        "| `format` | `parquet`, `csv`, `jsonl` | – | Format of input and output; default: by file name. |",
        "| `catchup` | true or false | `false` | Run the intervals missed since start_date. |",
    ],
)
def test_rows_say_type_default_and_meaning(row: str) -> None:
    assert row in render_reference().splitlines()


def test_every_link_leads_to_a_section() -> None:
    page = render_reference()
    sections = {heading.lower() for heading in re.findall(r"^### (\w+)$", page, re.MULTILINE)}
    assert {target for target in re.findall(r"\]\(#([^)]*)\)", page)} == sections


def test_no_type_is_left_unsaid() -> None:
    assert "anything" not in render_reference()
