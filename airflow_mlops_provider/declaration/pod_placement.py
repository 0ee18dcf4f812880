"""Where a template lets a pod run: affinity and spreading, in Kubernetes' own spelling.

Decides which of their fields exist. No I/O.
Fields: https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/ (v1.34).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from airflow_mlops_provider.declaration.field_types import Line, Strict, Text

_Weight = Annotated[int, Field(ge=1, le=100)]


class Kubernetes(Strict):
    """Base of what is spelt as Kubernetes spells it."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=False)


class NodeRequirement(Kubernetes):
    """One condition on a node's label."""

    key: Line
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"]
    values: tuple[Text, ...] | None = None


class NodeTerm(Kubernetes):
    """Conditions that all hold."""

    match_expressions: tuple[NodeRequirement, ...] = Field(min_length=1)


class NodeTerms(Kubernetes):
    """Terms of which one holds."""

    node_selector_terms: tuple[NodeTerm, ...] = Field(min_length=1)


class PreferredNodes(Kubernetes):
    """Nodes that are better than others."""

    weight: _Weight
    preference: NodeTerm


class NodeAffinity(Kubernetes):
    """On which of the environment's nodes; its node group stays what it is."""

    required_during_scheduling_ignored_during_execution: NodeTerms | None = None
    preferred_during_scheduling_ignored_during_execution: tuple[PreferredNodes, ...] | None = None


class LabelRequirement(Kubernetes):
    """One condition on a pod's label."""

    key: Line
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: tuple[Text, ...] | None = None


class LabelSelector(Kubernetes):
    """Which pods."""

    match_labels: Mapping[Line, Text] | None = None
    match_expressions: tuple[LabelRequirement, ...] | None = None


class PodTerm(Kubernetes):
    """Pods of the same namespace, and how near."""

    label_selector: LabelSelector | None = None
    topology_key: Line


class PreferredPods(Kubernetes):
    """Pods that are better or worse neighbours than others."""

    weight: _Weight
    pod_affinity_term: PodTerm


class PodAffinity(Kubernetes):
    """Near which pods, or far from which."""

    required_during_scheduling_ignored_during_execution: tuple[PodTerm, ...] | None = None
    preferred_during_scheduling_ignored_during_execution: tuple[PreferredPods, ...] | None = None


class Affinity(Kubernetes):
    """Where the pod runs."""

    node_affinity: NodeAffinity | None = None
    pod_affinity: PodAffinity | None = None
    pod_anti_affinity: PodAffinity | None = None


class TopologySpreadConstraint(Kubernetes):
    """How pods are spread."""

    max_skew: int = Field(ge=1)
    topology_key: Line
    when_unsatisfiable: Literal["DoNotSchedule", "ScheduleAnyway"]
    label_selector: LabelSelector | None = None
