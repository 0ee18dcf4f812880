"""What an environment allows a declaration to ask for.

Decides, for one merged model in one environment, which of the platform's rules it breaks; default deny. Works on
values alone, so that the command line, the DAG factory and an operator each enforce it by themselves. Where a value was
written is the loader's knowledge. No I/O.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from airflow_mlops_provider.declaration.environment import Environment
from airflow_mlops_provider.declaration.model import BatchSpec, ModelDeclaration, OnlineSpec, Resources
from airflow_mlops_provider.declaration.node import Path
from airflow_mlops_provider.declaration.quantity import cpu_millicores, memory_bytes
from airflow_mlops_provider.declaration.template import forbidden_expressions, has_template
from airflow_mlops_provider.declaration.wording import choices, quoted

OBJECT_STORES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "hdfs")
#: KServe names the host of a predictor ``<name>-predictor-<namespace>``, one DNS label (RFC 1035 §2.3.4).
_PREDICTOR_INFIX = "-predictor-"
_MAX_DNS_LABEL = 63
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")
_STEERING_VARIABLES = ("PATH", "PYTHON", "LD_", "DYLD_", "BASH_ENV")
_TEMPLATED_FIELDS = ("input", "output", "command", "args", "env")


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken rule.

    :param path: of the field in the merged document.
    :param rule: the key under ``allow`` in ``environments.yaml`` that decides, or the name of a fixed rule.
    """

    path: Path
    message: str
    rule: str


def check_policy(declaration: ModelDeclaration, environment: Environment) -> list[Violation]:
    """Return every rule of the environment that the merged declaration breaks."""
    names = {"experiment": declaration.experiment, "registered_model": declaration.registered_model}
    found: list[Violation] = [*check_names(names, environment), *_check_fixed_texts(declaration)]
    if declaration.batch is not None:
        found += _check_batch(declaration.batch, environment)
    if declaration.online is not None:
        found += _check_online(declaration, declaration.online, environment)
    return found


def image_is_allowed(image: str, allowed: Iterable[str]) -> bool:
    """Whether the image lies under one of these; ``a.example`` never covers ``a.example.org``."""
    return any(_covers(entry, image) for entry in allowed)


def _covers(entry: str, image: str) -> bool:
    if not image.startswith(entry):
        return False
    rest = image[len(entry) :]
    if entry.endswith("/") or not rest or rest.startswith("/"):
        return True
    # A tag or digest may follow the name of a repository; a port after a registry makes it another registry.
    return rest[0] in ":@" and "/" not in rest


def commands_allowed(environment: Environment) -> bool:
    """Whether a job may run a program of its own choice."""
    allowed = environment.allow.commands
    return allowed if allowed is not None else environment.runner == "kubernetes"


def steers_a_process(variable: str) -> bool:
    """Whether an environment variable of this name decides which program runs."""
    return variable.upper().startswith(_STEERING_VARIABLES)


def allowed_uri_schemes(environment: Environment) -> tuple[str, ...]:
    """Return the schemes that input and output may have."""
    local = ("file",) if environment.runner == "local" else ()
    stated = environment.allow.uri_schemes
    return stated if stated is not None else (*OBJECT_STORES, *local)


def check_names(model: Mapping[str, Any], environment: Environment) -> Iterator[Violation]:
    """Yield the names in MLflow that are not allowed.

    :param model: ``{"experiment": …, "registered_model": …}``; other keys do not matter.
    """
    allow = environment.allow
    for field, rule, names in (
        ("experiment", "experiments", allow.experiments),
        ("registered_model", "registered_models", allow.registered_models),
    ):
        value = model.get(field)
        if names is not None and value is not None and not any(_matches(name, value) for name in names):
            yield Violation((field,), f"{quoted(value)} is not allowed; use {_listed(names)}", rule)


def _matches(pattern: str, value: str) -> bool:
    return value.startswith(pattern[:-1]) if pattern.endswith("*") else value == pattern


def _check_batch(batch: BatchSpec, environment: Environment) -> Iterator[Violation]:
    allow = environment.allow
    yield from _check_resources(batch.resources, environment, "batch")
    if batch.partitions > allow.max_partitions:
        yield Violation(
            ("batch", "partitions"),
            f"{batch.partitions} are too many; at most {allow.max_partitions}",
            "max_partitions",
        )
    for field in ("input", "output"):
        yield from check_uri(getattr(batch, field), environment, ("batch", field))
    yield from _check_templates(batch, allow.jinja)
    if not commands_allowed(environment):
        yield from _check_no_command(batch)
    if environment.runner == "kubernetes":
        yield from _check_declared_image(batch.image, environment, "batch")
    elif batch.command is None and (batch.input is None or batch.output is None):
        yield Violation(("batch", "image"), "the local runner starts no images; add input and output", "runner")


