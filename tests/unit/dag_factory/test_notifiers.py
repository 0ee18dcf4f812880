from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_mlops_provider import load_model_dags
from airflow_mlops_provider.exceptions import DeclarationError

SMTP = "airflow.providers.smtp.notifications.smtp"
ENVIRONMENTS = """
apiVersion: mlops/v1
notifiers:
  mail:
    class: CLASS
    arguments: ARGUMENTS
environments:
  dev: {runner: local, model: {latest_run: true}, allow: {notifiers: [mail]}}
"""
DECLARATION = """
apiVersion: mlops/v1
model: churn
owner: me
experiment: /churn
batch: {input: /in, output: /out, notify: {on_failure: [mail]}}
environments: {dev: }
"""


def _project(folder: Path, class_path: str, **arguments: object) -> Path:
    text = ENVIRONMENTS.replace("CLASS", class_path).replace("ARGUMENTS", json.dumps(arguments))
    (folder / "environments.yaml").write_text(text)
    (folder / "churn.yaml").write_text(DECLARATION)
    return folder / "churn.yaml"


def test_named_notifier_is_the_dags_callback(tmp_path: Path) -> None:
    file = _project(tmp_path, f"{SMTP}.SmtpNotifier", to=["ops@example.com"], subject="{{ dag.dag_id }}")
    dag = load_model_dags(file)["dev.churn.batch"]
    (notifier,) = dag.on_failure_callback  # type: ignore[misc]
    assert type(notifier).__name__ == "SmtpNotifier"
    assert (notifier.to, notifier.subject) == (["ops@example.com"], "{{ dag.dag_id }}")  # type: ignore[union-attr]
    assert dag.on_success_callback is None


@pytest.mark.parametrize(
    ("class_path", "arguments", "message"),
    [
        ("airflow.providers.smtp.nowhere.SmtpNotifier", {}, "cannot be imported here: No module named"),
        (f"{SMTP}.SmtpNotifyer", {}, "cannot be imported here: module"),
        ("os.system", {}, "is no notifier of Airflow's"),
        (f"{SMTP}.SmtpNotifier", {"too": "x"}, "does not take these arguments: "),
    ],
)
def test_what_cannot_be_made_is_told_at_its_line_in_the_platforms_file(
    class_path: str, arguments: dict[str, object], message: str, tmp_path: Path
) -> None:
    file = _project(tmp_path, class_path, **arguments)
    with pytest.raises(DeclarationError) as refused:
        load_model_dags(file)
    expected = f"{tmp_path}/environments.yaml:5:12: notifiers.mail.class: '{class_path[:59]}"
    assert str(refused.value).startswith(expected)
    assert message in str(refused.value)


@pytest.mark.parametrize("named", [True, False])
def test_code_is_imported_only_for_those_who_use_it(named: bool, tmp_path: Path) -> None:
    file = _project(tmp_path, f"{SMTP}.SmtpNotifier", to="ops@example.com")
    if not named:
        file.write_text(DECLARATION.replace(", notify: {on_failure: [mail]}", ""))
    program = (
        "import sys; from airflow_mlops_provider import load_model_dags;"
        f"load_model_dags({str(file)!r}); print({SMTP!r} in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split()[-1] == str(named)
