"""What a canary knows of itself in another process: after a deferral, on a retry, and when it is killed.

Decides what travels and what is kept in the task state store. Does I/O only through Airflow's store.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from airflow.sdk.exceptions import TaskDeferred

from airflow_mlops_provider.declaration import ResolvedModel
from airflow_mlops_provider.operators.kserve_canary_settings import CanarySettings

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_mlops_provider.hooks.kserve_apply import DeployPlan
    from airflow_mlops_provider.hooks.kserve_canary import Trial
    from airflow_mlops_provider.hooks.kserve_probe import BakeStep

#: Keys in the task state store, which outlives a try: what was applied for the candidate, and how far its story went.
_PLAN_KEY: Final = "kserve_canary_plan"
_STORY_KEY: Final = "kserve_canary_story"


class CanaryMemory(CanarySettings):
    """Defer a canary and take it up again.

    ``story`` is what the result says under ``canary``; ``trial`` the candidate that is being tried.
    """

    trial: Trial | None
    story: dict[str, Any]

    @property
    def current(self) -> Trial:
        if self.trial is None:
            raise RuntimeError("no candidate is being tried")
        return self.trial

    def _carried(self, model: ResolvedModel) -> dict[str, Any]:
        return {"trial": self.current.to_dict(), "model": model.to_dict(), "story": self.story}

    def resume(
        self, trial: Mapping[str, Any] | None, story: Mapping[str, Any], model: Mapping[str, Any]
    ) -> ResolvedModel:
        """Be what the process was that deferred."""
        from airflow_mlops_provider.hooks.kserve_canary import Trial

        self.trial = Trial(**trial) if trial else None
        self.story = dict(story)
        return ResolvedModel(**model)

    def defer_candidate(self, model: ResolvedModel, deadline: float) -> None:
        """Wait for the candidate's rollout in the triggerer."""
        from airflow_mlops_provider.triggers.kserve import KServeRolloutTrigger

        plan = self.current.deployed
        self.defer(
            trigger=KServeRolloutTrigger(
                kubernetes_conn_id=self.kubernetes_conn_id,
                service=plan.service.to_dict(),
                target=dict(plan.target),
                deadline_seconds=deadline,
                delete_on_kill=self.current.mode == "mirror",
            ),
            method_name="candidate_over",
            kwargs=self._carried(model),
        )

    def defer_step(self, step: BakeStep, model: ResolvedModel) -> None:
        """Carry out a step in the triggerer."""
        from airflow_mlops_provider.triggers.kserve_canary import KServeCanaryTrigger

        plan, undo = self.current.deployed, {}
        if self.current.mode == "mirror":
            undo = {"service": plan.service.to_dict(), "uid": plan.awaited.uid}
        elif plan.former is not None:
            undo = {"manifest": dict(plan.former)}
        self.defer(
            trigger=KServeCanaryTrigger(kubernetes_conn_id=self.kubernetes_conn_id, step=step.to_dict(), undo=undo),
            method_name="step_over",
            kwargs=self._carried(model),
        )

    def _defer(self, plan: DeployPlan, model: ResolvedModel, deadline: float) -> None:
        """Wait for the promotion's rollout as a deployment does, and remember what it is the end of."""
        try:
            super()._defer(plan, model, deadline)
        except TaskDeferred as deferred:
            trial = self.trial.to_dict() if self.trial is not None else None
            deferred.kwargs = {**(deferred.kwargs or {}), "trial": trial, "story": self.story}
            raise

    def keep_plan(self, plan: DeployPlan, context: Context) -> None:
        """Keep what was applied for the candidate, just before it is."""
        self._keep(_PLAN_KEY, {"plan": plan.to_dict()}, context)

    def recall_plan(self, plan: DeployPlan, context: Context) -> DeployPlan:
        """Return *plan* with what an earlier try of this task found, where that try applied this same candidate."""
        from airflow_mlops_provider.hooks.kserve_apply import DeployPlan

        kept = self._kept(_PLAN_KEY, context) if not plan.changed else None
        if kept is None:
            return plan
        before = DeployPlan(**kept["plan"])
        if before.service != plan.service or before.awaited.spec_hash != plan.awaited.spec_hash:
            return plan
        return replace(plan, created=before.created, former=before.former or plan.former)

    def keep_story(self, spec_hash: str, context: Context) -> None:
        """Keep how the promotion to a spec came about, just before it begins."""
        self._keep(_STORY_KEY, {"spec_hash": spec_hash, "story": self.story}, context)

    def recall_story(self, spec_hash: str, context: Context) -> dict[str, Any] | None:
        """Return how an earlier try of this task came to promote this spec."""
        kept = self._kept(_STORY_KEY, context)
        return dict(kept["story"]) if kept is not None and kept["spec_hash"] == spec_hash else None

    def _keep(self, key: str, value: Mapping[str, Any], context: Context) -> None:
        store = context.get("task_state_store")
        if store is not None:
            store.set(key, {"max_tries": context["ti"].max_tries, **value})

    def _kept(self, key: str, context: Context) -> dict[str, Any] | None:
        """Return what was kept, unless the task was cleared since then."""
        store = context.get("task_state_store")
        kept: Any = store.get(key) if store is not None else None
        return kept if isinstance(kept, dict) and kept["max_tries"] == context["ti"].max_tries else None
