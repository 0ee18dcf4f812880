"""The last step of a deployment: say what runs now, where everybody can look it up.

Decides what the record holds. It travels as the extra of an asset event, so that other DAGs start by it and can read
it, and as the task's XCom. No I/O of its own; Airflow stores what it returns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

_OF_SERVICE = ("name", "namespace", "uid", "url", "spec_hash")


class RecordDeploymentOperator(BaseOperator):
    """Record what an online service runs; every asset among the *outlets* gets an event with the record.

    ``{"environment": "prod", "declaration": "models/churn.yaml", "dag_run": "…", "model": {"uri": "models:/m-…",
    "digest": "sha256:…", "run_id": …, "git_commit": …, …}, "service": {"name": …, "namespace": …, "uid": …, "url": …,
    "spec_hash": …}, "gitops_commit": null}``

    :param environment: name of the environment.
    :param declaration: file that the deployment comes of.
    :param model: a ``ResolvedModel`` as a dictionary. (templated)
    :param service: what answered, as :class:`~airflow_mlops_provider.operators.probe.ProbeEndpointOperator` returns it:
        the record says what was seen, not what was asked for. (templated)
    :param gitops_commit: that brought it there, where Argo CD deploys. (templated)
    """

    template_fields: Sequence[str] = ("model", "service", "gitops_commit")
    ui_color = "#e8e4f5"

    def __init__(
        self,
        *,
        environment: str,
        declaration: str,
        model: Mapping[str, Any],
        service: Mapping[str, Any],
        gitops_commit: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.environment = environment
        self.declaration = declaration
        self.model = model
        self.service = service
        self.gitops_commit = gitops_commit

    def execute(self, context: Context) -> dict[str, Any]:
        """Attach the record to the events, and return it."""
        record: dict[str, Any] = {
            "environment": self.environment,
            "declaration": self.declaration,
            "dag_run": context["run_id"],
            "model": dict(self.model),
            "service": {key: self.service.get(key) for key in _OF_SERVICE},
            "gitops_commit": self.gitops_commit,
        }
        events = context["outlet_events"]
        for asset in self.outlets:
            events[asset].extra = record
        return record
