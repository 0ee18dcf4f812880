from __future__ import annotations

import socket
from pathlib import Path

import pytest

from airflow_mlops_provider.cli.main import main

DECLARATIONS = Path(__file__).parents[2] / "declarations"
ARGUMENTS = [
    str(DECLARATIONS / "valid" / "churn.yaml"),
    "--env",
    "prod",
    "--environments",
    str(DECLARATIONS / "environments.yaml"),
]


@pytest.mark.parametrize("command", ["resolve", "run"])
def test_without_a_server_it_says_how_to_name_one(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert main([command, *ARGUMENTS]) == 2
    assert "MLFLOW_TRACKING_URI" in capsys.readouterr().err


def test_a_declaration_with_problems_asks_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    file = str(DECLARATIONS / "invalid" / "types.yaml")
    assert main(["resolve", file, *ARGUMENTS[1:]]) == 1
    assert "apiVersion" in capsys.readouterr().err


def test_an_unreachable_server_is_2(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{unused.getsockname()[1]}"
        assert main(["resolve", *ARGUMENTS, "--tracking-uri", uri, "--timeout", "1"]) == 2
    assert uri.removeprefix("http://") in capsys.readouterr().err
