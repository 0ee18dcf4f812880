"""What a canary is told to do, checked, and turned into values: bars, probes, one step.

Decides where probes come from and which arguments cannot be right. Does I/O only to read the model's input example.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from airflow_mlops_provider.declaration import ResolvedModel
from airflow_mlops_provider.manifests.canary import Gates, check_steps, planned_requests
from airflow_mlops_provider.manifests.canary_candidate import candidate_name
from airflow_mlops_provider.manifests.canary_mode import MODES
from airflow_mlops_provider.manifests.canary_requests import Probe, build_probes, example_probe
from airflow_mlops_provider.manifests.inference_service import API_VERSION, KIND
from airflow_mlops_provider.manifests.naming import ownership_labels
from airflow_mlops_provider.operators.kserve_flow import DeployFlow

if TYPE_CHECKING:
    from airflow_mlops_provider.hooks.kserve_api import ServiceReference
    from airflow_mlops_provider.hooks.kserve_canary import Trial
    from airflow_mlops_provider.hooks.kserve_probe import BakeStep

ACTIONS: Final = ("run", "start", "promote", "rollback")


class CanarySettings(DeployFlow):
    """The settings that a canary has beside a deployment's; their meaning is in ``KServeCanaryOperator``."""

    annotations: Mapping[str, str] | None
    steps: Sequence[int]
    bake_seconds: float
    max_error_rate: float
    max_latency_seconds: float | None
    max_latency_ratio: float | None
    min_agreement: float | None
    tolerance: float
    probe_requests: Sequence[Any] | None
    probe_rows: Sequence[Mapping[str, Any]] | None
    probes_per_step: int
    candidate_name: str | None
    mode: str
    action: str
    kserve_namespace: str

    @property
    def reference(self) -> ServiceReference:
        from airflow_mlops_provider.hooks.kserve_api import ServiceReference

        return ServiceReference(name=self.name, namespace=self.namespace)

    @property
    def gates(self) -> Gates:
        return Gates(
            max_error_rate=self.max_error_rate,
            max_latency_seconds=self.max_latency_seconds,
            max_latency_ratio=self.max_latency_ratio,
            min_agreement=self.min_agreement,
            tolerance=self.tolerance,
        )

    def chosen_candidate_name(self) -> str:
        return candidate_name(self.name, self.namespace, self.candidate_name)

    def empty_manifest(self) -> dict[str, Any]:
        """Return as much of the service as it takes to find its candidate; no model is asked for."""
        labels = {**ownership_labels(self.name, self.environment, component="online"), **(self.labels or {})}
        metadata = {"name": self.name, "namespace": self.namespace, "labels": labels}
        return {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {**metadata, "annotations": dict(self.annotations or {})},
            "spec": {"predictor": {}},
        }

    def _check_arguments(self) -> None:
        super()._check_arguments()
        self.steps = check_steps(self.steps)
        if self.action not in ACTIONS:
            raise ValueError(f"action is one of {', '.join(ACTIONS)}, not {self.action!r}")
        if self.mode not in MODES:
            raise ValueError(f"mode is one of {', '.join(MODES)}, not {self.mode!r}")
        if self.bake_seconds < 0:
            raise ValueError(f"bake_seconds cannot be negative: {self.bake_seconds}")
        if self.probes_per_step < 1:
            raise ValueError(f"probes_per_step is at least 1, not {self.probes_per_step}")
        self.chosen_candidate_name()
        _ = self.gates
        self._told_probes()

    def _told_probes(self) -> tuple[Probe, ...]:
        return build_probes(
            name=self.name,
            protocol=self.protocol,
            smoke_test=self._smoke(),
            requests=self.probe_requests,
            rows=self.probe_rows,
        )

    def probes(self, model: ResolvedModel) -> tuple[Probe, ...]:
        """Return the requests that take turns.

        :raises ModelNotFoundError: none is given, and the model was logged without an input example.
        """
        from airflow_mlops_provider.hooks.kserve_preflight import read_input_example

        return self._told_probes() or (example_probe(read_input_example(self.mlflow_hook, model)),)

    def bake_step(self, step: int, trial: Trial, model: ResolvedModel) -> BakeStep:
        """Return a step that begins now."""
        from airflow_mlops_provider.hooks.kserve_probe import BakeStep

        plan = trial.deployed
        return BakeStep(
            stable={"reference": self.reference.to_dict(), "spec_hash": trial.stable_hash},
            candidate={"reference": plan.service.to_dict(), "spec_hash": plan.awaited.spec_hash},
            probes=[probe.to_dict() for probe in self.probes(model)],
            step=step,
            planned=planned_requests(step, self.probes_per_step, scaled=trial.mode == "mirror"),
            bake_seconds=self.bake_seconds,
            deadline_seconds=time.time() + self.bake_seconds,
            gates=asdict(self.gates),
        )
