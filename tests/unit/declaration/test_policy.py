from __future__ import annotations

from typing import Any

import pytest

from airflow_mlops_provider.declaration.environment import Environment
from airflow_mlops_provider.declaration.model import ModelDeclaration
from airflow_mlops_provider.declaration.policy import check_policy
from airflow_mlops_provider.declaration.rules import image_is_allowed

DIGEST = "@sha256:" + "0" * 64


def _environment(allow: dict[str, Any] | None = None, **changes: Any) -> Environment:
    standard = {"namespace": "ml", "image": "standard.example/runtime:1", "model": {"latest_run": True}}
    return Environment.model_validate({**standard, "allow": allow or {}, **changes})


def _declaration(batch: dict[str, Any] | None = None, **changes: Any) -> ModelDeclaration:
    spec = {"input": "s3://in/", "output": "s3://out/", **(batch or {})}
    document = {
        "apiVersion": "mlops/v1",
        "model": "churn",
        "owner": "me",
        "experiment": "/churn",
        "batch": spec,
        **changes,
    }
    return ModelDeclaration.model_validate(document)


def _rules(declaration: ModelDeclaration, environment: Environment) -> list[tuple[str, str]]:
    found = check_policy(declaration, environment)
    return [(violation.rule, ".".join(map(str, violation.path))) for violation in found]


def test_the_plainest_job_is_allowed_by_default() -> None:
    assert _rules(_declaration(), _environment()) == []


@pytest.mark.parametrize(
    ("allow", "batch", "broken"),
    [
        ({}, {"image": "docker.io/x:1"}, ("images", "batch.image")),
        ({}, {"image": "standard.example/runtime:1"}, None),
        ({}, {"image": "standard.example/runtime:2"}, ("images", "batch.image")),
        ({"images": ("r.example/",)}, {"image": "r.example/x:1"}, None),
        (
            {"images": ("r.example/",), "require_digest": True},
            {"image": "r.example/x:1"},
            ("require_digest", "batch.image"),
        ),
        ({"images": ("r.example/",), "require_digest": True}, {"image": "r.example/x" + DIGEST}, None),
        ({"max_cpu": "2"}, {"resources": {"cpu": "2000m"}}, None),
        ({"max_cpu": "2"}, {"resources": {"cpu": "2.001"}}, ("max_cpu", "batch.resources.cpu")),
        ({"max_cpu": "500m"}, {}, ("max_cpu", "batch.resources.cpu")),
        ({"max_memory": "4Gi"}, {"resources": {"memory": "4096Mi"}}, None),
        ({"max_memory": "4Gi"}, {"resources": {"memory": "5G"}}, ("max_memory", "batch.resources.memory")),
        ({"max_memory": "1Gi"}, {}, ("max_memory", "batch.resources.memory")),
        ({}, {"resources": {"gpu": 1}}, ("max_gpu", "batch.resources.gpu")),
        ({"max_gpu": 1}, {"resources": {"gpu": 1}}, None),
        ({}, {"partitions": 101}, ("max_partitions", "batch.partitions")),
        ({"max_partitions": 200}, {"partitions": 101}, None),
        ({}, {"input": "s3://in/{{ ds }}"}, ("jinja", "batch.input")),
        ({"jinja": ("ds",)}, {"input": "s3://in/{{ ds }}", "env": {"A": "{{ ds }}"}, "args": ("{{ ds }}",)}, None),
        ({"jinja": ("ds",)}, {"output": "s3://{{ conn.x }}"}, ("jinja", "batch.output")),
        ({"jinja": ("ds",)}, {"env": {"A": "{{ var.value.x }}"}}, ("jinja", "batch.env.A")),
        ({"jinja": ("ds",)}, {"command": ("a", "{% if x %}")}, ("jinja", "batch.command.1")),
        ({"jinja": ("ds",)}, {"pool": "{{ ds }}"}, ("jinja", "batch.pool")),
        ({"jinja": ("ds",)}, {"key_columns": ("{{ ds }}",)}, ("jinja", "batch.key_columns.0")),
        ({}, {"input": "https://x/"}, ("uri_schemes", "batch.input")),
        ({}, {"input": "/data/x"}, ("uri_schemes", "batch.input")),
        ({}, {"input": "file:///data/x"}, ("uri_schemes", "batch.input")),
        ({}, {"input": "S3://bucket/"}, None),
        ({"uri_schemes": ("gs",)}, {"input": "gs://a/", "output": "gs://b/"}, None),
        ({"uri_schemes": ("file",)}, {"input": "/data/x", "output": "file:///y"}, None),
        ({"jinja": ("ds",)}, {"input": "{{ ds }}://x/"}, ("uri_schemes", "batch.input")),
        (
            {"jinja": ("ds",), "uri_schemes": ("s3", "file")},
            {"input": "h{{ ds }}://x/"},
            ("uri_schemes", "batch.input"),
        ),
        ({"commands": False}, {"command": ("sh",)}, ("commands", "batch.command")),
        ({"commands": False}, {"args": ("--input", "/etc/passwd")}, ("commands", "batch.args")),
        ({}, {"command": ("sh",), "args": ("-c", "id")}, None),
        ({"experiments": ("/churn",)}, {}, None),
        ({"experiments": ("/ch*", "/x")}, {}, None),
        ({"experiments": ("/chur", "/churn/")}, {}, ("experiments", "experiment")),
        ({"experiments": ()}, {}, ("experiments", "experiment")),
    ],
)
def test_each_rule(allow: dict[str, Any], batch: dict[str, Any], broken: tuple[str, str] | None) -> None:
    assert _rules(_declaration(batch), _environment(allow)) == ([broken] if broken else [])