def _check_no_command(batch: BatchSpec) -> Iterator[Violation]:
    """Refuse what would run a program of the declaration's choice, the variables that steer a process included."""
    for field in ("command", "args"):
        if getattr(batch, field) is not None:
            yield Violation(("batch", field), "is not allowed; remove it and use input and output", "commands")
    for name in batch.env:
        if steers_a_process(name):
            yield Violation(("batch", "env", name), "may not be set here; remove it", "commands")


def _check_online(declaration: ModelDeclaration, online: OnlineSpec, environment: Environment) -> Iterator[Violation]:
    yield from _check_resources(online.resources, environment, "online")
    if online.image is not None:
        yield from _check_declared_image(online.image, environment, "online")
    most, asked = environment.allow.max_replicas, max(online.min_replicas, online.max_replicas or 0)
    if most is not None and asked > most:
        field = "min_replicas" if online.min_replicas > most else "max_replicas"
        yield Violation(("online", field), f"{asked} are too many; at most {most}", "max_replicas")
    budget = _MAX_DNS_LABEL - len(_PREDICTOR_INFIX) - len(environment.namespace or "")
    if len(declaration.model) > budget:
        where = f"for an online service in namespace {quoted(environment.namespace)}"
        message = f"{quoted(declaration.model)} is too long {where}; use at most {max(budget, 0)} characters"
        yield Violation(("model",), message, "name_length")


def _check_declared_image(image: str | None, environment: Environment, spec: str) -> Iterator[Violation]:
    if image is not None:
        yield from check_image(image, environment, (spec, "image"))
    elif environment.image is None:
        message = "is missing; the environment has no standard image, name one"
        yield Violation((spec, "image"), message, "standard_image")


def check_image(image: str, environment: Environment, path: Path) -> Iterator[Violation]:
    """Yield what is wrong with where an image comes from; the environment's own is always right."""
    allow = environment.allow
    if image == environment.image:
        return
    if not image_is_allowed(image, allow.images):
        where = f"use one from {_listed(allow.images)}" if allow.images else "remove it and use the standard image"
        yield Violation(path, f"{quoted(image)} is not from an allowed registry; {where}", "images")
    if allow.require_digest and "@sha256:" not in image:
        yield Violation(path, f"{quoted(image)} has no digest; write name@sha256:…", "require_digest")


def _check_resources(resources: Resources, environment: Environment, spec: str) -> Iterator[Violation]:
    allow = environment.allow
    if allow.max_cpu is not None and cpu_millicores(resources.cpu) > cpu_millicores(allow.max_cpu):
        yield Violation((spec, "resources", "cpu"), f"{resources.cpu} is too much; at most {allow.max_cpu}", "max_cpu")
    if allow.max_memory is not None and memory_bytes(resources.memory) > memory_bytes(allow.max_memory):
        yield Violation(
            (spec, "resources", "memory"), f"{resources.memory} is too much; at most {allow.max_memory}", "max_memory"
        )
    if resources.gpu > allow.max_gpu:
        yield Violation((spec, "resources", "gpu"), f"{resources.gpu} are too many; at most {allow.max_gpu}", "max_gpu")


def check_uri(uri: str | None, environment: Environment, path: Path) -> Iterator[Violation]:
    """Yield what is wrong with a place where data lies."""
    if uri is None:
        return
    schemes = allowed_uri_schemes(environment)
    found = _SCHEME.match(uri)
    scheme = found[1].lower() if found else "file"
    if uri.lstrip().startswith("{") or ("://" in uri and not found):
        message = "must start with its scheme as plain text; write for example s3://bucket/…"
    elif scheme not in schemes:
        message = f"scheme {quoted(scheme)} is not allowed; use {choices(schemes) or 'none'}"
    else:
        return
    yield Violation(path, message, "uri_schemes")


def _check_templates(batch: BatchSpec, allowed: tuple[str, ...]) -> Iterator[Violation]:
    for path, text in _texts({name: getattr(batch, name) for name in _TEMPLATED_FIELDS}, ("batch",)):
        for expression in forbidden_expressions(text, allowed):
            # What stands in a variable's value is never repeated: it may be a secret.
            shown = "this template" if path[1] == "env" else f"template {quoted(expression)}"
            hint = f"use {_listed(allowed)}" if allowed else "write the value out"
            yield Violation(path, f"{shown} is not allowed; {hint}", "jinja")


def _check_fixed_texts(declaration: ModelDeclaration) -> Iterator[Violation]:
    """Refuse templates wherever they are not meant: what is not checked here, Airflow might render."""
    rest = declaration.model_dump(exclude={"batch": set(_TEMPLATED_FIELDS)})
    for path, text in _texts(rest, ()):
        if has_template(text):
            yield Violation(path, "templates are not allowed here; write the value out", "jinja")
    for name in declaration.batch.env if declaration.batch else ():
        if has_template(name):
            yield Violation(("batch", "env"), "templates are not allowed in names; write the name out", "jinja")


def _texts(value: object, path: Path) -> Iterator[tuple[Path, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _texts(item, (*path, key))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _texts(item, (*path, index))


def _listed(names: tuple[str, ...]) -> str:
    return choices(names if len(names) <= 8 else (*names[:8], "…"))
