"""What all tests share: the order of the suites."""

from __future__ import annotations

import os
import shutil
import tempfile

import pytest

# Airflow reads its home when it is imported; the person's own must never be touched.
os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="mlops-airflow-home-")
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
os.environ["AIRFLOW__CORE__UNIT_TEST_MODE"] = "False"

_ORDER = ("unit", "integration", "cluster")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Cheap suites first, so that a typo is not reported after a quarter of an hour."""
    items.sort(key=lambda item: next((i for i, name in enumerate(_ORDER) if f"/tests/{name}/" in str(item.path)), 0))


def pytest_unconfigure() -> None:
    shutil.rmtree(os.environ["AIRFLOW_HOME"], ignore_errors=True)
