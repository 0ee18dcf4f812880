from __future__ import annotations

import pytest

from airflow_mlops_provider.declaration.template import forbidden_expressions

ALLOWED = ("ds", "run_id", "ds | replace('-', '')")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "plain",
        "s3://b/ds={{ ds }}/",
        "{{ds}}{{  run_id  }}",
        "{{- ds -}}",
        "{{\n ds\n}}",
        "{ ds }",
        "}} {",
        "{{ ds  | replace('-', '') }}",
    ],
)
def test_allowed(text: str) -> None:
    assert forbidden_expressions(text, ALLOWED) == []


@pytest.mark.parametrize(
    ("text", "forbidden"),
    [
        ("{{ conn.get('x').password }}", ["conn.get('x').password"]),
        ("{{ ds }}{{ var.value.x }}", ["var.value.x"]),
        ("{{ ds.__class__ }}", ["ds.__class__"]),
        ("{{ ds | upper }}", ["ds | upper"]),
        ("{{ macros.ds_add(ds, 1) }}", ["macros.ds_add(ds, 1)"]),
        ("{{ DS }}", ["DS"]),
        ("{{ }}", [""]),
        ("{% raw %}{{ ds }}{% endraw %}", ["{% raw %}{{ ds }}{% endraw %}"]),
        ("{# {{ ds }} #}", ["{# {{ ds }} #}"]),
        ("{{ ds", ["{{ ds"]),
        ("{{ {'a': ds} }}", ["{{ {'a': ds} }}"]),
        ("{{{ ds }}}", ["{{{ ds }}}"]),
        ("{{ '{{' }}", ["{{ '{{' }}"]),
        ("{{ ds }{{ ds }}", ["{{ ds }{{ ds }}"]),
        ("{{{ds}}{ conn }}", ["{{{ds}}{ conn }}"]),
        ("{{ x }} {{ ds }} {{ y }} {% z", ["x", "y", "{% z"]),
    ],
)
def test_forbidden(text: str, forbidden: list[str]) -> None:
    assert [item.strip() for item in forbidden_expressions(text, ALLOWED)] == forbidden


def test_nothing_is_allowed_by_default() -> None:
    assert forbidden_expressions("{{ ds }}", ()) == ["ds"]