@pytest.mark.parametrize(
    ("changes", "broken"),
    [
        ({"description": "{{ ds }}"}, ("jinja", "description")),
        ({"owner": "{{ conn.x }}"}, ("jinja", "owner")),
        ({"doc": "{% include 'x' %}"}, ("jinja", "doc")),
        ({"tags": ("a", "{# x #}")}, ("jinja", "tags.1")),
        ({"logged_model": "{{ ds }}"}, ("jinja", "logged_model")),
        ({"online": {"env": {"A": "{{ ds }}"}}}, ("jinja", "online.env.A")),
        ({"online": {"image": "docker.io/x:1"}}, ("images", "online.image")),
        ({"online": {"resources": {"gpu": 1}}}, ("max_gpu", "online.resources.gpu")),
        ({"online": {"min_replicas": 11}}, ("max_replicas", "online.min_replicas")),
        ({"online": {"max_replicas": 11}}, ("max_replicas", "online.max_replicas")),
        ({"registered_model": "other"}, ("registered_models", "registered_model")),
    ],
)
def test_rules_outside_the_batch_job(changes: dict[str, Any], broken: tuple[str, str]) -> None:
    environment = _environment({"jinja": ("ds",), "max_replicas": 10, "registered_models": ("churn_*",)})
    assert _rules(_declaration(**changes), environment) == [broken]


def test_the_local_runner_runs_no_foreign_program() -> None:
    local = _environment(runner="local")
    batch = {"command": ("sh",), "env": {"PYTHONPATH": "x", "LD_PRELOAD": "y", "MODE": "z"}}
    assert _rules(_declaration(batch), local) == [
        ("commands", "batch.command"),
        ("commands", "batch.env.PYTHONPATH"),
        ("commands", "batch.env.LD_PRELOAD"),
    ]
    assert _rules(_declaration(batch), _environment({"commands": True}, runner="local")) == []


def test_the_local_runner_reads_files_but_starts_no_image() -> None:
    local = _environment(runner="local")
    assert _rules(_declaration({"input": "data/in.csv", "output": "file:///out"}), local) == []
    assert _rules(_declaration({"image": "x:1", "input": None}), local) == [("runner", "batch.image")]


