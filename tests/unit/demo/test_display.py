"""Progress on a terminal and elsewhere."""

from __future__ import annotations

import io

import pytest

from airflow_mlops_provider.demo import display as display_module
from airflow_mlops_provider.demo.display import Display, table


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_without_a_terminal_nothing_is_overwritten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(display_module, "_REMINDER_SECONDS", 0)
    stream = io.StringIO()
    display = Display(stream)
    with display.step("MLflow starts", "MLflow answers"):
        display.progress("MLflow")
    lines = stream.getvalue().splitlines()
    assert [line.split("] ", 1)[1] for line in lines] == [
        "MLflow starts …",
        "  … still waiting: MLflow",
        "✓ MLflow answers (0 s)",
    ]
    assert "\r" not in stream.getvalue()
    assert "\x1b" not in stream.getvalue()


def test_on_a_terminal_one_line_moves_and_is_erased() -> None:
    stream = Terminal()
    display = Display(stream)
    with display.step("MLflow starts"):
        display.progress("MLflow")
        display.progress("MLflow")
    assert stream.getvalue().count("\n") == 1
    assert stream.getvalue().endswith("✓ MLflow starts (0 s)\n")


def test_a_failed_step_is_marked() -> None:
    stream = io.StringIO()
    with pytest.raises(ValueError, match="no"), Display(stream).step("MLflow starts"):
        raise ValueError("no")
    assert stream.getvalue().endswith("✗ MLflow starts\n")


def test_a_table_is_aligned() -> None:
    assert table(["id", "x"], [["long name", "1"]], indent="") == "id         x\n─────────  ─\nlong name  1"
