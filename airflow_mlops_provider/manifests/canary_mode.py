"""How a new version can be tried on this cluster: by a share of the traffic, or only beside it.

Decides which of three ways works, why, and which wish would be ignored without a word and is refused. The facts are
read elsewhere; this is a table over them. Pure, no I/O.

KServe's own rules (v0.20.0): ``GetDeploymentMode`` in ``pkg/controller/v1beta1/inferenceservice/utils/utils.go``;
``canaryTrafficPercent`` is ignored in Standard mode (kserve#5335); ``spec.canary`` makes pods from 0.20 on
(kserve#5672) and divides traffic with the Gateway API's routes from 0.21 on (kserve#5912).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from airflow_mlops_provider.manifests.inference_service import DEPLOYMENT_MODE_ANNOTATION

CanaryMode = Literal["knative", "canary", "mirror"]
#: What an operator may be asked for.
MODES: Final = ("auto", "knative", "canary", "mirror")
_SPLITS_SINCE: Final = (0, 21)
#: Former names of the modes, which KServe still understands.
_RENAMED: Final = {"Serverless": "Knative", "RawDeployment": "Standard"}
_KNOWN: Final = ("Knative", "Standard", "ModelMesh")


@dataclass(frozen=True, kw_only=True)
class ClusterFacts:
    """What was found out; None where it is not known: not there, or not allowed to be read.

    :param status_mode: ``status.deploymentMode`` of the live service; KServe never changes it.
    :param annotation: the service's annotation ``serving.kserve.io/deploymentMode``.
    :param default_mode: ``deploy.defaultDeploymentMode`` of the ConfigMap ``inferenceservice-config``.
    :param controller_version: of KServe's controller, ``0.20.0``.
    :param canary_field: the installed InferenceService has ``spec.canary``.
    :param gateway_api: ``ingress.enableGatewayApi`` of that ConfigMap.
    """

    status_mode: str | None = None
    annotation: str | None = None
    default_mode: str | None = None
    controller_version: str | None = None
    canary_field: bool | None = None
    gateway_api: bool | None = None


@dataclass(frozen=True)
class ModeChoice:
    """A way, and why it is this one: a half sentence for the log."""

    mode: CanaryMode
    reason: str


def deployment_mode(facts: ClusterFacts) -> str | None:
    """Return the mode that the service runs in, as KServe decides it; None where it cannot be told."""
    if facts.status_mode:
        return _RENAMED.get(facts.status_mode, facts.status_mode)
    stated = _RENAMED.get(facts.annotation or "", facts.annotation)
    if stated in _KNOWN:
        return stated
    return _RENAMED.get(facts.default_mode or "", facts.default_mode)


def choose_mode(facts: ClusterFacts, wanted: str = "auto") -> ModeChoice:
    """Return the way to try a new version.

    :param wanted: ``auto``: a share of the traffic where that is possible, else ``mirror``.
    :raises ValueError: *wanted* is unknown, or would be ignored by this cluster; says why and what works.
    """
    if wanted not in MODES:
        raise ValueError(f"mode is one of {', '.join(MODES)}, not {wanted!r}")
    if wanted == "mirror":
        return ModeChoice("mirror", "mode='mirror' was asked for")
    no_percent, no_split = _against_percent(facts), _against_split(facts)
    if wanted in ("auto", "knative") and no_percent is None:
        return ModeChoice("knative", "the service runs in Knative mode, where canaryTrafficPercent divides the traffic")
    if wanted in ("auto", "canary") and no_split is None:
        return ModeChoice(
            "canary", f"KServe {facts.controller_version} divides the traffic by spec.canary with the Gateway API"
        )
    if wanted == "knative":
        raise ValueError(f"mode='knative': {no_percent}; use mode='auto' or mode='mirror'")
    if wanted == "canary":
        raise ValueError(f"mode='canary': {no_split}; use mode='auto' or mode='mirror'")
    return ModeChoice("mirror", f"no traffic can be divided here: {no_percent}; {no_split}")


def _against_percent(facts: ClusterFacts) -> str | None:
    """Return why ``canaryTrafficPercent`` would do nothing; None where it works."""
    mode = deployment_mode(facts)
    if mode == "Knative":
        return None
    if mode is None:
        return "canaryTrafficPercent works in Knative mode only, and the service's mode is not known"
    return f"KServe ignores canaryTrafficPercent in {mode} mode without a word (kserve#5335)"


def _against_split(facts: ClusterFacts) -> str | None:
    """Return why ``spec.canary`` would divide nothing; None where it does."""
    mode, version = deployment_mode(facts), facts.controller_version
    if mode not in (None, "Standard"):
        return f"KServe allows spec.canary in Standard mode only, not in {mode} mode"
    if version is None:
        return "spec.canary divides traffic from KServe 0.21 on, and the controller's version is not known"
    if _parse(version) < _SPLITS_SINCE:
        return f"spec.canary divides traffic from KServe 0.21 on, and {version} is installed"
    if facts.canary_field is False:
        return f"the controller is {version}, but the installed InferenceService CRD has no spec.canary"
    if not facts.gateway_api:
        return "spec.canary divides traffic with the Gateway API only, and ingress.enableGatewayApi is not on"
    return None


def could_split(facts: ClusterFacts) -> bool:
    """Whether the CRD is worth reading: everything else speaks for ``spec.canary``. (It has megabytes.)"""
    return facts.canary_field is None and _against_split(facts) is None


def read_mode_annotation(manifest: Mapping[str, Any]) -> str | None:
    """Return the deployment mode that a service's annotation asks for."""
    found: str | None = (manifest["metadata"].get("annotations") or {}).get(DEPLOYMENT_MODE_ANNOTATION)
    return found


def read_controller_version(deployment: Mapping[str, Any]) -> str | None:
    """Return the version of the controller that a Deployment runs: by its image's tag, else by its label.

    The label is second: installations that replace the image leave it as it was.
    """
    for container in deployment["spec"]["template"]["spec"]["containers"]:
        found = re.search(r":v?(\d+\.\d+[^@/:]*)(@|$)", container.get("image") or "")
        if found and "kserve" in container["image"]:
            return found.group(1)
    label = (deployment["metadata"].get("labels") or {}).get("app.kubernetes.io/version", "")
    return label.removeprefix("v") if re.match(r"v?\d+\.\d+", label) else None


def has_canary_field(crd: Mapping[str, Any]) -> bool:
    """Whether the InferenceService of a CustomResourceDefinition has ``spec.canary``."""
    for version in crd["spec"]["versions"]:
        schema = ((version.get("schema") or {}).get("openAPIV3Schema") or {}).get("properties") or {}
        if version["name"] == "v1beta1":
            return "canary" in ((schema.get("spec") or {}).get("properties") or {})
    return False


def _parse(version: str) -> tuple[int, int]:
    found = re.match(r"v?(\d+)\.(\d+)", version)
    return (int(found.group(1)), int(found.group(2))) if found else (0, 0)
