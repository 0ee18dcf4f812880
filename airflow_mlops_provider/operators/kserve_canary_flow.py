"""A candidate's way: brought up, watched step by step, promoted or taken away.

Decides the order. How a candidate lives in the cluster is :mod:`airflow_mlops_provider.hooks.kserve_canary`'s; the
promotion is the deployment of :mod:`.kserve_flow`. Does I/O while a task runs.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

from airflow_mlops_provider.declaration import ResolvedModel
from airflow_mlops_provider.exceptions import (
    CanaryRejectedError,
    ConflictError,
    DeploymentFailedError,
    MLOpsProviderError,
    PermanentError,
    TransientError,
)
from airflow_mlops_provider.hooks.failing import permanent_errors_fail
from airflow_mlops_provider.manifests.batch_pod import build_model_annotations
from airflow_mlops_provider.manifests.canary_mode import ModeChoice
from airflow_mlops_provider.manifests.canary_requests import path_for
from airflow_mlops_provider.manifests.inference_service_seal import compute_spec_hash, read_spec_hash
from airflow_mlops_provider.manifests.naming import DAG_RUN_ANNOTATION
from airflow_mlops_provider.operators.kserve_canary_memory import CanaryMemory

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_mlops_provider.hooks.kserve import KServeHook
    from airflow_mlops_provider.hooks.kserve_apply import DeployPlan
    from airflow_mlops_provider.hooks.kserve_canary import Trial, Way
    from airflow_mlops_provider.hooks.kserve_probe import Outcome
    from airflow_mlops_provider.manifests.rollout_evidence import Verdict


class CanaryFlow(CanaryMemory):
    """Carry out a gated rollout whose settings the operator holds."""

    def lineage(self, model: ResolvedModel, context: Context) -> dict[str, str]:
        return {**build_model_annotations(model.to_dict()), DAG_RUN_ANNOTATION: context["run_id"]}

    def way(self, mode: str, manifest: Mapping[str, Any], hook: KServeHook | None = None) -> Way:
        """Return how a candidate lives in the cluster.

        :param hook: other than the task's.
        """
        from airflow_mlops_provider.hooks.kserve_canary import MirrorWay
        from airflow_mlops_provider.hooks.kserve_canary_traffic import EntryHook, EntryWay, PercentWay

        hook = hook or self.kserve
        if mode == "mirror":
            return MirrorWay(hook, self.log.info, manifest, self.chosen_candidate_name())
        first = next(iter(self.steps), 0)
        if mode == "canary":
            return EntryWay(EntryHook(self.kubernetes_conn_id), self.log.info, manifest, first)
        return PercentWay(hook, self.log.info, manifest, first)

    def begin(
        self,
        choice: ModeChoice,
        live: Mapping[str, Any],
        manifest: Mapping[str, Any],
        model: ResolvedModel,
        context: Any,
    ) -> dict[str, Any] | None:
        """Bring the candidate up and go on with it."""
        from airflow_mlops_provider.hooks.kserve_rollout import wait_for_rollout

        way = self.way(choice.mode, manifest)

        def remember(before: DeployPlan) -> None:
            self.trial = self.new_trial(choice, before, live)
            self.keep_plan(before, context)

        plan = self.recall_plan(way.begin(live, self.lineage(model, context), remember), context)
        self.trial = self.new_trial(choice, plan, live)
        deadline = time.time() + self.timeout_seconds
        # The canary in a service's spec is none for a trigger: it would see the service's own seal.
        if self.deferrable and choice.mode != "canary":
            self.defer_candidate(model, deadline)
        with self.abandoning(way, context):
            verdict = wait_for_rollout(
                way.hook,
                plan.service,
                plan.awaited,
                deadline_seconds=deadline,
                poll_interval_seconds=self.poll_interval_seconds,
                say=self.log.info,
            )
        return self._candidate_over(way, verdict, model, context)

    def new_trial(self, choice: ModeChoice, plan: DeployPlan, live: Mapping[str, Any]) -> Trial:
        """Return the trial of a candidate beside *live*.

        :raises DeploymentFailedError: it is not known which version the candidate is to be compared with.
        """
        from airflow_mlops_provider.hooks.kserve_canary import Trial

        # Knative's newest revision is the candidate: the service's seal is the candidate's then.
        stable = live if choice.mode != "knative" else plan.former
        stable_hash = read_spec_hash(stable) if stable else None
        if stable_hash is None:
            raise DeploymentFailedError(
                f"{self.reference}: it is not known what served before, so there is nothing to compare with; deploy it "
                "with KServeDeployOperator, or take the candidate away with action='rollback'"
            )
        return Trial(mode=choice.mode, reason=choice.reason, plan=plan.to_dict(), stable_hash=stable_hash)

    def candidate_over(self, context: Context, event: Mapping[str, Any], **carried: Any) -> dict[str, Any] | None:
        """Go on after the candidate's rollout, in a new process."""
        from airflow_mlops_provider.manifests.rollout_evidence import Verdict

        with permanent_errors_fail():
            model = self.resume(**carried)
            self.log.info("%s: %s", self.current.deployed.service, event["cause"])
            way = self.way(self.current.mode, self.build_manifest(model, context))
            verdict = Verdict(**{**event, "pods": tuple(event["pods"])})
            return self._candidate_over(way, verdict, model, context)

    def _candidate_over(
        self, way: Way, verdict: Verdict, model: ResolvedModel, context: Context
    ) -> dict[str, Any] | None:
        from airflow_mlops_provider.hooks.kserve_rollout import explain

        with self.abandoning(way, context):
            plan = self.current.deployed
            if verdict.state != "ready":
                raise explain(way.hook, plan.service, plan.awaited, verdict)
            self._verify_candidate(way, model)
        return self._go_on(way, model, context)

    def _verify_candidate(self, way: Way, model: ResolvedModel) -> None:
        from airflow_mlops_provider.hooks.kserve_preflight import read_input_example
        from airflow_mlops_provider.hooks.kserve_verify import verify_rollout

        plan, smoke = self.current.deployed, self._smoke()
        verify_rollout(
            way.hook,
            plan,
            access="api-server",
            protocol=None if self.manifest is not None else self.protocol,
            smoke=smoke and replace(smoke, path=path_for(smoke.path, self.name, plan.service.name)),
            example=lambda: read_input_example(self.mlflow_hook, model),
            say=self.log.info,
        )

    def step_over(self, context: Context, event: Mapping[str, Any], **carried: Any) -> dict[str, Any] | None:
        """Go on after a step, in a new process."""
        with permanent_errors_fail():
            model = self.resume(**carried)
            way = self.way(self.current.mode, self.build_manifest(model, context))
            with self.abandoning(way, context):
                if "error" in event:
                    raise (TransientError if event["transient"] else PermanentError)(event["error"])
                self._judge(event["outcome"])
            return self._go_on(way, model, context)

    def _go_on(self, way: Way, model: ResolvedModel, context: Context) -> dict[str, Any] | None:
        """Carry out the steps that are left, then promote."""
        from airflow_mlops_provider.hooks.kserve_probe import run_bake

        with self.abandoning(way, context):
            for step in self.steps[len(self.story["measurements"]) :]:
                way.shift(step)
                bake = self.bake_step(step, self.current, model)
                self.log.info("Step %d: %d requests to each version in %g s", step, bake.planned, self.bake_seconds)
                if self.deferrable:
                    self.defer_step(bake, model)
                self._judge(run_bake(self.kserve, bake, self.log.info))
        if self.action == "start":
            self.story["verdict"] = "started"
            return {**super()._record(self.current.deployed, model, context), "canary": self.story}
        return self.promote(way, self.build_manifest(model, context), model, context)

    def _judge(self, outcome: Outcome) -> None:
        """:raises CanaryRejectedError: a bar is broken."""
        measured, breach = outcome["measurement"], outcome["breach"]
        self.story["measurements"] = [*self.story["measurements"], measured]
        self.log.info("Step %d: %s", measured["step"], ", ".join(f"{key} {value}" for key, value in measured.items()))
        if breach is not None:
            raise CanaryRejectedError(
                f"{self.current.deployed.service} is not promoted: {breach['message']}; at step {measured['step']}"
            )

    def promote(
        self, way: Way, manifest: Mapping[str, Any], model: ResolvedModel, context: Context
    ) -> dict[str, Any] | None:
        """Give the stable service the new spec; the candidate goes when that has answered."""
        self.publish_story("promoting", context)
        self.story["verdict"] = "promoted"
        with self.abandoning(way, context):
            self._refuse_changed_service(manifest)
            self.keep_story(compute_spec_hash(manifest), context)
            plan = self._apply(manifest, model, context)
        if self.current.mode != "mirror":
            self.done = plan = replace(plan, former=self.current.deployed.former)
        deadline = time.time() + self.timeout_seconds
        if self.deferrable:
            self._defer(plan, model, deadline)
        return self._finish(plan, self._wait(plan, deadline), model, context)

    def _refuse_changed_service(self, manifest: Mapping[str, Any]) -> None:
        """:raises ConflictError: somebody has deployed something else meanwhile."""
        live, trial = self.kserve.get_service(self.reference), self.current
        if live is None:
            raise DeploymentFailedError(f"{self.reference} was deleted while its canary ran; deploy it again")
        found = read_spec_hash(live)
        if trial.mode == "mirror" and found not in (trial.stable_hash, compute_spec_hash(manifest)):
            raise ConflictError(
                f"{self.reference} was changed while its canary ran (spec {found}, not {trial.stable_hash}); start "
                "again, so that the candidate is compared with what serves now"
            )

    @contextmanager
    def abandoning(self, way: Way, context: Context) -> Iterator[None]:
        """Take the candidate away if it fails. What may pass leaves it, as long as a retry can go on with it."""
        try:
            yield
        except MLOpsProviderError as error:
            cause, _, proof = str(error).partition("\n")
            for line in str(error).splitlines():
                self.log.error(line)
            if isinstance(error, TransientError) and context["ti"].try_number <= context["ti"].max_tries:
                after = "the candidate stays: the next try goes on with it"
            else:
                after = f"{self._take_away(way, wait=True)}; the stable version serves on"
                self.publish_story("rolled_back", context)
            self.log.error(after)
            raise type(error)("\n".join([cause, after, *([proof] if proof else [])])) from error

    def _take_away(self, way: Way, *, wait: bool) -> str:
        """Return one line that says what was done. Never raises: it follows a failure."""
        try:
            return way.go_back(self.current.deployed, wait=wait)
        except MLOpsProviderError as error:
            return f"taking the candidate away failed, too: {error}"

    def publish_story(self, verdict: str, context: Context) -> None:
        """Push the story for a task that fails, which returns nothing."""
        self.story["verdict"] = verdict
        context["ti"].xcom_push(key="canary", value=dict(self.story))

    def _fail(self, plan: DeployPlan, error: MLOpsProviderError) -> NoReturn:
        """End a promotion that failed: the candidate goes as well; ``on_failure`` says what becomes of the service."""
        if self.trial is not None and self.trial.mode == "mirror":
            # Without waiting for its end: the former version's pods matter more.
            self.log.error(self._take_away(self.way("mirror", self.empty_manifest()), wait=False))
        super()._fail(plan, error)

    def on_kill(self) -> None:
        """Take the candidate away; a promotion under way ends as ``on_failure`` says."""
        super().on_kill()
        if self.trial is None:
            return
        from airflow_mlops_provider.hooks.kserve import KServeHook

        # A promotion under way has taken the share of the traffic away already.
        if self.done is None or self.trial.mode == "mirror":
            way = self.way(self.trial.mode, self.empty_manifest(), KServeHook(self.kubernetes_conn_id))
            self.log.warning(self._take_away(way, wait=False))
