from __future__ import annotations

from pathlib import Path

import pytest

from airflow_mlops_provider.declaration import load_declaration, load_environments
from airflow_mlops_provider.exceptions import DeclarationError

DECLARATIONS = Path(__file__).parents[2] / "declarations"
NOTIFIERS = """
apiVersion: mlops/v1
notifiers:
  mail: {class: airflow.providers.smtp.notifications.smtp.SmtpNotifier, arguments: {to: me@example.com}}
  nonsense: {class: "os; system", argument: {}}
environments:
  dev:
    runner: local
    model: {latest_run: true}
    notify: {on_failure: [mial], on_success: [mail]}
    allow: {notifiers: [mail, chat]}
"""


def _problems(text: str, folder: Path) -> list[str]:
    file = folder / "environments.yaml"
    file.write_text(text)
    with pytest.raises(DeclarationError) as refused:
        load_environments(file)
    return [line.removeprefix(f"{folder}/") for line in str(refused.value).splitlines()]


def test_definitions_are_checked_like_everything_else(tmp_path: Path) -> None:
    assert _problems(NOTIFIERS, tmp_path) == [
        "environments.yaml:5:21: notifiers.nonsense.class: is not spelt as it must be; it has to match "
        r"^[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)+$",
        "environments.yaml:5:35: notifiers.nonsense.argument: unknown field; did you mean 'arguments'? "
        "(use class or arguments)",
    ]


def test_names_that_nobody_defined_are_told_where_they_stand(tmp_path: Path) -> None:
    text = "".join(line for line in NOTIFIERS.splitlines(keepends=True) if "nonsense" not in line)
    assert _problems(text, tmp_path) == [
        "environments.yaml:9:27: environments.dev.notify.on_failure.0: 'mial' is not defined under notifiers; use mail",
        "environments.yaml:10:31: environments.dev.allow.notifiers.1: 'chat' is not defined under notifiers; use mail",
    ]


def test_a_declaration_that_says_nothing_gets_the_environments_notifiers() -> None:
    environments = load_environments(DECLARATIONS / "environments.yaml")
    test, prod = load_declaration(DECLARATIONS / "valid" / "notify.yaml", environments)
    told = {}
    for model in (test, prod):
        assert model.batch is not None
        chosen = model.settings.notifiers_for(model.batch.notify)
        told[model.environment] = {event: [item.name for item in items] for event, items in chosen.items()}
    assert told == {
        "test": {"on_failure": ["growth-mail"], "on_success": ["growth-mail"]},
        "prod": {"on_failure": ["ops-mail"], "on_success": []},
    }
