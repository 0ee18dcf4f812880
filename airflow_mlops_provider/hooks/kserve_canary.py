"""A canary in the cluster: what speaks for which way, and the way that works everywhere, a service beside the other.

Decides what is read to choose, and whose candidate may be touched; the choice is
:mod:`airflow_mlops_provider.manifests.canary_mode`'s, the ways that divide traffic are :mod:`.kserve_canary_traffic`'s.
Does I/O through the KServe hook.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Protocol

from airflow_mlops_provider.hooks.kserve import KServeHook
from airflow_mlops_provider.hooks.kserve_api import KubeRequest, ServiceReference
from airflow_mlops_provider.hooks.kserve_apply import DeployPlan, apply_plan
from airflow_mlops_provider.hooks.kserve_delete import delete_service
from airflow_mlops_provider.hooks.kubernetes_access import missing_permission
from airflow_mlops_provider.manifests.canary_candidate import build_candidate, check_candidate, served_model
from airflow_mlops_provider.manifests.canary_mode import (
    ClusterFacts,
    could_split,
    has_canary_field,
    read_controller_version,
    read_mode_annotation,
)
from airflow_mlops_provider.manifests.inference_service_seal import (
    ENVIRONMENT_LABEL,
    compute_spec_hash,
    read_spec_hash,
)

Say = Callable[[str], None]
Remember = Callable[[DeployPlan], None]

_log = logging.getLogger(__name__)

_CONFIG: Final = "/api/v1/namespaces/{}/configmaps/inferenceservice-config"
_CONTROLLER: Final = "/apis/apps/v1/namespaces/{}/deployments/kserve-controller-manager"
_CRD: Final = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/inferenceservices.serving.kserve.io"
#: Model servers end their requests first; Kubernetes kills them after 30 s unless told otherwise.
_DELETE_SECONDS: Final = 120.0


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A candidate that is being tried, in JSON types: it travels through a deferral and a retry.

    :param plan: a ``DeployPlan`` as a dictionary: what was applied for it. Where traffic is divided, that is the stable
        service, and ``former`` is what it was asked for before.
    :param stable_hash: seal of the version that it is compared with.
    """

    mode: str
    reason: str
    plan: Mapping[str, Any]
    stable_hash: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def deployed(self) -> DeployPlan:
        return DeployPlan(**self.plan)


def read_facts(
    hook: KServeHook, live: Mapping[str, Any], manifest: Mapping[str, Any], kserve_namespace: str
) -> ClusterFacts:
    """Find out what speaks for which way; what may not be read is not known.

    :param live: the stable service.
    :param manifest: the service as it is wanted.
    :param kserve_namespace: where KServe's controller and its ConfigMap are.
    """
    config = (_read(hook, _CONFIG.format(kserve_namespace)) or {}).get("data") or {}
    controller = _read(hook, _CONTROLLER.format(kserve_namespace))
    gateway = _section(config, "ingress").get("enableGatewayApi")
    facts = ClusterFacts(
        status_mode=(live.get("status") or {}).get("deploymentMode"),
        annotation=read_mode_annotation(manifest),
        default_mode=_section(config, "deploy").get("defaultDeploymentMode"),
        controller_version=read_controller_version(controller) if controller else None,
        gateway_api=None if gateway is None else bool(gateway),
    )
    crd = _read(hook, _CRD) if could_split(facts) else None
    return facts if crd is None else replace(facts, canary_field=has_canary_field(crd))


def _read(hook: KServeHook, path: str) -> dict[str, Any] | None:
    status, body = hook.send(KubeRequest(method="GET", path=path))
    if status != 200:
        if denied := missing_permission(body):
            _log.warning("Which way a canary can go is known less well: %s", denied)
        return None
    found: dict[str, Any] = json.loads(body)
    return found


