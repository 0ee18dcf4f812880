"""What the README and the pages show is what the code takes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from airflow_mlops_provider import load_model_dags
from airflow_mlops_provider.cli.main import COMMANDS, build_parser

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: str, language: str) -> list[str]:
    return [text for kind, text in _BLOCK.findall((ROOT / page).read_text()) if kind == language]


def test_readme_declaration_and_environments_make_its_dags(tmp_path: Path) -> None:
    declaration, environments = blocks("README.md", "yaml")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "churn.yaml").write_text(declaration)
    (tmp_path / "environments.yaml").write_text(environments)
    assert set(load_model_dags(tmp_path / "models" / "churn.yaml")) == {
        "dev.churn.batch",
        "prod.churn.batch",
        "prod.churn.online",
    }


def test_readme_commands_exist() -> None:
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


PAGES = ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]


def test_every_yaml_of_the_pages_is_yaml_and_ours_is_loaded_by_a_test() -> None:
    ours = set()
    for page in PAGES:
        for text in blocks(page, "yaml"):
            documents = list(yaml.safe_load_all(text))
            assert all(isinstance(document, dict) for document in documents), page
            ours |= {page for document in documents if document["apiVersion"] == "mlops/v1"}
    # The first in tests/unit/declaration/test_examples.py, the others above. A further page needs a test as well.
    assert ours == {"docs/declarations.md", "docs/online.md", "README.md"}


def _commands(page: str) -> list[list[str]]:
    """Return the ``airflow-mlops`` command lines of a page that are whole, without what the shell does with them."""
    text = (ROOT / page).read_text()
    lines = re.findall(r"^(?:\$ )?airflow-mlops (.+)$", text, re.MULTILINE) + re.findall(r"`airflow-mlops (.+?)`", text)
    return [re.split(r"[#|>]", line)[0].split() for line in lines]


@pytest.mark.parametrize("page", PAGES)
def test_command_lines_of_the_pages_are_understood(page: str) -> None:
    parser = build_parser()
    for words in _commands(page):
        if len(words) == 1 or words == ["run", "--param", "threshold=0.7"]:  # a name, or an option shown by itself
            words = [*words, "--help"]
            with pytest.raises(SystemExit) as stopped:
                parser.parse_args(words)
            assert stopped.value.code == 0, words
        else:
            parser.parse_args(words)


def test_command_page_has_every_command_and_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    sections = (ROOT / "docs" / "cli.md").read_text().split("\n## `")[1:]
    told = {section.partition("`")[0].split()[0]: section for section in sections}
    assert set(told) == {command.__name__.rpartition(".")[2].replace("_", "-") for command in COMMANDS}
    for name, section in told.items():
        with pytest.raises(SystemExit):
            build_parser().parse_args([name, "--help"])
        known = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
        assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", section)) <= known, name
