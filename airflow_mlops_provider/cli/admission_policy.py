"""``airflow-mlops admission-policy``: the platform's rules for the Kubernetes API server.

Decides nothing about the rules. Reads the environments file, writes YAML (or JSON) to the standard output:
``airflow-mlops admission-policy | kubectl apply -f -``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_mlops_provider.cli.files import add_environments_option, explicit_environments

if TYPE_CHECKING:
    from airflow_mlops_provider.declaration import Environment


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "admission-policy", help="print the platform's rules as ValidatingAdmissionPolicies for kubectl apply"
    )
    add_environments_option(parser)
    parser.add_argument("--output", choices=("text", "json"), default="text", help="text is YAML")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print, and return the exit code."""
    from airflow_mlops_provider.declaration import find_environments, load_environments

    objects = build_objects(load_environments(find_environments(".", explicit_environments(arguments))))
    if arguments.output == "json":
        print(json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}, indent=2, ensure_ascii=False))
        return 0
    import yaml

    print(yaml.safe_dump_all(objects, sort_keys=False, allow_unicode=True, width=10_000), end="")
    return 0


def build_objects(environments: Mapping[str, Environment]) -> list[dict[str, Any]]:
    """Return the Kubernetes objects that enforce *environments*."""
    from airflow_mlops_provider.manifests.admission_policy import build_admission_policies

    return build_admission_policies({name: _as_json(settings) for name, settings in environments.items()})


def _as_json(settings: Environment) -> dict[str, Any]:
    from airflow_mlops_provider.declaration.rules import allowed_uri_schemes, commands_allowed

    values = settings.model_dump(mode="json", by_alias=True)
    values["allow"] |= {
        "commands": commands_allowed(settings),
        "uri_schemes": list(allowed_uri_schemes(settings)),
    }
    return {**values, "templates": [template.spec for template in settings.templates.values()]}
