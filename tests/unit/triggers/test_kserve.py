"""The trigger's arguments survive a restart of the triggerer."""

from __future__ import annotations

import importlib
import json
from dataclasses import asdict

from airflow_mlops_provider.hooks.kserve_api import ServiceReference
from airflow_mlops_provider.manifests.rollout import Target
from airflow_mlops_provider.triggers.kserve import KServeRolloutTrigger

TARGET = Target(name="churn", namespace="ml", uid="u1", spec_hash="new0", generation=2)


def test_round_trip_carries_names_uid_hash_and_deadline_only() -> None:
    trigger = KServeRolloutTrigger(
        kubernetes_conn_id="k8s_prod",
        service=ServiceReference(name="churn", namespace="ml").to_dict(),
        target=asdict(TARGET),
        deadline_seconds=1e9,
    )
    path, kwargs = trigger.serialize()
    module, _, name = path.rpartition(".")
    again = getattr(importlib.import_module(module), name)(**json.loads(json.dumps(kwargs)))
    assert again.serialize() == trigger.serialize()
    assert Target(**again.target) == TARGET
    assert len(json.dumps(kwargs)) < 500
