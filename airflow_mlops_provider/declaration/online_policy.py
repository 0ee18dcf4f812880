"""What an environment allows an online service to ask for.

Decides which rules the ``online`` block is asked; default deny for whatever reaches beyond the service itself: runtimes
of the cluster, and addresses that requests are copied to. No I/O.
"""

from __future__ import annotations

from collections.abc import Iterator

from airflow_mlops_provider.declaration.environment import Environment
from airflow_mlops_provider.declaration.model import ModelDeclaration
from airflow_mlops_provider.declaration.node import Path
from airflow_mlops_provider.declaration.online_spec import OnlineSpec
from airflow_mlops_provider.declaration.rules import (
    Violation,
    check_declared_image,
    check_listed,
    check_notify,
    check_resources,
    check_variables,
    listed,
)
from airflow_mlops_provider.declaration.wording import quoted

#: KServe names the host of a predictor ``<name>-predictor-<namespace>``, one DNS label (RFC 1035 §2.3.4).
_PREDICTOR_INFIX = "-predictor-"
#: Name of the second service that a canary may need: ``<model>-candidate``.
_CANDIDATE_SUFFIX = "-candidate"
_MAX_DNS_LABEL = 63


def check_online(declaration: ModelDeclaration, online: OnlineSpec, environment: Environment) -> Iterator[Violation]:
    """Yield every rule of the environment that the online service breaks."""
    yield from _check_deployer(online, environment)
    yield from check_resources(online.resources, environment, ("online",))
    if online.image is not None:
        yield from check_declared_image(online.image, environment, ("online",))
    yield from check_variables(online.env, environment, ("online", "env"))
    yield from _check_replicas(online, environment)
    yield from _check_name(declaration, online, environment)
    if online.runtime is not None:
        yield from check_listed(online.runtime, environment.allow.runtimes, ("online", "runtime"), "runtimes")
    yield from check_notify(online.notify, environment, ("online", "notify"))
    if online.extends is not None:
        yield from check_listed(online.extends, environment.allow.templates, ("online", "extends"), "templates")
    if online.logger is not None:
        yield from check_logger_url(online.logger.url, environment, ("online", "logger", "url"))


def _check_deployer(online: OnlineSpec, environment: Environment) -> Iterator[Violation]:
    if online.canary is not None and environment.deployer == "argocd":
        message = "cannot be had here: Argo CD deploys, and knows no steps; take it away with canary: null"
        yield Violation(("online", "canary"), message, "deployer")


def _check_replicas(online: OnlineSpec, environment: Environment) -> Iterator[Violation]:
    most, asked = environment.allow.max_replicas, max(online.min_replicas, online.max_replicas or 0)
    if most is not None and asked > most:
        field = "min_replicas" if online.min_replicas > most else "max_replicas"
        yield Violation(("online", field), f"{asked} are too many; at most {most}", "max_replicas")


def _check_name(declaration: ModelDeclaration, online: OnlineSpec, environment: Environment) -> Iterator[Violation]:
    suffix = len(_CANDIDATE_SUFFIX) if online.canary is not None else 0
    budget = _MAX_DNS_LABEL - len(_PREDICTOR_INFIX) - len(environment.namespace or "") - suffix
    if len(declaration.model) > budget:
        kind = "an online service with a canary" if suffix else "an online service"
        where = f"for {kind} in namespace {quoted(environment.namespace)}"
        message = f"{quoted(declaration.model)} is too long {where}; use at most {max(budget, 0)} characters"
        yield Violation(("model",), message, "name_length")


def check_logger_url(url: str, environment: Environment, path: Path) -> Iterator[Violation]:
    """Yield an address that requests may not be copied to."""
    allowed = environment.allow.logger_urls
    if not any(_lies_under(entry, url) for entry in allowed):
        hint = f"use one under {listed(allowed)}" if allowed else "remove it"
        yield Violation(path, f"{quoted(url)} is not allowed; {hint}", "logger_urls")


def _lies_under(entry: str, url: str) -> bool:
    """Whether the address is the entry or below it: ``http://a.example`` covers neither port, user nor longer host."""
    if not url.startswith(entry) or "/../" in f"{url}/":
        return False
    return entry.endswith("/") or url[len(entry) :][:1] in ("", "/")