def _section(config: Mapping[str, str], name: str) -> dict[str, Any]:
    try:
        found = json.loads(config.get(name) or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


class Way(Protocol):
    """How the candidate comes, gets its share, and goes. Each line that is returned says what was done."""

    hook: KServeHook

    def begin(self, live: Mapping[str, Any], lineage: Mapping[str, str], remember: Remember) -> DeployPlan:
        """Bring the candidate up beside *live*, the stable service."""
        ...

    def adopt(self, live: Mapping[str, Any], lineage: Mapping[str, str]) -> DeployPlan | None:
        """Return the plan of a candidate that is there already, with the very same spec; None where there is none."""
        ...

    def shift(self, percent: int) -> None:
        """Give the candidate its share of the traffic, and wait until it has it."""
        ...

    def go_back(self, plan: DeployPlan | None, *, wait: bool = True) -> str:
        """Take the candidate away, if it is the one of *plan*; None: whichever is there.

        :param wait: until its pods are gone.
        """
        ...

    def finish(self, plan: DeployPlan) -> str:
        """Take away what the promotion has left of the candidate."""
        ...


class MirrorWay:
    """A service of its own beside the stable one, which gets no client's request."""

    def __init__(self, hook: KServeHook, say: Say, manifest: Mapping[str, Any], candidate_name: str) -> None:
        self.hook, self._say = hook, say
        self._stable: str = manifest["metadata"]["name"]
        self.manifest = build_candidate(manifest, candidate_name)
        self._reference = ServiceReference(name=candidate_name, namespace=manifest["metadata"]["namespace"])

    def find(self) -> dict[str, Any] | None:
        """Return the candidate that is there.

        :raises ConflictError: what has its name is somebody else's.
        """
        live = self.hook.get_service(self._reference)
        if live is not None:
            check_candidate(live, self._stable, self.manifest["metadata"]["labels"].get(ENVIRONMENT_LABEL))
        return live

    def begin(self, live: Mapping[str, Any], lineage: Mapping[str, str], remember: Remember) -> DeployPlan:
        """Make the candidate, go on with one that is there already, or replace one of another version."""
        found = self.find()
        if found is not None and found["metadata"].get("deletionTimestamp"):
            self._say(f"{self._reference} is still being deleted; waiting until it is gone")
            self._delete(found)
            found = None
        plan = apply_plan(self.hook, self.manifest, lineage, remember=remember)
        if found is None:
            self._say(f"{self._reference}: created as the candidate of {self._stable}")
        elif not plan.changed:
            self._say(f"{self._reference}: an earlier try left it behind with the very same spec; going on with it")
        else:
            self._say(f"{self._reference}: it was the candidate with {served_model(found)}; replaced")
        return plan

    def adopt(self, live: Mapping[str, Any], lineage: Mapping[str, str]) -> DeployPlan | None:
        found = self.find()
        if found is None or read_spec_hash(found) != compute_spec_hash(self.manifest):
            return None
        return apply_plan(self.hook, self.manifest, lineage, dry_run=True)

    def shift(self, percent: int) -> None:
        """Do nothing: there is no traffic to divide."""

    def go_back(self, plan: DeployPlan | None, *, wait: bool = True) -> str:
        live = self.find()
        if live is None:
            return f"the candidate {self._reference} is gone already"
        if plan is not None and not _is_of(plan, live):
            return f"the candidate {self._reference} is another one by now ({served_model(live)}); it stays"
        if wait:
            self._delete(live)
        else:
            self.hook.delete(self._reference, live["metadata"]["uid"])
        return f"the candidate {self._reference} is deleted"

    def finish(self, plan: DeployPlan) -> str:
        return self.go_back(plan)

    def _delete(self, live: Mapping[str, Any]) -> None:
        delete_service(
            self.hook,
            self._reference,
            uid=live["metadata"]["uid"],
            timeout_seconds=_DELETE_SECONDS,
            ignore_missing=True,
            say=self._say,
        )


def _is_of(plan: DeployPlan, live: Mapping[str, Any]) -> bool:
    # Without a UID the task was stopped before it knew it.
    same_object = plan.awaited.uid in (None, live["metadata"]["uid"])
    return bool(same_object and read_spec_hash(live) == plan.awaited.spec_hash)
