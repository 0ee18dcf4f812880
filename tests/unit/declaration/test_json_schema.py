from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

import airflow_mlops_provider.declaration as package
from airflow_mlops_provider.declaration.json_schema import render_schemas
from airflow_mlops_provider.declaration.yaml_document import read_document

SCHEMAS = Path(package.__file__).parent / "schema"
DECLARATIONS = Path(__file__).parents[2] / "declarations"


def test_shipped_schemas_are_the_generated_ones() -> None:
    shipped = {path.name: path.read_text(encoding="utf-8") for path in SCHEMAS.glob("*.json")}
    assert shipped == render_schemas(), (
        "run: airflow-mlops schema --output-dir airflow_mlops_provider/declaration/schema"
    )


#: The dialect that the schemas name, and the one that VS Code's YAML extension reads them by.
DRAFTS = (jsonschema.Draft202012Validator, jsonschema.Draft7Validator)


def _problems(name: str, document: object) -> list[str]:
    """Return what an editor would mark; both dialects have to say the same."""
    schema = json.loads((SCHEMAS / name).read_text(encoding="utf-8"))
    told = []
    for draft in DRAFTS:
        draft.check_schema({key: value for key, value in schema.items() if key != "$schema"})
        told.append([error.json_path for error in draft(schema).iter_errors(document)])
    assert told[0] == told[1]
    return told[0]


def _json(path: Path) -> object:
    return json.loads(json.dumps(read_document(path).root.plain()))


@pytest.mark.parametrize("path", sorted((DECLARATIONS / "valid").glob("*.yaml")), ids=lambda path: path.name)
def test_valid_declarations_satisfy_the_schema(path: Path) -> None:
    assert _problems("model.v1.json", _json(path)) == []


def test_valid_environments_satisfy_the_schema() -> None:
    assert _problems("environments.v1.json", _json(DECLARATIONS / "environments.yaml")) == []


@pytest.mark.parametrize("name", ["misspelt", "types", "nothing-there", "online-types", "params", "jobs"])
def test_an_editor_would_show_these_as_wrong(name: str) -> None:
    assert _problems("model.v1.json", _json(DECLARATIONS / "invalid" / f"{name}.yaml"))


def _online(**fields: object) -> dict[str, object]:
    return {"apiVersion": "mlops/v1", "model": "m", "owner": "o", "environments": {"prod": {}}, "online": fields}


@pytest.mark.parametrize(
    ("fields", "legal"),
    [
        ({"smoke_test": {"max_latency": "1s"}}, True),
        ({"smoke_test": {"from": "request", "request": {"instances": [1]}}}, True),
        ({"smoke_test": {"from": "request"}}, False),
        ({"smoke_test": {"from": "input_example", "request": {"instances": [1]}}}, False),
        ({"smoke_test": {"from": "elsewhere"}}, False),
        ({"schedule": {"timezone": "UTC"}}, False),
    ],
)
def test_kinds_of_a_union_are_told_apart(fields: dict[str, object], legal: bool) -> None:
    assert (_problems("model.v1.json", _online(**fields)) == []) is legal


@pytest.mark.parametrize(
    ("overlay", "legal"),
    [
        ({"batch": {"schedule": {"timezone": "Asia/Tokyo"}}}, True),
        ({"batch": {"schedule": {"cron": None}}}, True),
        ({"batch": {"schedule": {"timezone": 5}}}, False),
        ({"batch": {"schedule": {"zone": "UTC"}}}, False),
        ({"online": {"scale": {"target": 5}, "smoke_test": {"request": None}}}, True),
        ({"online": {"logger": {"mode": "some"}}}, False),
    ],
)
def test_overlay_may_write_a_part_of_what_is_required(overlay: dict[str, object], legal: bool) -> None:
    written = {**_online(), "environments": {"prod": overlay}}
    assert (_problems("model.v1.json", written) == []) is legal
