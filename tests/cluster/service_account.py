"""The account that Airflow has in the cluster tests: what ``deploy/kserve/rbac.yaml`` gives it, and nothing else.

The file is taken as it is, but for the three namespaces that it says are to be replaced, and for the names of its
cluster-wide objects, which several test runs must not share.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

FILE = Path(__file__).parents[2] / "deploy" / "kserve" / "rbac.yaml"
MODELS_NAMESPACE, AIRFLOW_NAMESPACE, NAME = "ml-prod", "airflow", "airflow-mlops"
_TOKEN_SECONDS = 4 * 3600


@dataclass
class Account:
    """A service account, its kubeconfig, and the namespaces in which it may work."""

    client: Any
    directory: Path
    name: str = field(default_factory=lambda: f"airflow-{uuid.uuid4().hex[:6]}")

    @property
    def kubeconfig(self) -> Path:
        return self.directory / "kubeconfig"

    def admit(self, namespace: str) -> None:
        """Bind the file's Role in a namespace."""
        for item in self.objects(namespace):
            if item["metadata"].get("namespace") == namespace:
                self.apply(item)

    def apply(self, item: dict[str, Any]) -> None:
        self._kind(item).server_side_apply(body=item, field_manager="tests", force_conflicts=True)

    def remove(self, item: dict[str, Any]) -> None:
        self._kind(item).delete(name=item["metadata"]["name"], namespace=item["metadata"].get("namespace"))

    def _kind(self, item: dict[str, Any]) -> Any:
        from kubernetes import dynamic

        return dynamic.DynamicClient(self.client).resources.get(api_version=item["apiVersion"], kind=item["kind"])

    def objects(self, namespace: str) -> list[dict[str, Any]]:
        """Return the file's objects for this account and one namespace of models."""
        text = FILE.read_text().replace(f"namespace: {MODELS_NAMESPACE}\n", f"namespace: {namespace}\n")
        text = text.replace(f"namespace: {AIRFLOW_NAMESPACE}\n", f"namespace: {self.name}\n")
        found: list[dict[str, Any]] = list(yaml.safe_load_all(text))
        for item in found:
            if item["metadata"].get("namespace") not in (namespace, self.name):
                # The whole cluster's, or KServe's own namespace: other runs have theirs beside.
                item["metadata"]["name"] = self.name
                if "roleRef" in item:
                    item["roleRef"]["name"] = self.name
        return found

    def write_kubeconfig(self, admin: Path) -> None:
        """Write a kubeconfig with a token of the account for the cluster of *admin*'s."""
        from kubernetes import client

        token = client.CoreV1Api(self.client).create_namespaced_service_account_token(
            NAME, self.name, {"spec": {"expirationSeconds": _TOKEN_SECONDS}}
        )
        config = yaml.safe_load(admin.read_text())
        context = next(item for item in config["contexts"] if item["name"] == config["current-context"])
        context["context"]["user"] = NAME
        config["users"] = [{"name": NAME, "user": {"token": token.status.token}}]
        self.kubeconfig.write_text(yaml.safe_dump(config))
        self.kubeconfig.chmod(0o600)


@contextmanager
def service_account(admin: Path, directory: Path) -> Iterator[Account]:
    """Make the account and what it has outside of the namespaces of models; take all of it away in the end."""
    from kubernetes import client, config

    api = config.new_client_from_config(str(admin))
    core = client.CoreV1Api(api)
    account = Account(api, directory)
    core.create_namespace({"metadata": {"name": account.name}})
    # A cluster without KServe has no namespace of it.
    there = {item.metadata.name for item in core.list_namespace().items} | {None}
    outside = [item for item in account.objects(MODELS_NAMESPACE) if item["metadata"].get("namespace") in there]
    outside = [item for item in outside if item["metadata"].get("namespace") != MODELS_NAMESPACE]
    try:
        for item in outside:
            account.apply(item)
        account.write_kubeconfig(admin)
        yield account
    finally:
        for item in outside:
            if item["kind"] != "ServiceAccount":  # goes with its namespace
                account.remove(item)
        core.delete_namespace(account.name)
