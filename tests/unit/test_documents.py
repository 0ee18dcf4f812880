"""What the README and the batch page show is what the code takes."""

from __future__ import annotations

import re
from pathlib import Path

from airflow_mlops_provider import load_model_dags

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: str, language: str) -> list[str]:
    return [text for kind, text in _BLOCK.findall((ROOT / page).read_text()) if kind == language]


def test_readme_declaration_and_environments_make_its_dags(tmp_path: Path) -> None:
    declaration, environments = blocks("README.md", "yaml")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "churn.yaml").write_text(declaration)
    (tmp_path / "environments.yaml").write_text(environments)
    assert set(load_model_dags(tmp_path / "models" / "churn.yaml")) == {"dev.churn.batch", "prod.churn.batch"}


def test_readme_commands_exist() -> None:
    from airflow_mlops_provider.cli.main import build_parser

    parser = build_parser()
    lines = [line for text in blocks("README.md", "bash") for line in text.splitlines()]
    commands = [line.partition("#")[0].split()[1:] for line in lines if line.startswith("airflow-mlops ")]
    assert commands
    for command in commands:
        parser.parse_args(command)


def test_batch_page_example_is_a_dag() -> None:
    (source,) = blocks("docs/batch.md", "python")
    module: dict[str, object] = {}
    exec(compile(source, "docs/batch.md", "exec"), module)
    from airflow_mlops_provider.operators.mlflow import MLflowModelBatchOperator

    assert MLflowModelBatchOperator in module.values()


def test_online_page_shows_what_becomes_dags(tmp_path: Path) -> None:
    declaration, environments = blocks("docs/online.md", "yaml")
    test = "  test: {namespace: ml-test, model: {run_tag: {stage: test}}}\n"
    notifiers = "notifiers: {growth-mail: {class: airflow.sdk.BaseNotifier}}\n"
    (tmp_path / "environments.yaml").write_text(environments + test + notifiers)
    plain = declaration.replace(", canary: {steps: [10, 50], bake: 15m}", "").replace("[growth-mail]", "[]")
    (tmp_path / "churn.yaml").write_text(plain)
    made = {f"{place}.churn.{kind}" for place in ("test", "prod") for kind in ("online", "probe")}
    assert set(load_model_dags(tmp_path / "churn.yaml")) == made


def test_linked_pages_exist() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / "README.md").read_text())
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
