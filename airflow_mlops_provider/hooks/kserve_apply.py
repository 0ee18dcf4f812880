"""From a desired manifest to the object in the cluster, touching it only where that changes something.

Decides whether anything has to be applied, and remembers what was there before. An unchanged spec is not applied: a
patch would roll the pods for its lineage annotations alone. Does I/O through the KServe hook.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from airflow_mlops_provider.hooks.kserve_api import ServiceReference, reference_of
from airflow_mlops_provider.manifests.inference_service_seal import (
    ENVIRONMENT_LABEL,
    asked_before,
    check_ownership,
    pod_annotations,
    read_spec_hash,
    seal,
)
from airflow_mlops_provider.manifests.rollout import Target, min_replicas_of

if TYPE_CHECKING:
    from airflow_mlops_provider.hooks.kserve import KServeHook


@dataclass(frozen=True, kw_only=True)
class DeployPlan:
    """What one deployment did to the cluster, in JSON types: it travels through a deferral and a retry.

    :param former: what we had asked for before, to be applied again by a rollback; None where there was nothing.
    :param created: this deployment made the object.
    :param changed: this deployment changed the object.
    """

    reference: Mapping[str, str]
    target: Mapping[str, Any]
    created: bool
    changed: bool
    former: Mapping[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def service(self) -> ServiceReference:
        return ServiceReference(**self.reference)

    @property
    def awaited(self) -> Target:
        return Target(**self.target)


def apply_plan(
    hook: KServeHook,
    manifest: Mapping[str, Any],
    lineage: Mapping[str, str],
    *,
    dry_run: bool = False,
    remember: Callable[[DeployPlan], None] = lambda _: None,
) -> DeployPlan:
    """Bring the object in line with *manifest* and return what that took.

    The API server is asked for its opinion first, a dry run through all webhooks: a refusal leaves all as it is.

    :param manifest: not yet sealed.
    :param dry_run: stop after that opinion; the plan then tells what would have been done.
    :param remember: gets the plan just before the object is changed.
    :raises ConflictError: the object, or a field of it, is somebody else's.
    :raises DeploymentFailedError: the API server, a webhook or a quota refuses it.
    """
    reference = reference_of(manifest)
    sealed, spec_hash = seal(manifest, lineage)
    live = hook.get_service(reference)
    if live is not None:
        check_ownership(live, (manifest["metadata"].get("labels") or {}).get(ENVIRONMENT_LABEL))
        if read_spec_hash(live) == spec_hash:
            # The lineage stays what it was when this version came.
            sealed, _ = seal(manifest, _lineage_of(live, lineage))
    answer = hook.apply(sealed, dry_run=True)
    changed = live is None or _asks_for_more(live, answer)
    plan = DeployPlan(
        reference=reference.to_dict(),
        target=_target_of(live or {"metadata": {}}, manifest, spec_hash),
        created=live is None and not dry_run,
        changed=changed,
        former=asked_before(live) if live is not None and changed else None,
    )
    if not changed or dry_run:
        return plan
    remember(plan)
    return replace(plan, target=_target_of(hook.apply(sealed), manifest, spec_hash))


def _target_of(item: Mapping[str, Any], manifest: Mapping[str, Any], spec_hash: str) -> dict[str, Any]:
    target = Target(
        name=manifest["metadata"]["name"],
        namespace=manifest["metadata"]["namespace"],
        uid=item["metadata"].get("uid"),
        spec_hash=spec_hash,
        generation=item["metadata"].get("generation"),
        min_replicas=min_replicas_of(manifest),
        kind=manifest["kind"],
    )
    return asdict(target)


def _lineage_of(live: Mapping[str, Any], lineage: Mapping[str, str]) -> dict[str, str]:
    found = pod_annotations(live)
    return {key: found.get(key, value) for key, value in lineage.items()}


def _asks_for_more(live: Mapping[str, Any], answer: Mapping[str, Any]) -> bool:
    """Whether the object would differ: somebody may have changed what we asked for without touching the hash."""
    parts = (("spec",), ("metadata", "labels"), ("metadata", "annotations"))
    return any(_part(live, path) != _part(answer, path) for path in parts)


def _part(item: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    found: Any = item
    for name in path:
        found = (found or {}).get(name)
    return found or None
