"""The two ways of a canary that divide the clients' traffic: Knative's percentage, and ``spec.canary``.

Decides in which order the service changes, so that a failure leaves the former version with all of the traffic. Does
I/O through the KServe hook.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, Final

from airflow_mlops_provider.exceptions import DeploymentFailedError
from airflow_mlops_provider.hooks.kserve import KServeHook
from airflow_mlops_provider.hooks.kserve_api import KubeRequest, ServiceReference, error_of
from airflow_mlops_provider.hooks.kserve_apply import DeployPlan
from airflow_mlops_provider.hooks.kserve_canary import Remember, Say
from airflow_mlops_provider.manifests.canary_candidate import (
    entry_as_service,
    entry_of,
    served_model,
    undivided_route,
    undivided_traffic,
    with_entry,
    with_percent,
    without_canary,
)
from airflow_mlops_provider.manifests.inference_service_seal import (
    asked_before,
    compute_spec_hash,
    read_spec_hash,
    seal,
)
from airflow_mlops_provider.manifests.rollout import Observation, Target

_ROUTE: Final = "/apis/gateway.networking.k8s.io/v1/namespaces/{}/httproutes/{}"
#: Controllers bring routes in line within seconds; a gateway that is asked for the first time takes longer.
_ROUTE_SECONDS: Final = 120.0
_POLL_SECONDS: Final = 1.0


class PercentWay:
    """A share of the traffic for the newest revision of the service itself (Knative mode)."""

    def __init__(
        self,
        hook: KServeHook,
        say: Say,
        manifest: Mapping[str, Any],
        first_percent: int,
        *,
        seconds: float = _ROUTE_SECONDS,
    ) -> None:
        self.hook, self._say = hook, say
        self._manifest, self._first, self._seconds = manifest, first_percent, seconds
        metadata = manifest["metadata"]
        self.reference = ServiceReference(name=metadata["name"], namespace=metadata["namespace"])

    def begin(self, live: Mapping[str, Any], lineage: Mapping[str, str], remember: Remember) -> DeployPlan:
        """Apply the new version with its first share of the traffic, or go on with one that an earlier try applied."""
        plan = self.adopt(live, lineage)
        if plan is not None:
            self._say(f"{self.reference}: an earlier try applied the very same candidate; going on with it")
            asked = self._with_share(asked_before(live) or {}, self._first)
        else:
            plan = self._plan(live, adopted=False)
            remember(plan)
            asked = self._combine(plan.former or {}, seal(self._manifest, lineage)[0])
            self._say(f"{self.reference}: the new version is applied with {self._first} per cent of the traffic")
        applied = self._apply(asked)
        return replace(plan, target={**plan.target, "generation": applied["metadata"].get("generation", 0)})

    def adopt(self, live: Mapping[str, Any], lineage: Mapping[str, str]) -> DeployPlan | None:
        same = self._candidate_hash(live) == compute_spec_hash(self._manifest)
        return self._plan(live, adopted=True) if same else None

    def _plan(self, live: Mapping[str, Any], *, adopted: bool) -> DeployPlan:
        target = Target(
            name=self.reference.name,
            namespace=self.reference.namespace,
            uid=live["metadata"]["uid"],
            spec_hash=compute_spec_hash(self._manifest),
            generation=live["metadata"].get("generation", 0),
        )
        return DeployPlan(
            reference=self.reference.to_dict(),
            target=asdict(target),
            created=False,
            changed=not adopted,
            former=self._former(live, adopted=adopted),
        )

    def shift(self, percent: int) -> None:
        """Give the new version its share, and wait until it has it.

        :raises DeploymentFailedError: the traffic is not divided.
        """
        live = self._live()
        self._apply(self._with_share(asked_before(live) or {}, percent))
        deadline = time.monotonic() + self._seconds
        while problem := self._problem(percent):
            if time.monotonic() > deadline:
                raise DeploymentFailedError(
                    f"{self.reference}: the traffic is not divided after {self._seconds:g} s: {problem}; use "
                    "mode='mirror'"
                )
            time.sleep(_POLL_SECONDS)
        self._say(f"{self.reference}: the new version has {percent} per cent of the traffic")

    def go_back(self, plan: DeployPlan | None, *, wait: bool = True) -> str:
        """Take all traffic from the new version, then ask for the former one again."""
        live = self._live()
        asked = asked_before(live) or {}
        theirs = plan is not None and self._candidate_hash(live) != plan.awaited.spec_hash
        if theirs or not self._has_share(asked):
            return f"{self.reference} has no candidate of this task; not touched"
        former = self._former(live, adopted=True) if plan is None else plan.former
        if former is None:
            self._apply(self._with_share(asked, 0))
            return f"{self.reference}: all traffic goes to the former revision (canaryTrafficPercent: 0)"
        self._withdraw(asked)
        self._apply(former)
        return f"{self.reference}: the former version is asked for again ({served_model(former)})"

    def finish(self, plan: DeployPlan) -> str:
        return f"{self.reference}: the new version has all of the traffic"

    def _live(self) -> dict[str, Any]:
        live = self.hook.get_service(self.reference)
        if live is None:
            raise DeploymentFailedError(f"{self.reference} was deleted while its canary ran; deploy it again")
        return live

    def _apply(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        self.hook.apply(asked, dry_run=True)
        return self.hook.apply(asked)

    def _combine(self, former: Mapping[str, Any], sealed: Mapping[str, Any]) -> dict[str, Any]:
        return with_percent(sealed, self._first)

    def _with_share(self, asked: Mapping[str, Any], percent: int) -> dict[str, Any]:
        return with_percent(asked, percent)

    def _has_share(self, asked: Mapping[str, Any]) -> bool:
        return "canaryTrafficPercent" in (asked.get("spec") or {}).get("predictor", {})

    def _withdraw(self, asked: Mapping[str, Any]) -> None:
        # A revision that is no longer the newest could keep its share until the next one is ready.
        self._apply(self._with_share(asked, 0))

    def _former(self, live: Mapping[str, Any], *, adopted: bool) -> Mapping[str, Any] | None:
        # Once a new version has a share, the service does not know the former one any more.
        asked = asked_before(live)
        return None if adopted or asked is None or self._has_share(asked) else asked

    def _candidate_hash(self, live: Mapping[str, Any]) -> str | None:
        return read_spec_hash(live)

    def _problem(self, percent: int) -> str | None:
        return undivided_traffic(self._live(), percent)


class EntryWay(PercentWay):
    """A share of the traffic for an entry in the service's ``spec.canary`` (KServe 0.21 with the Gateway API)."""

    def _combine(self, former: Mapping[str, Any], sealed: Mapping[str, Any]) -> dict[str, Any]:
        return with_entry(former, sealed, self._first)

    def _with_share(self, asked: Mapping[str, Any], percent: int) -> dict[str, Any]:
        spec = {**asked["spec"], "canary": [{**entry, "trafficPercent": percent} for entry in asked["spec"]["canary"]]}
        return {**asked, "spec": spec}

    def _has_share(self, asked: Mapping[str, Any]) -> bool:
        return entry_of(asked) is not None

    def _withdraw(self, asked: Mapping[str, Any]) -> None:
        """Do nothing: without its entry the canary's pods get no request."""

    def _former(self, live: Mapping[str, Any], *, adopted: bool) -> Mapping[str, Any] | None:
        asked = asked_before(live)
        return None if asked is None else without_canary(asked)

    def _candidate_hash(self, live: Mapping[str, Any]) -> str | None:
        return read_spec_hash(entry_as_service(live)) if entry_of(live) else None

    def _problem(self, percent: int) -> str | None:
        request = KubeRequest(method="GET", path=_ROUTE.format(self.reference.namespace, self.reference.name))
        status, body = self.hook.send(request)
        if status == 403:
            raise error_of(status, body, str(self.reference))
        return undivided_route(json.loads(body) if status == 200 else None, percent)


class EntryHook(KServeHook):
    """Shows the canary of a service as if it were the service: it has a seal and pods of its own."""

    def observe(self, reference: ServiceReference, *, events: bool = False) -> Observation:
        seen = super().observe(reference, events=events)
        return seen if seen.service is None else replace(seen, service=entry_as_service(seen.service))
