"""The careful online step: a new version serves all clients only after it has answered as well as the one before.

Decides what a person can set, what counts as nothing to try, and what each action does. The candidate's way is
:mod:`.kserve_canary_flow`'s. Does I/O while a task runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_mlops_provider.declaration import ResolvedModel
from airflow_mlops_provider.exceptions import ConflictError, DeploymentFailedError
from airflow_mlops_provider.hooks.failing import permanent_errors_fail
from airflow_mlops_provider.manifests.canary_candidate import divides_traffic
from airflow_mlops_provider.manifests.canary_mode import ModeChoice, choose_mode
from airflow_mlops_provider.manifests.inference_service_seal import (
    ENVIRONMENT_LABEL,
    check_ownership,
    compute_spec_hash,
    read_spec_hash,
)
from airflow_mlops_provider.operators.kserve_canary_flow import CanaryFlow
from airflow_mlops_provider.operators.kserve_deploy import KServeDeployOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_mlops_provider.hooks.kserve_apply import DeployPlan


class KServeCanaryOperator(CanaryFlow, KServeDeployOperator):
    """Try a new version beside the one that serves, and promote it only if no bar is broken.

    Takes every argument of :class:`~airflow_mlops_provider.operators.kserve_deploy.KServeDeployOperator`;
    ``on_failure`` speaks of the promotion and is ``rollback`` unless said otherwise. See ``docs/canary.md``.

    :param steps: rising percentages, 1 to 99: of the clients' traffic where KServe divides it, else of
        ``probes_per_step``. The promotion follows the last one.
    :param bake_seconds: how long each step is watched.
    :param max_error_rate: share of the candidate's probes that may fail, 0 to 1.
    :param max_latency_seconds: of the candidate's 95th percentile; None: not judged.
    :param max_latency_ratio: the same, as a multiple of the stable version's.
    :param min_agreement: share of predictions that have to equal the stable version's, 0 to 1; None: not judged.
    :param tolerance: by which numbers may differ and still be equal: relative, and absolute below 1.
    :param probe_requests: bodies in the words of the protocol, which take turns. Default: the request of the smoke
        test, else the model's input example. (templated)
    :param probe_rows: records instead, ``[{"age": 40, …}, …]``; each is a request of its own. (templated)
    :param probes_per_step: requests to each version, at 100 per cent.
    :param candidate_name: of the second InferenceService; default ``<name>-candidate``. (templated)
    :param mode: ``auto``, or one of ``knative``, ``canary``, ``mirror``; what this cluster would ignore is refused.
    :param action: ``run``: all of it. ``start``: up to the last step; the candidate stays. ``promote``: only the
        promotion of a candidate that ``start`` left. ``rollback``: only take the candidate away.
    :param kserve_namespace: where KServe's controller runs; its version and settings are read there.
    :return: as the deployment, and ``"canary": {"mode", "reason", "steps", "verdict", "measurements"}``; the verdict is
        ``first``, ``unchanged``, ``started``, ``promoted`` or ``rolled_back``. A task that fails pushes the same under
        the XCom key ``canary``.
    :raises AirflowFailException: a bar is broken, or the candidate fails; the first line is the cause. The stable
        version serves on as before.
    """

    template_fields: Sequence[str] = (
        *KServeDeployOperator.template_fields,
        "probe_requests",
        "probe_rows",
        "candidate_name",
    )

    def __init__(
        self,
        *,
        steps: Sequence[int] = (10, 50),
        bake_seconds: float = 900,
        max_error_rate: float = 0.0,
        max_latency_seconds: float | None = None,
        max_latency_ratio: float | None = None,
        min_agreement: float | None = None,
        tolerance: float = 1e-6,
        probe_requests: Sequence[Any] | None = None,
        probe_rows: Sequence[Mapping[str, Any]] | None = None,
        probes_per_step: int = 100,
        candidate_name: str | None = None,
        mode: str = "auto",
        action: str = "run",
        kserve_namespace: str = "kserve",
        on_failure: str = "rollback",
        **kwargs: Any,
    ) -> None:
        super().__init__(on_failure=on_failure, **kwargs)
        self.steps = steps
        self.bake_seconds = bake_seconds
        self.max_error_rate = max_error_rate
        self.max_latency_seconds = max_latency_seconds
        self.max_latency_ratio = max_latency_ratio
        self.min_agreement = min_agreement
        self.tolerance = tolerance
        self.probe_requests = probe_requests
        self.probe_rows = probe_rows
        self.probes_per_step = probes_per_step
        self.candidate_name = candidate_name
        self.mode = mode
        self.action = action
        self.kserve_namespace = kserve_namespace
        self.trial = None
        self.story = {}

    def execute(self, context: Context) -> dict[str, Any] | None:
        """Find out whether there is something to try, and try it."""
        with permanent_errors_fail():
            self._check_arguments()
            self.refuse_forbidden_task(runner="kubernetes", kubernetes=self.kubernetes_conn_id)
            if self.action == "rollback":
                return self._roll_back_by_hand()
            # One model from here on: without a state store each look at it would resolve it anew.
            self.model = model = self.pin_model(context)
            manifest = self.build_manifest(model, context)
            self._refuse_forbidden_service(manifest)
            live = self._find_stable(manifest)
            if live is None or self._serves_already(live, manifest, context):
                return super().execute(context)
            choice = self._choose(live, manifest)
            if self.dry_run_only:
                self.story["verdict"] = "dry_run"
                return super().execute(context)
            if self.action == "promote":
                return self._promote_by_hand(choice, live, manifest, model, context)
            self._preflight(model, manifest)
            self.probes(model)
            return self.begin(choice, live, manifest, model, context)

    def execute_complete(
        self,
        context: Context,
        event: Mapping[str, Any],
        plan: Mapping[str, Any],
        model: Mapping[str, Any],
        trial: Mapping[str, Any] | None = None,
        story: Mapping[str, Any] | None = None,
    ) -> dict[str, Any] | None:
        """Go on after the promotion's rollout, in a new process."""
        self.resume(trial, story or {}, model)
        return super().execute_complete(context, event, plan, model)

    def _tell(self, verdict: str, mode: str | None, reason: str) -> None:
        self.story = {
            "mode": mode,
            "reason": reason,
            "steps": list(self.steps),
            "verdict": verdict,
            "measurements": [],
        }

    def _find_stable(self, manifest: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the service that serves now; None where this is the first deployment.

        :raises ConflictError: it is somebody else's.
        """
        live = self.kserve.get_service(self.reference)
        if live is not None:
            check_ownership(live, manifest["metadata"]["labels"].get(ENVIRONMENT_LABEL))
            return live
        if self.action == "promote":
            raise DeploymentFailedError(f"{self.reference} does not exist: there is nothing to promote a candidate to")
        self._tell("first", None, "there is no stable service yet, so it is deployed without a canary")
        self.log.info("%s: %s", self.reference, self.story["reason"])
        return None

    def _serves_already(self, live: Mapping[str, Any], manifest: Mapping[str, Any], context: Context) -> bool:
        """Whether there is nothing to try: the service is asked for this very spec, with all of the traffic."""
        spec_hash = compute_spec_hash(manifest)
        if read_spec_hash(live) != spec_hash or divides_traffic(live):
            return False
        before = self.recall_story(spec_hash, context)
        if before is not None:
            self.story = before
            self.log.info("%s: an earlier try of this task has begun the promotion; ending it", self.reference)
        else:
            self._tell("unchanged", None, f"the very same spec is live (spec {spec_hash}), so there is nothing to try")
            self.log.info("%s: %s", self.reference, self.story["reason"])
        return True

    def _choose(self, live: Mapping[str, Any], manifest: Mapping[str, Any]) -> ModeChoice:
        from airflow_mlops_provider.hooks.kserve_canary import read_facts

        choice = choose_mode(read_facts(self.kserve, live, manifest, self.kserve_namespace), self.mode)
        if choice.mode != "mirror" and not self.steps and self.action in ("run", "start"):
            raise ValueError(f"mode {choice.mode!r} divides the traffic by steps; give at least one")
        self._tell("", choice.mode, choice.reason)
        self.log.info("Canary of %s: mode %s, because %s", self.reference, choice.mode, choice.reason)
        return choice

    def _promote_by_hand(
        self,
        choice: ModeChoice,
        live: Mapping[str, Any],
        manifest: Mapping[str, Any],
        model: ResolvedModel,
        context: Context,
    ) -> dict[str, Any] | None:
        way = self.way(choice.mode, manifest)
        plan = way.adopt(live, self.lineage(model, context))
        if plan is None:
            raise DeploymentFailedError(
                f"{self.reference} has no candidate with model {model.uri} and this spec; run action='start' first, "
                "and give this task the same arguments and the model of that one's result"
            )
        self.trial = self.new_trial(choice, self.recall_plan(plan, context), live)
        return self.promote(way, manifest, model, context)

    def _roll_back_by_hand(self) -> dict[str, Any]:
        manifest = self.empty_manifest()
        live = self._find_stable(manifest)
        mode = "mirror" if live is None else self._choose(live, manifest).mode
        done = self.way(mode, manifest).go_back(None)
        self.log.info(done)
        self.story |= {"mode": mode, "verdict": "rolled_back", "reason": done}
        return {"name": self.name, "namespace": self.namespace, "canary": self.story}

    def _record(
        self, plan: DeployPlan, model: ResolvedModel, context: Context, latency: float | None = None
    ) -> dict[str, Any]:
        """Say what serves now, and take away the candidate that it was."""
        if not self.dry_run_only:
            self._clear_up(model, context)
        return {**super()._record(plan, model, context, latency), "canary": self.story}

    def _clear_up(self, model: ResolvedModel, context: Context) -> None:
        if self.trial is not None:
            self.log.info(self.way(self.trial.mode, self.empty_manifest()).finish(self.trial.deployed))
            return
        # A try that was killed in the middle of its promotion has left its candidate: the twin of what serves now.
        manifest = self.build_manifest(model, context)
        if manifest["kind"] != self.reference.kind:
            return
        try:
            twin = self.way("mirror", manifest).adopt({}, self.lineage(model, context))
        except ConflictError:
            return  # what has the candidate's name is none
        if twin is not None:
            self.log.info(self.way("mirror", manifest).finish(twin))
