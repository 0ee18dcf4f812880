"""What a platform engineer writes into ``environments.yaml``.

Decides which fields exist, their types and defaults. What they forbid is worked out by ``policy``; nothing here reads a
Connection or a Secret, it only names them. No I/O.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, PrivateAttr, StringConstraints, model_validator

from airflow_mlops_provider.declaration.defined_template import DefinedTemplate
from airflow_mlops_provider.declaration.field_types import (
    Cpu,
    DnsLabel,
    Duration,
    Image,
    JsonObject,
    Line,
    Link,
    Memory,
    Slug,
    Strict,
    Text,
    VariableName,
    Version,
    refuse_together,
)
from airflow_mlops_provider.declaration.model import ApiVersion, ModelDeclaration
from airflow_mlops_provider.declaration.notifier import DefinedNotifier, Notifier
from airflow_mlops_provider.declaration.selector import ModelSelector, OnAmbiguous
from airflow_mlops_provider.declaration.shared_spec import Notify
from airflow_mlops_provider.declaration.wording import choices

_WAYS = ("run_tag", "latest_run", "alias", "version")


class Selection(Strict):
    """Which model of a declaration this environment runs. Experiment and registered model come from the declaration."""

    run_tag: Mapping[Line, Text] | None = Field(
        None, min_length=1, description="Newest finished run with all of these tags."
    )
    latest_run: bool = Field(False, description="Newest finished run.")
    alias: Line | None = Field(None, description="The version that this alias of the registered model names.")
    version: Version | None = Field(None, description="This version of the registered model.")
    on_ambiguous: OnAmbiguous = Field(
        "latest", description="Several runs carry the tag: latest takes the newest, fail refuses."
    )

    @model_validator(mode="after")
    def _exactly_one_way(self) -> Selection:
        chosen = [way for way in _WAYS if getattr(self, way)]
        if len(chosen) != 1:
            found = choices(chosen, last="and") or "nothing"
            raise refuse_together(f"must choose in exactly one way, not {found}; write one of {choices(_WAYS)}")
        return self

    def needs(self) -> Literal["experiment", "registered_model"]:
        """Return the field that a declaration must have to be selected in this way."""
        return "experiment" if self.run_tag or self.latest_run else "registered_model"

    def selector_for(self, declaration: ModelDeclaration) -> ModelSelector:
        """Return the selector of one declared model.

        :raises ValueError: the declaration lacks the field that :meth:`needs` names.
        """
        by_run = self.needs() == "experiment"
        return ModelSelector(
            experiment=declaration.experiment if by_run else None,
            registered_model=declaration.registered_model,
            run_tag=self.run_tag,
            latest_run=self.latest_run,
            alias=self.alias,
            version=self.version,
            logged_model=declaration.logged_model,
            on_ambiguous=self.on_ambiguous,
        )


class Connections(Strict):
    """Names of Airflow connections."""

    mlflow: Line = Field("mlflow_default", description="Connection of type mlflow.")
    kubernetes: Line = Field("kubernetes_default", description="Connection of type kubernetes.")


class Toleration(Strict):
    """https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/"""

    key: Line | None = None
    operator: Literal["Exists", "Equal"] = "Equal"
    value: Line | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    toleration_seconds: int | None = Field(None, ge=0, alias="tolerationSeconds")


class VolumeClaim(Strict):
    """A PersistentVolumeClaim of the namespace, mounted into every pod of the environment."""

    claim: DnsLabel = Field(description="Name of the claim.")
    mount_path: Annotated[Line, StringConstraints(pattern=r"^/[^:]*[^/:]$")] = Field(
        description="Absolute path in the pod."
    )
    read_only: bool = False


class MLflowCredentials(Strict):
    """The Kubernetes Secret with which pods reach MLflow."""

    secret: DnsLabel = Field(description="Name of the Secret in the environment's namespace.")
    keys: Mapping[VariableName, Line] | None = Field(
        None,
        min_length=1,
        description="Variable in the pod → key in the Secret. Default: MLFLOW_TRACKING_TOKEN, MLFLOW_TRACKING_USERNAME "
        "and MLFLOW_TRACKING_PASSWORD, each from the key of the same name where the Secret has it.",
    )


class ArgoCD(Strict):
    """Where Argo CD reads what runs in the environment: a Git repository, to which the online DAGs commit."""

    connection: Line = Field("git_default", description="Connection of type git, with the right to push.")
    repository: Line | None = Field(
        None, description="Address of the repository, where it differs from the connection's."
    )
    branch: Line = Field("main", description="Branch that Argo CD reads.")
    path: (
        Annotated[Line, StringConstraints(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]*(?:/[A-Za-z0-9_-][A-Za-z0-9._-]*)*$")]
        | None
    ) = Field(None, description="Directory below which each model has one of its own; default: the environment's name.")


class Allow(Strict):
    """What declarations may ask for here. What is not listed is refused."""

    images: tuple[Line, ...] = Field(
        (), description="Registries or repositories images may come from, besides the standard image."
    )
    require_digest: bool = Field(False, description="Images must be named with @sha256:….")
    commands: bool | None = Field(
        None, description="May a job run its own command? Default: yes in a pod, no with the local runner."
    )
    max_cpu: Cpu | None = Field(None, description="Largest CPU of one pod.")
    max_memory: Memory | None = Field(None, description="Largest memory of one pod.")
    max_gpu: int = Field(0, ge=0, description="Most GPUs of one pod.")
    max_partitions: int = Field(100, ge=1, description="Most pods of one job.")
    max_replicas: int | None = Field(None, ge=1, description="Most pods of one online service.")
    runtimes: tuple[DnsLabel, ...] = Field((), description="ServingRuntimes that online services may name.")
    logger_urls: tuple[Link, ...] = Field(
        (), description="Addresses, or what they start with, that requests and answers may be copied to."
    )
    notifiers: tuple[Slug, ...] = Field((), description="Notifiers that declarations may name.")
    templates: tuple[Slug, ...] = Field((), description="Templates that declarations may extend.")
    jinja: tuple[Line, ...] = Field(
        (), description="Expressions allowed between {{ and }}, each as written: ds, run_id."
    )
    uri_schemes: tuple[Annotated[str, Field(pattern=r"^[a-z][a-z0-9+.-]*$")], ...] | None = Field(
        None, description="Schemes of input and output. Default: object stores, and file with the local runner."
    )
    experiments: tuple[Line, ...] | None = Field(
        None, description="Experiments, or prefixes ending in *. Default: any."
    )
    registered_models: tuple[Line, ...] | None = Field(
        None, description="Registered models, or prefixes ending in *. Default: any."
    )


class Environment(Strict):
    """One place where models run."""

    protected: bool = Field(False, description="Only a protected branch may deploy here.")
    runner: Literal["kubernetes", "local"] = Field(
        "kubernetes", description="Pods, or processes of the Airflow worker."
    )
    deployer: Literal["operator", "argocd"] = Field("operator", description="The one writer of online services here.")
    argocd: ArgoCD | None = Field(None, description="Where deployer argocd commits.")
    model: Selection = Field(description="Which model runs here.")
    connections: Connections = Field(default_factory=Connections)
    namespace: DnsLabel | None = Field(None, description="Kubernetes namespace; needed by the kubernetes runner.")
    node_selector: Mapping[Line, Text] = Field(default_factory=dict)
    tolerations: tuple[Toleration, ...] = ()
    service_account: DnsLabel | None = Field(None, description="Kubernetes service account of the pods.")
    image: Image | None = Field(None, description="The standard runtime image, used where a declaration names none.")
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = None
    image_pull_secrets: tuple[DnsLabel, ...] = ()
    mlflow_credentials: MLflowCredentials | None = None
    mlflow_tracking_uri: Line | None = Field(
        None, description="MLflow as pods see it, where it differs from the connection."
    )
    volumes: tuple[VolumeClaim, ...] = Field((), description="Shared storage that every pod sees, for file:// data.")
    env: Mapping[VariableName, Text] = Field(
        default_factory=dict, description="Plain variables of every pod; never secrets."
    )
    deferrable: bool | None = Field(None, description="Wait in the triggerer. Default: what Airflow is configured for.")
    allow: Allow = Field(default_factory=Allow)
    notify: Notify = Field(default_factory=Notify)
    ephemeral: bool = Field(False, description="Every other branch gets its own copy of this environment.")
    ttl: Duration | None = Field(None, description="How long an ephemeral copy lives.")

    _notifiers: Mapping[str, DefinedNotifier] = PrivateAttr(default_factory=dict)
    _templates: Mapping[str, DefinedTemplate] = PrivateAttr(default_factory=dict)

    def define(self, *, notifiers: Mapping[str, DefinedNotifier], templates: Mapping[str, DefinedTemplate]) -> None:
        """Take what the file defines for all of its environments; for the loader alone."""
        self._notifiers = notifiers
        self._templates = {name: templates[name] for name in self.allow.templates if name in templates}

    @property
    def templates(self) -> Mapping[str, DefinedTemplate]:
        """The templates that may be extended here, by name."""
        return self._templates

    def notifiers_for(self, notify: Notify) -> dict[str, tuple[DefinedNotifier, ...]]:
        """Return who is told: ``{"on_failure": (…), "on_success": (…)}``.

        :param notify: of a declaration; where it says nothing, the environment decides.
        """
        chosen = {
            "on_failure": self.notify.on_failure if notify.on_failure is None else notify.on_failure,
            "on_success": self.notify.on_success if notify.on_success is None else notify.on_success,
        }
        return {event: tuple(self._notifiers[name] for name in names or ()) for event, names in chosen.items()}

    @model_validator(mode="after")
    def _check_together(self) -> Environment:
        if self.runner == "kubernetes" and self.namespace is None:
            raise refuse_together("is missing; the kubernetes runner needs one", field="namespace")
        if self.deployer == "argocd" and self.argocd is None:
            raise refuse_together(
                "is missing; deployer argocd commits to a Git repository, write argocd: {connection: …}", field="argocd"
            )
        if self.ttl is not None and not self.ephemeral:
            raise refuse_together(
                "only an ephemeral environment expires; add 'ephemeral: true' or remove ttl", field="ttl"
            )
        return self


class EnvironmentsFile(Strict):
    """The file as it is written."""

    api_version: ApiVersion = Field(alias="apiVersion", description="mlops/v1")
    environments: Mapping[Slug, Environment] = Field(
        min_length=1, description="Every place where models may run, by name."
    )
    templates: Mapping[Slug, JsonObject] = Field(default_factory=dict)  # read by pod_template
    notifiers: Mapping[Slug, Notifier] = Field(
        default_factory=dict, description="What tells somebody how a run ended, by name."
    )


@dataclass(frozen=True, slots=True)
class Environments(Mapping[str, Environment]):
    """The environments of one file by name; what is not in here does not exist.

    :param file: as messages call it.
    """

    file: str
    by_name: Mapping[str, Environment]

    def __getitem__(self, name: str) -> Environment:
        return self.by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.by_name)

    def __len__(self) -> int:
        return len(self.by_name)
