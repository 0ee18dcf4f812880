from __future__ import annotations

import pytest

from airflow_mlops_provider.declaration.node import dotted, find_value, merge, walk_leaves, without
from airflow_mlops_provider.declaration.yaml_document import parse_document


@pytest.mark.parametrize(
    ("base", "overlay", "merged"),
    [
        ("a: 1", "b: 2", {"a": 1, "b": 2}),
        ("a: {b: 1, c: 2}", "a: {c: 3}", {"a": {"b": 1, "c": 3}}),
        ("a: [1, 2]", "a: [3]", {"a": (3,)}),
        ("a: {b: 1}", "a: text", {"a": "text"}),
        ("a: text", "a: {b: 1}", {"a": {"b": 1}}),
        ("a: {b: 1, c: 2}", "a: {b: null}", {"a": {"c": 2}}),
        ("a: {b: 1}\nc: 2", "a: null", {"c": 2}),
        ("a: 1", "typo: null", {"a": 1, "typo": None}),
        ("a: null", "a: {b: 1}", {"a": {"b": 1}}),
    ],
)
def test_merge(base: str, overlay: str, merged: dict[str, object]) -> None:
    documents = [parse_document(text.encode(), file="m.yaml").root for text in (base, overlay)]
    assert merge(*documents).plain() == merged


def test_merged_values_keep_their_own_place() -> None:
    root = parse_document(b"batch: {retries: 1, timeout: 2h}\nprod: {batch: {retries: 5}}", file="m.yaml").root
    overlay = root.fields["prod"]
    assert not hasattr(overlay, "value")
    merged = merge(without(root, "prod"), overlay)  # type: ignore[arg-type]
    assert (find_value(merged, ("batch", "retries")).line, find_value(merged, ("batch", "timeout")).line) == (2, 1)
    assert find_value(merged, ("batch", "retries")).field == "prod.batch.retries"
    assert {dotted(path): node.line for path, node in walk_leaves(merged)} == {"batch.retries": 2, "batch.timeout": 1}


def test_a_strange_key_stays_on_one_line() -> None:
    assert dotted(("a\nb", 0, "x" * 100)) == f"a\\nb.0.{'x' * 60}…"
