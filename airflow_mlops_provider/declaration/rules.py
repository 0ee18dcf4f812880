"""The single rules of an environment that more than one kind of wish is judged by.

Decides what one image, URI, amount or variable may be. Which rules a declaration is asked is decided by ``policy``, a
finished pod by ``pod_policy``. No I/O.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from airflow_mlops_provider.declaration.environment import Environment
from airflow_mlops_provider.declaration.node import Path
from airflow_mlops_provider.declaration.quantity import cpu_millicores, memory_bytes
from airflow_mlops_provider.declaration.shared_spec import Notify, Resources
from airflow_mlops_provider.declaration.wording import choices, quoted

OBJECT_STORES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "hdfs")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")
_STEERING_VARIABLES = ("PATH", "PYTHON", "LD_", "DYLD_", "BASH_ENV")


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken rule.

    :param path: of the field in the merged document.
    :param rule: the key under ``allow`` in ``environments.yaml`` that decides, or the name of a fixed rule.
    """

    path: Path
    message: str
    rule: str


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


def check_declared_image(image: str | None, environment: Environment, at: Path) -> Iterator[Violation]:
    """Yield what is wrong with the image of ``batch`` or ``online``, the standard one included."""
    if image is not None:
        yield from check_image(image, environment, (*at, "image"))
    elif environment.image is None:
        message = "is missing; the environment has no standard image, name one"
        yield Violation((*at, "image"), message, "standard_image")


def check_image(image: str, environment: Environment, path: Path) -> Iterator[Violation]:
    """Yield what is wrong with where an image comes from; the environment's own is always right."""
    allow = environment.allow
    if image == environment.image:
        return
    if not image_is_allowed(image, allow.images):
        where = f"use one from {listed(allow.images)}" if allow.images else "remove it and use the standard image"
        yield Violation(path, f"{quoted(image)} is not from an allowed registry; {where}", "images")
    if allow.require_digest and "@sha256:" not in image:
        yield Violation(path, f"{quoted(image)} has no digest; write name@sha256:…", "require_digest")


def check_resources(resources: Resources, environment: Environment, at: Path) -> Iterator[Violation]:
    """Yield the amounts that are too much for one pod."""
    allow = environment.allow
    if allow.max_cpu is not None and cpu_millicores(resources.cpu) > cpu_millicores(allow.max_cpu):
        yield Violation((*at, "resources", "cpu"), f"{resources.cpu} is too much; at most {allow.max_cpu}", "max_cpu")
    if allow.max_memory is not None and memory_bytes(resources.memory) > memory_bytes(allow.max_memory):
        yield Violation(
            (*at, "resources", "memory"), f"{resources.memory} is too much; at most {allow.max_memory}", "max_memory"
        )
    if resources.gpu > allow.max_gpu:
        yield Violation((*at, "resources", "gpu"), f"{resources.gpu} are too many; at most {allow.max_gpu}", "max_gpu")


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


def check_variables(names: Iterable[str], environment: Environment, path: Path) -> Iterator[Violation]:
    """Yield the variables that would choose a program, where no program may be chosen."""
    if commands_allowed(environment):
        return
    for name in names:
        if steers_a_process(name):
            yield Violation((*path, name), "may not be set here; remove it", "commands")


def check_listed(name: str, allowed: tuple[str, ...], path: Path, rule: str) -> Iterator[Violation]:
    """Yield a name that the environment does not list; it lists nothing unless somebody wrote it."""
    if name not in allowed:
        hint = f"use {listed(allowed)}" if allowed else "remove it"
        yield Violation(path, f"{quoted(name)} is not allowed; {hint}", rule)


def check_notify(notify: Notify, environment: Environment, path: Path) -> Iterator[Violation]:
    """Yield the notifiers that may not be used here."""
    for field in ("on_failure", "on_success"):
        for index, name in enumerate(getattr(notify, field) or ()):
            yield from check_listed(name, environment.allow.notifiers, (*path, field, index), "notifiers")


def listed(names: tuple[str, ...]) -> str:
    """Return the first eight as choices."""
    return choices(names if len(names) <= 8 else (*names[:8], "…"))


def texts(value: object, path: Path) -> Iterator[tuple[Path, str]]:
    """Yield every text in nested mappings and lists, with its path."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from texts(item, (*path, key))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from texts(item, (*path, index))
