"""What all tests share: the order of the suites."""

from __future__ import annotations

import pytest

_ORDER = ("unit", "integration", "cluster")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Cheap suites first, so that a typo is not reported after a quarter of an hour."""
    items.sort(key=lambda item: next((i for i, name in enumerate(_ORDER) if f"/tests/{name}/" in str(item.path)), 0))
