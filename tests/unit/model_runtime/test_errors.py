"""Messages hold no secrets; an unreachable server is told from one that says no."""

from __future__ import annotations

import pytest
from mlops_runtime.errors import InputError, UnreachableError, UsageError, is_unreachable, redact


def test_secrets_are_blanked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hunter2-hunter2")
    assert redact("https://me:secret@host/x failed for hunter2-hunter2") == "https://***@host/x failed for ***"


@pytest.mark.parametrize(
    ("problem", "expected"),
    [
        (ConnectionRefusedError("no"), True),
        (OSError("AWS Error NETWORK_CONNECTION during HeadObject: curlCode: 7"), True),
        (OSError("too many 503 error responses"), True),
        (OSError("ACCESS_DENIED"), False),
        (OSError("rows 500 to 503"), False),
    ],
)
def test_unreachable(problem: BaseException, expected: bool) -> None:
    assert is_unreachable(problem) is expected


def test_exit_codes() -> None:
    assert (InputError.exit_code, UsageError.exit_code, UnreachableError.exit_code) == (1, 2, 2)
