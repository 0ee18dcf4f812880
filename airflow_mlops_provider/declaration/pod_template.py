"""Templates of the platform: what a pod gets that declarations have no field for, in Kubernetes' own spelling.

Decides which fields of a pod a template may set. Nothing that weakens the pod's frame is among them: no host paths or
namespaces, no privileges, no security context; neither nodes, account nor tolerations, which are the environment's.
Imported only for a file that defines templates: its many models take a quarter of the room's import time. No I/O.
Fields: https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/ (v1.34).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, model_validator
from pydantic.alias_generators import to_camel

from airflow_mlops_provider.declaration.environment import EnvironmentsFile
from airflow_mlops_provider.declaration.field_types import (
    Cpu,
    DnsLabel,
    Image,
    Line,
    Memory,
    Slug,
    Strict,
    Text,
    VariableName,
    refuse_together,
)
from airflow_mlops_provider.declaration.node import Path
from airflow_mlops_provider.declaration.pod_placement import Affinity, Kubernetes, TopologySpreadConstraint
from airflow_mlops_provider.declaration.wording import choices

_AbsolutePath = Annotated[Line, StringConstraints(pattern=r"^/[^:]*[^/:]$")]


class EmptyDir(Kubernetes):
    """Scratch space of the node, gone with the pod."""

    medium: Literal["Memory"] | None = None
    size_limit: Memory | None = None


class ClaimVolume(Kubernetes):
    """A PersistentVolumeClaim of the namespace."""

    claim_name: DnsLabel
    read_only: bool = False


class StorageRequest(Kubernetes):
    """How much storage."""

    storage: Memory


class StorageResources(Kubernetes):
    """What a claim asks for."""

    requests: StorageRequest


class ClaimSpec(Kubernetes):
    """A claim that is made for one pod."""

    access_modes: tuple[Literal["ReadWriteOnce", "ReadWriteOncePod", "ReadWriteMany", "ReadOnlyMany"], ...] = Field(
        min_length=1
    )
    storage_class_name: Line | None = None
    resources: StorageResources


class ClaimTemplate(Kubernetes):
    """The claim of an ephemeral volume."""

    spec: ClaimSpec


class EphemeralVolume(Kubernetes):
    """A disk of the pod's own, made and deleted with it."""

    volume_claim_template: ClaimTemplate


class ConfigMapVolume(Kubernetes):
    """Files from a ConfigMap of the namespace."""

    name: Line


class SecretVolume(Kubernetes):
    """Files from a Secret of the namespace: whoever extends the template can read them."""

    secret_name: Line


_SOURCES = ("empty_dir", "persistent_volume_claim", "ephemeral", "config_map", "secret")


class Volume(Kubernetes):
    """One volume of the pod, from exactly one source."""

    name: DnsLabel
    empty_dir: EmptyDir | None = None
    persistent_volume_claim: ClaimVolume | None = None
    ephemeral: EphemeralVolume | None = None
    config_map: ConfigMapVolume | None = None
    secret: SecretVolume | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Volume:
        if sum(getattr(self, source) is not None for source in _SOURCES) != 1:
            raise refuse_together(f"must have exactly one of {choices(map(to_camel, _SOURCES))}; {{}} is a value too")
        return self


class VolumeMount(Kubernetes):
    """Where a container sees a volume: the template's, or a claim of the environment."""

    name: DnsLabel
    mount_path: _AbsolutePath
    sub_path: Line | None = None
    read_only: bool = False


class Variable(Kubernetes):
    """A plain variable."""

    name: VariableName
    value: Text


class Amounts(Kubernetes):
    """CPU and memory."""

    cpu: Cpu
    memory: Memory


class ContainerResources(Kubernetes):
    """What a container gets: the request is the limit."""

    limits: Amounts


class InitContainer(Kubernetes):
    """A container that runs to its end before the model's; it is hardened like every other."""

    name: DnsLabel
    image: Image
    command: tuple[Text, ...] = Field((), max_length=500)
    args: tuple[Text, ...] = Field((), max_length=500)
    env: tuple[Variable, ...] = Field((), max_length=200)
    resources: ContainerResources
    volume_mounts: tuple[VolumeMount, ...] = Field((), max_length=50)


class PodOverrides(Kubernetes):
    """What the template adds to the pod."""

    volumes: tuple[Volume, ...] = Field((), max_length=50)
    volume_mounts: tuple[VolumeMount, ...] = Field(
        (), max_length=50, description="Of the container that has the model."
    )
    init_containers: tuple[InitContainer, ...] = Field((), max_length=10)
    affinity: Affinity | None = None
    topology_spread_constraints: tuple[TopologySpreadConstraint, ...] = Field((), max_length=10)
    runtime_class_name: Line | None = None
    priority_class_name: Line | None = None
    termination_grace_period_seconds: int | None = Field(None, ge=0, le=86_400)


class PodTemplate(Strict):
    """A template that declarations may extend where an environment allows it."""

    description: Line | None = Field(None, description="One line for those who choose a template.")
    pod: PodOverrides = Field(description="In the spelling of Kubernetes.")

    def pod_spec(self) -> dict[str, Any]:
        """Return what is added to the pod's spec, as JSON types; mounts of the model's container are not in it."""
        return {key: value for key, value in _written(self.pod).items() if key != "volumeMounts"}

    def mounts(self) -> list[dict[str, Any]]:
        """Return the mounts of the model's container."""
        found: list[dict[str, Any]] = _written(self.pod).get("volumeMounts", [])
        return found

    def all_mounts(self) -> Iterator[tuple[Path, tuple[VolumeMount, ...]]]:
        """Yield the mounts of each container with their path in the template."""
        yield ("pod", "volumeMounts"), self.pod.volume_mounts
        for index, container in enumerate(self.pod.init_containers):
            yield ("pod", "initContainers", index, "volumeMounts"), container.volume_mounts


class TemplatesPart(Strict):
    """The part of the platform's file that defines templates."""

    templates: Mapping[Slug, PodTemplate] = Field(
        default_factory=dict, description="What pods may get that declarations have no field for, by name."
    )


class EnvironmentsDocument(EnvironmentsFile):
    """The file as it is written."""

    templates: Mapping[Slug, PodTemplate] = Field(  # type: ignore[assignment]
        default_factory=dict, description="What pods may get that declarations have no field for, by name."
    )


def _written(pod: PodOverrides) -> dict[str, Any]:
    spec: dict[str, Any] = pod.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)
    for container in spec.get("initContainers", []):
        container["resources"] = {"requests": dict(container["resources"]["limits"]), **container["resources"]}
    return spec