def test_without_a_standard_image_a_declaration_has_to_name_one() -> None:
    assert _rules(_declaration(), _environment(image=None)) == [("standard_image", "batch.image")]


def test_an_online_service_has_a_name_that_fits() -> None:
    environment = _environment(namespace="n" * 40)
    assert _rules(_declaration(model="m" * 12, online={}), environment) == []
    assert _rules(_declaration(model="m" * 13, online={}), environment) == [("name_length", "model")]
    assert _rules(_declaration(model="m" * 13), environment) == []


@pytest.mark.parametrize(
    ("entry", "image", "allowed"),
    [
        ("registry.example", "registry.example/x", True),
        ("registry.example", "registry.example.evil/x", False),
        ("registry.example", "registry.example:5000/x", False),
        ("registry.example:5000", "registry.example:5000/x", True),
        ("registry.example/", "registry.example/a/b:1", True),
        ("registry.example/team", "registry.example/team/x:1", True),
        ("registry.example/team", "registry.example/team2/x:1", False),
        ("registry.example/team", "registry.example/team:1", True),
        ("registry.example/team", "registry.example/team" + DIGEST, True),
        ("registry.example/team/x:1", "registry.example/team/x:10", False),
        ("registry.example/team/x:1", "registry.example/team/x:1" + DIGEST, True),
        ("python", "python:3.12", True),
        ("python", "python:5000/evil", False),
        ("python", "pythonx", False),
    ],
)
def test_image_prefixes_end_at_a_boundary(entry: str, image: str, allowed: bool) -> None:
    assert image_is_allowed(image, [entry]) is allowed


@pytest.mark.parametrize(
    ("online", "allow", "broken"),
    [
        ({"runtime": "mlserver"}, {}, ("runtimes", "online.runtime")),
        ({"runtime": "mlserver"}, {"runtimes": ("mlserver",)}, None),
        ({"notify": {"on_success": ("ops",)}}, {}, ("notifiers", "online.notify.on_success.0")),
        ({"extends": "big"}, {}, ("templates", "online.extends")),
        ({"env": {"LD_PRELOAD": "/x"}}, {}, None),
        ({"env": {"LD_PRELOAD": "/x"}}, {"commands": False}, ("commands", "online.env.LD_PRELOAD")),
    ],
)
def test_what_reaches_beyond_the_service_is_denied_by_default(
    online: dict[str, Any], allow: dict[str, Any], broken: tuple[str, str] | None
) -> None:
    assert _rules(_declaration(online=online), _environment(allow)) == ([broken] if broken else [])


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("http://broker.ml/", True),
        ("http://broker.ml/team/churn", True),
        ("http://broker.ml.evil/", False),
        ("http://broker.ml/../admin", False),
        ("https://broker.ml/", False),
        ("https://exact.example", True),
        ("https://exact.example/x", True),
        ("https://exact.example:444", False),
        ("https://exact.example@evil", False),
    ],
)
def test_requests_are_copied_to_listed_places_only(url: str, allowed: bool) -> None:
    environment = _environment({"logger_urls": ("http://broker.ml/", "https://exact.example")})
    found = _rules(_declaration(online={"logger": {"url": url}}), environment)
    assert found == ([] if allowed else [("logger_urls", "online.logger.url")])


@pytest.mark.parametrize(("online", "longest"), [({}, 32), ({"canary": {"steps": (10,)}}, 22)])
def test_name_of_the_service_leaves_room_for_its_suffixes(online: dict[str, Any], longest: int) -> None:
    environment = _environment(namespace="n" * 20)
    assert _rules(_declaration(model="m" * longest, online=online), environment) == []
    assert _rules(_declaration(model="m" * (longest + 1), online=online), environment) == [("name_length", "model")]
