"""Which way a canary goes on which cluster, and which wish is refused."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_mlops_provider.manifests.canary_mode import (
    ClusterFacts,
    choose_mode,
    could_split,
    deployment_mode,
    has_canary_field,
    read_controller_version,
    read_mode_annotation,
)

SPLITS: dict[str, Any] = {"controller_version": "0.21.0", "canary_field": True, "gateway_api": True}


@pytest.mark.parametrize(
    ("facts", "mode"),
    [
        ({"status_mode": "Knative"}, "Knative"),
        ({"status_mode": "Serverless"}, "Knative"),
        ({"status_mode": "RawDeployment", "annotation": "Knative"}, "Standard"),  # status wins, as in KServe
        ({"annotation": "Serverless", "default_mode": "Standard"}, "Knative"),
        ({"annotation": "Standrad", "default_mode": "Knative"}, "Knative"),  # KServe ignores what it does not know
        ({"default_mode": "RawDeployment"}, "Standard"),
        ({}, None),
    ],
)
def test_deployment_mode_is_found_as_kserve_finds_it(facts: dict[str, Any], mode: str | None) -> None:
    assert deployment_mode(ClusterFacts(**facts)) == mode


@pytest.mark.parametrize(
    ("facts", "wanted", "mode", "reason"),
    [
        ({"status_mode": "Knative"}, "auto", "knative", "divides the traffic"),
        ({"status_mode": "Knative"}, "knative", "knative", "divides the traffic"),
        ({"status_mode": "Knative"}, "mirror", "mirror", "was asked for"),
        ({"status_mode": "Standard", **SPLITS}, "auto", "canary", "KServe 0.21.0"),
        ({"status_mode": "Standard", **SPLITS, "controller_version": "v1.0.2"}, "canary", "canary", "v1.0.2"),
        ({"status_mode": "Standard", **SPLITS, "canary_field": None}, "auto", "canary", "Gateway API"),
        (
            {"status_mode": "Standard", **SPLITS, "controller_version": "0.20.0"},
            "auto",
            "mirror",
            "0.20.0 is installed",
        ),
        ({"status_mode": "Standard", **SPLITS, "controller_version": None}, "auto", "mirror", "is not known"),
        ({"status_mode": "Standard", **SPLITS, "canary_field": False}, "auto", "mirror", "CRD has no spec.canary"),
        ({"status_mode": "Standard", **SPLITS, "gateway_api": False}, "auto", "mirror", "enableGatewayApi is not on"),
        ({"status_mode": "Standard"}, "auto", "mirror", "ignores canaryTrafficPercent in Standard mode"),
        ({"status_mode": "ModelMesh"}, "auto", "mirror", "in ModelMesh mode"),
        ({}, "auto", "mirror", "the service's mode is not known"),
    ],
)
def test_mode_follows_the_facts_and_says_why(facts: dict[str, Any], wanted: str, mode: str, reason: str) -> None:
    choice = choose_mode(ClusterFacts(**facts), wanted)
    assert choice.mode == mode
    assert reason in choice.reason


@pytest.mark.parametrize(
    ("facts", "wanted", "message"),
    [
        ({"status_mode": "Standard"}, "knative", r"ignores canaryTrafficPercent .* without a word .*; use mode='auto'"),
        ({"status_mode": "Knative", **SPLITS}, "canary", "allows spec.canary in Standard mode only"),
        ({"status_mode": "Standard", **SPLITS, "controller_version": "0.20.0"}, "canary", "0.20.0 is installed"),
        ({}, "shadow", "mode is one of auto, knative, canary, mirror, not 'shadow'"),
    ],
)
def test_what_would_be_ignored_is_refused(facts: dict[str, Any], wanted: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        choose_mode(ClusterFacts(**facts), wanted)


def test_crd_is_read_only_where_it_decides() -> None:
    assert could_split(ClusterFacts(status_mode="Standard", controller_version="0.21.0", gateway_api=True))
    assert not could_split(ClusterFacts(status_mode="Standard", controller_version="0.20.0", gateway_api=True))
    assert not could_split(ClusterFacts(status_mode="Standard", **SPLITS))


@pytest.mark.parametrize(
    ("image", "label", "version"),
    [
        ("kserve/kserve-controller:v0.20.0", "v0.11.0", "0.20.0"),
        ("registry.example:5000/kserve-controller:v0.21.0-rc1@sha256:0", "", "0.21.0-rc1"),
        ("kserve/kserve-controller@sha256:0", "v0.21.0", "0.21.0"),
        ("kserve/kserve-controller:latest", "", None),
        ("gcr.io/kube-rbac-proxy:v0.18.0", "", None),
    ],
)
def test_controller_version_is_the_image_tag(image: str, label: str, version: str | None) -> None:
    deployment = {
        "metadata": {"labels": {"app.kubernetes.io/version": label}},
        "spec": {"template": {"spec": {"containers": [{"image": image}]}}},
    }
    assert read_controller_version(deployment) == version


def test_canary_field_is_looked_for_in_the_served_version() -> None:
    def crd(fields: dict[str, Any]) -> dict[str, Any]:
        schema = {"openAPIV3Schema": {"properties": {"spec": {"properties": fields}}}}
        return {"spec": {"versions": [{"name": "v1alpha1"}, {"name": "v1beta1", "schema": schema}]}}

    assert has_canary_field(crd({"predictor": {}, "canary": {}}))
    assert not has_canary_field(crd({"predictor": {}}))
    assert not has_canary_field({"spec": {"versions": []}})


def test_mode_annotation_is_read_from_the_manifest() -> None:
    annotations = {"serving.kserve.io/deploymentMode": "Knative"}
    assert read_mode_annotation({"metadata": {"annotations": annotations}}) == "Knative"
    assert read_mode_annotation({"metadata": {}}) is None
