"""One deployment from start to end: resolve, preflight, apply, wait, verify, record, and what follows a failure.

Decides the order, and what a retry and a re-entry after a deferral know of what was done before. Each step is a hook's;
the wait is a poll here or a watch in :mod:`airflow_mlops_provider.triggers.kserve`. Does I/O while a task runs.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, NoReturn

from airflow.sdk import BaseOperator

from airflow_mlops_provider.declaration import ResolvedModel
from airflow_mlops_provider.exceptions import MLOpsProviderError
from airflow_mlops_provider.links.kserve import push_endpoint_link
from airflow_mlops_provider.manifests.batch_pod import build_model_annotations
from airflow_mlops_provider.manifests.inference_service import (
    ServiceOptions,
    adopt_manifest,
    build_inference_service,
)
from airflow_mlops_provider.manifests.inference_service_request import parse_smoke_test
from airflow_mlops_provider.manifests.naming import DAG_RUN_ANNOTATION, ownership_labels
from airflow_mlops_provider.operators.model_task import ModelTaskMixin, permanent_errors_fail

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_mlops_provider.hooks.kserve import KServeHook
    from airflow_mlops_provider.hooks.kserve_apply import DeployPlan
    from airflow_mlops_provider.manifests.inference_service_request import SmokeTest
    from airflow_mlops_provider.manifests.rollout_evidence import Verdict

#: Key in the task state store, which outlives a try: what was there before, so that a retry can still go back to it.
_BEFORE_KEY: Final = "kserve_before"
#: Fields of the options that the operator has under another name, or adds to.
_OWN_OPTIONS: Final = {"labels", "resources", "logger"}


class DeployFlow(ModelTaskMixin, BaseOperator):
    """Carry out a deployment whose settings the operator holds."""

    # A service has no input, no output and no partitions of its own.
    input_uri = None
    output_uri = None
    partition = 0
    partitions = 1

    name: str
    namespace: str
    kubernetes_conn_id: str
    pod_resources: Mapping[str, Any] | None
    request_logger: Mapping[str, Any] | None
    labels: Mapping[str, str] | None
    protocol: str
    overrides: Mapping[str, Any] | None
    manifest: Mapping[str, Any] | None
    smoke_test: Mapping[str, Any] | None
    on_failure: str
    access: str
    timeout_seconds: float
    poll_interval_seconds: float
    deferrable: bool
    dry_run_only: bool
    #: What was done so far, for ``on_kill``.
    done: DeployPlan | None

    @cached_property
    def kserve(self) -> KServeHook:
        from airflow_mlops_provider.hooks.kserve import KServeHook

        return KServeHook(self.kubernetes_conn_id)

    def execute(self, context: Context) -> dict[str, Any] | None:
        """Deploy, wait, verify, record."""
        with permanent_errors_fail():
            self._check_arguments()
            self.refuse_forbidden_task(runner="kubernetes", kubernetes=self.kubernetes_conn_id)
            model = self.pin_model(context)
            manifest = self.build_manifest(model, context)
            self._refuse_forbidden_service(manifest)
            self._preflight(model, manifest)
            plan = self._apply(manifest, model, context)
            if self.dry_run_only:
                return self._record(plan, model, context)
            deadline = time.time() + self.timeout_seconds
            if self.deferrable:
                self._defer(plan, model, deadline)
            verdict = self._wait(plan, deadline)
            return self._finish(plan, verdict, model, context)

    def execute_complete(
        self, context: Context, event: Mapping[str, Any], plan: Mapping[str, Any], model: Mapping[str, Any]
    ) -> dict[str, Any] | None:
        """Go on after the trigger's event, in a new process.

        :param event: a verdict as a dictionary.
        :param plan: what was done before the deferral.
        """
        from airflow_mlops_provider.hooks.kserve_apply import DeployPlan
        from airflow_mlops_provider.manifests.rollout_evidence import Verdict

        with permanent_errors_fail():
            self.done = DeployPlan(**plan)
            self.log.info("%s: %s", self.done.service, event["cause"])
            verdict = Verdict(**{**event, "pods": tuple(event["pods"])})
            return self._finish(self.done, verdict, ResolvedModel(**model), context)

    def _check_arguments(self) -> None:
        from airflow_mlops_provider.hooks.kserve_recover import ON_FAILURE

        if self.on_failure not in ON_FAILURE:
            raise ValueError(f"on_failure is one of {', '.join(ON_FAILURE)}, not {self.on_failure!r}")
        if self.access not in ("api-server", "url"):
            raise ValueError(f"access is 'api-server' or 'url', not {self.access!r}")
        self._smoke()

    def _smoke(self) -> SmokeTest | None:
        return parse_smoke_test(self.smoke_test, self.protocol, self.name)

    def build_manifest(self, model: ResolvedModel, context: Context) -> dict[str, Any]:
        """Return what is asked for, not yet sealed."""
        labels = {**ownership_labels(self.name, self.environment, component="online"), **(self.labels or {})}
        if self.manifest is not None:
            if self.overrides:
                raise ValueError("overrides: manifest says all there is to say; remove one of the two")
            return adopt_manifest(
                self.manifest, name=self.name, namespace=self.namespace, labels=labels, model=model.to_dict()
            )
        options = ServiceOptions(
            **{item.name: getattr(self, item.name) for item in fields(ServiceOptions) if item.name not in _OWN_OPTIONS},
            labels=labels,
            resources=self.pod_resources,
            logger=self.request_logger,
        )
        return build_inference_service(options, model.to_dict(), self.contract(model, context))

    def _refuse_forbidden_service(self, manifest: Mapping[str, Any]) -> None:
        if self.platform_settings is not None:
            from airflow_mlops_provider.declaration.service_policy import check_service

            self.refuse(check_service(manifest, self.platform_settings))

    def _preflight(self, model: ResolvedModel, manifest: Mapping[str, Any]) -> None:
        from airflow_mlops_provider.hooks.kserve_preflight import check_runtime, read_input_example

        runtime = ((manifest["spec"].get("predictor") or {}).get("model") or {}).get("runtime")
        if runtime is None:
            self.log.info("No serving runtime is named: the model's requirements were not compared")
        else:
            self.log.info(check_runtime(self.kserve, self.mlflow_hook, model, name=runtime, namespace=self.namespace))
        smoke = self._smoke()
        if smoke is None:
            self.log.info("No smoke test: the service counts as deployed when it says over HTTP that it is ready")
        elif smoke.request is None:
            read_input_example(self.mlflow_hook, model)

    def _apply(self, manifest: Mapping[str, Any], model: ResolvedModel, context: Context) -> DeployPlan:
        from airflow_mlops_provider.hooks.kserve_apply import apply_plan

        lineage = {**build_model_annotations(model.to_dict()), DAG_RUN_ANNOTATION: context["run_id"]}
        plan = apply_plan(
            self.kserve,
            manifest,
            lineage,
            dry_run=self.dry_run_only,
            remember=lambda before: self._remember(before, context),
        )
        self.done = plan = self._recall(plan, context)
        did = "created" if plan.created else "changed" if plan.changed else "unchanged, nothing was applied"
        self.log.info("%s: %s (spec %s, model %s)", plan.service, did, plan.awaited.spec_hash, model.uri)
        return plan

    def _remember(self, plan: DeployPlan, context: Context) -> None:
        """Keep what was there before, just before it is changed."""
        self.done = plan
        store = context.get("task_state_store")
        if store is not None:
            store.set(_BEFORE_KEY, {"max_tries": context["ti"].max_tries, "plan": plan.to_dict()})

    def _recall(self, plan: DeployPlan, context: Context) -> DeployPlan:
        """Return *plan* with what an earlier try of this task found, where that try applied this same spec."""
        from airflow_mlops_provider.hooks.kserve_apply import DeployPlan

        store = context.get("task_state_store")
        kept: Any = store.get(_BEFORE_KEY) if store is not None and not plan.changed else None
        if not kept or kept["max_tries"] != context["ti"].max_tries:
            return plan
        before = DeployPlan(**kept["plan"])
        if before.service != plan.service or before.awaited.spec_hash != plan.awaited.spec_hash:
            return plan
        return replace(plan, created=before.created, changed=before.changed, former=before.former)

    def _defer(self, plan: DeployPlan, model: ResolvedModel, deadline: float) -> None:
        from airflow_mlops_provider.triggers.kserve import KServeRolloutTrigger

        self.defer(
            trigger=KServeRolloutTrigger(
                kubernetes_conn_id=self.kubernetes_conn_id,
                service=plan.service.to_dict(),
                target=dict(plan.target),
                deadline_seconds=deadline,
                delete_on_kill=plan.created and self.on_failure == "delete_if_created",
            ),
            method_name="execute_complete",
            kwargs={"plan": plan.to_dict(), "model": model.to_dict()},
        )

    def _wait(self, plan: DeployPlan, deadline: float) -> Verdict:
        from airflow_mlops_provider.hooks.kserve_rollout import wait_for_rollout

        return wait_for_rollout(
            self.kserve,
            plan.service,
            plan.awaited,
            deadline_seconds=deadline,
            poll_interval_seconds=self.poll_interval_seconds,
            say=self.log.info,
        )

    def _finish(
        self, plan: DeployPlan, verdict: Verdict, model: ResolvedModel, context: Context
    ) -> dict[str, Any] | None:
        from airflow_mlops_provider.hooks.kserve_rollout import explain

        if verdict.state != "ready":
            self._fail(plan, explain(self.kserve, plan.service, plan.awaited, verdict))
        try:
            latency = self._verify(plan, model)
        except MLOpsProviderError as error:
            self._fail(plan, error)
        return self._record(plan, model, context, latency)

    def _verify(self, plan: DeployPlan, model: ResolvedModel) -> float | None:
        from airflow_mlops_provider.hooks.kserve_preflight import read_input_example
        from airflow_mlops_provider.hooks.kserve_verify import verify_rollout

        return verify_rollout(
            self.kserve,
            plan,
            access=self.access,
            # A manifest of somebody's own may serve anything: only its smoke test says what to ask.
            protocol=None if self.manifest is not None else self.protocol,
            smoke=self._smoke(),
            example=lambda: read_input_example(self.mlflow_hook, model),
            say=self.log.info,
        )

    def _fail(self, plan: DeployPlan, error: MLOpsProviderError) -> NoReturn:
        from airflow_mlops_provider.hooks.kserve_recover import recover

        for line in str(error).splitlines():
            self.log.error(line)
        after = recover(self.kserve, plan, self.on_failure, say=self.log.info, wait_seconds=self.timeout_seconds)
        self.log.error(after)
        cause, _, proof = str(error).partition("\n")
        raise type(error)("\n".join([cause, after, *([proof] if proof else [])])) from error

    def _record(
        self, plan: DeployPlan, model: ResolvedModel, context: Context, latency: float | None = None
    ) -> dict[str, Any]:
        from airflow_mlops_provider.hooks.kserve_verify import describe_service

        url, revision = describe_service(self.kserve, plan)
        push_endpoint_link(context, url)
        return {
            "name": plan.service.name,
            "namespace": plan.service.namespace,
            "uid": plan.awaited.uid,
            "url": url,
            "revision": revision,
            "spec_hash": plan.awaited.spec_hash,
            "created": plan.created,
            "changed": plan.changed,
            "model": model.to_dict(),
            "latency_seconds": latency,
        }

    def on_kill(self) -> None:
        """Follow ``on_failure`` without waiting: nothing that was there before this task is deleted."""
        if self.done is None or self.dry_run_only:
            return
        from airflow_mlops_provider.hooks.kserve import KServeHook
        from airflow_mlops_provider.hooks.kserve_recover import recover

        # A hook of its own: the signal may have come in the middle of the other's request.
        self.log.warning(
            recover(KServeHook(self.kubernetes_conn_id), self.done, self.on_failure, say=self.log.info, wait_seconds=0)
        )
