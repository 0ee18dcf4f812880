"""Problems in the formats that people and CI systems read.

Decides the formats; what is wrong was decided elsewhere. No I/O.
GitLab: https://docs.gitlab.com/ci/testing/code_quality/#code-quality-report-format
GitHub: https://docs.github.com/en/actions/reference/workflow-commands-for-github-actions
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

from airflow_mlops_provider.exceptions import Problem


@dataclass(frozen=True, slots=True)
class Report:
    """What came of a set of files.

    :param unchecked: declarations that could not be judged, because their ``environments.yaml`` has problems itself.
    """

    files: int
    unchecked: int
    problems: tuple[Problem, ...]

    @property
    def invalid(self) -> int:
        return len({problem.file for problem in self.problems})

    @property
    def valid(self) -> int:
        return self.files - self.invalid - self.unchecked


def as_text(report: Report) -> str:
    """Return one problem per line and the closing line."""
    return "\n".join([*map(str, report.problems), closing_line(report)])


def as_gitlab(report: Report) -> str:
    """Return a Code Quality report."""
    return json.dumps([_gitlab_entry(problem) for problem in report.problems], indent=2, ensure_ascii=False)


def as_github(report: Report) -> str:
    """Return one annotation per line and the closing line."""
    return "\n".join([*map(_github_line, report.problems), closing_line(report)])


def as_json(report: Report) -> str:
    """Return ``{"files": 12, "valid": 11, "unchecked": 0, "problems": [{"file": …, "line": …}]}``."""
    problems = [asdict(problem) for problem in report.problems]
    told = {"files": report.files, "valid": report.valid, "unchecked": report.unchecked, "problems": problems}
    return json.dumps(told, indent=2, ensure_ascii=False)


def closing_line(report: Report) -> str:
    """Return ``12 files, 11 valid, 1 with 3 problems``."""
    parts = [_count(report.files, "file"), f"{report.valid} valid"]
    if report.problems:
        parts.append(f"{report.invalid} with {_count(len(report.problems), 'problem')}")
    if report.unchecked:
        parts.append(f"{report.unchecked} not checked")
    return ", ".join(parts)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _text(problem: Problem) -> str:
    rule = f" [{problem.rule}]" if problem.rule else ""
    return (f"{problem.field}: " if problem.field else "") + problem.message + rule


def _gitlab_entry(problem: Problem) -> dict[str, object]:
    # Without the line, so that a problem that only moves is not reported as a new one.
    identity = "\0".join((problem.file, problem.field, problem.message))
    return {
        "description": _text(problem),
        "check_name": f"airflow-mlops/{problem.rule or 'declaration'}",
        "fingerprint": hashlib.sha256(identity.encode()).hexdigest(),
        "severity": "blocker" if problem.rule else "critical",
        "location": {"path": problem.file, "lines": {"begin": max(problem.line, 1)}},
    }


def _github_line(problem: Problem) -> str:
    place = [
        ("file", problem.file),
        ("line", max(problem.line, 1)),
        ("col", max(problem.column, 1)),
        ("title", "airflow-mlops"),
    ]
    properties = ",".join(f"{name}={_escaped(str(value), ',:')}" for name, value in place)
    return f"::error {properties}::{_escaped(_text(problem), '')}"


def _escaped(text: str, more: str) -> str:
    for char in "%\r\n" + more:
        text = text.replace(char, f"%{ord(char):02X}")
    return text
