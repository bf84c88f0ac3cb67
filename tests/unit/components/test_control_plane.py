"""The releases, and what Istio's charts make of their values."""

from __future__ import annotations

import dataclasses
import functools
import re
from typing import Any

import pytest
import yaml

import charts
import mesh
from components.mesh_config import mesh_config
from components.objects import HelmRelease, Manifest
from lab.toolchain.charts import charts as built_charts
from model import stack_file
from model.catalogue import catalogue
from model.settings import Settings

CATALOGUE = catalogue()
STACKS = ("dev", "staging", "prod")
RELEASES = ("istio-base", "istiod", "istio-ingressgateway")


def settings(stack: str) -> Settings:
    return stack_file.load(stack, CATALOGUE)


def releases(stack: str, **changes: Any) -> dict[str, HelmRelease]:
    changed = settings(stack).model_copy(update=changes)
    (part,) = [p for p in mesh.parts(stack, changed, CATALOGUE) if p.name == "control-plane"]
    found = {one.name: one for one in part.objects() if isinstance(one, HelmRelease)}
    assert len(found) == len(part.objects())
    return found


@functools.cache
def expanded(stack: str, release: str) -> tuple[Manifest, ...]:
    return tuple(charts.expand(releases(stack)[release], built_charts()))


def one(stack: str, release: str, kind: str, name: str | None = None) -> Manifest:
    (found,) = [
        manifest
        for manifest in expanded(stack, release)
        if manifest["kind"] == kind and name in (None, manifest["metadata"]["name"])
    ]
    return found


@pytest.mark.parametrize("stack", ["staging", "prod"])
def test_each_release_waits_for_the_one_it_needs(stack: str) -> None:
    found = releases(stack)
    assert tuple(found) == RELEASES
    assert [release.after for release in found.values()] == [(), ("istio-base",), ("istiod",)]


def test_with_an_external_control_plane_only_the_gateway_is_installed() -> None:
    found = releases("dev")
    assert list(found) == ["istio-ingressgateway"]
    assert found["istio-ingressgateway"].after == ()


@pytest.mark.parametrize("stack", ["staging", "prod"])
def test_waits_for_the_ca_of_every_validating_webhook_there_is(stack: str) -> None:
    validators = {
        (manifest["metadata"]["name"], len(manifest["webhooks"]))
        for release in RELEASES
        for manifest in expanded(stack, release)
        if manifest["kind"] == "ValidatingWebhookConfiguration"
    }
    awaited = releases(stack)["istiod"].ready_when
    assert {(condition.name, 1) for condition in awaited} == validators
    assert {condition.json_path for condition in awaited} == {
        "{.webhooks[0].clientConfig.caBundle}"
    }


@pytest.mark.parametrize("stack", ["staging", "prod"])
def test_webhooks_never_let_unvalidated_resources_in(stack: str) -> None:
    policies = [
        webhook["failurePolicy"]
        for release in RELEASES
        for manifest in expanded(stack, release)
        if manifest["kind"] == "ValidatingWebhookConfiguration"
        for webhook in manifest["webhooks"]
    ]
    assert policies == ["Fail", "Fail"]


@pytest.mark.parametrize("stack", ["staging", "prod"])
def test_istiod_runs_with_our_mesh_config(stack: str) -> None:
    config = one(stack, "istiod", "ConfigMap", "istio")
    effective = yaml.safe_load(config["data"]["mesh"])
    for key, value in mesh_config(settings(stack)).items():
        if isinstance(value, dict):
            assert value.items() <= effective[key].items(), key
        else:
            assert effective[key] == value, key


def test_crds_of_everything_we_write_are_installed_first() -> None:
    kinds = [
        manifest["spec"]["names"]["kind"]
        for manifest in expanded("prod", "istio-base")
        if manifest["kind"] == "CustomResourceDefinition"
    ]
    assert {"VirtualService", "Telemetry", "EnvoyFilter", "AuthorizationPolicy"} <= set(kinds)
    first = [manifest["kind"] for manifest in expanded("prod", "istio-base")][: len(kinds)]
    assert set(first) == {"CustomResourceDefinition"}


@pytest.mark.parametrize("release", ["istiod", "istio-ingressgateway"])
def test_production_survives_a_node_and_a_rollout(release: str) -> None:
    deployment = one("prod", release, "Deployment")
    scaler = one("prod", release, "HorizontalPodAutoscaler")["spec"]
    budget = one("prod", release, "PodDisruptionBudget")["spec"]
    pod = deployment["spec"]["template"]
    assert scaler["minReplicas"] == 3 < scaler["maxReplicas"]
    assert "replicas" not in deployment["spec"], "the autoscaler owns the number"
    assert budget["maxUnavailable"] == 1
    assert budget["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    unavailable = deployment["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"]
    assert unavailable in (0, "0%")
    spread = pod["spec"]["topologySpreadConstraints"]
    assert [constraint["topologyKey"] for constraint in spread] == [
        "kubernetes.io/hostname",
        "topology.kubernetes.io/zone",
    ]
    (term,) = pod["spec"]["affinity"]["podAntiAffinity"][
        "preferredDuringSchedulingIgnoredDuringExecution"
    ]
    selectors = [constraint["labelSelector"] for constraint in spread]
    for selector in [*selectors, term["podAffinityTerm"]["labelSelector"]]:
        assert selector["matchLabels"].items() <= pod["metadata"]["labels"].items()


def test_staging_is_small() -> None:
    kinds = {m["kind"] for release in RELEASES for m in expanded("staging", release)}
    assert "PodDisruptionBudget" not in kinds
    istiod = one("staging", "istiod", "Deployment")["spec"]
    assert istiod["replicas"] == 1
    assert istiod["template"]["spec"]["containers"][0]["resources"]["requests"] == {
        "cpu": "200m",
        "memory": "512Mi",
    }


@pytest.mark.parametrize("stack", STACKS)
def test_gateway_is_what_gateways_and_policies_select(stack: str) -> None:
    deployment = one(stack, "istio-ingressgateway", "Deployment")
    pod = deployment["spec"]["template"]
    labels = {"app": "istio-ingressgateway", "istio": "ingressgateway"}
    assert labels.items() <= pod["metadata"]["labels"].items()
    assert pod["spec"]["serviceAccountName"] == "istio-ingressgateway"
    assert deployment["metadata"]["namespace"] == "istio-system"
    assert pod["metadata"]["annotations"]["inject.istio.io/templates"] == "gateway"
    service = one(stack, "istio-ingressgateway", "Service")["spec"]
    assert service["selector"] == labels
    assert service["externalTrafficPolicy"] == "Local"


@pytest.mark.parametrize(("east_west", "ports"), [(True, [15021, 80, 443, 15443]), (False, None)])
def test_gateway_ports(east_west: bool, ports: list[int] | None) -> None:
    gateway = settings("prod").gateway.model_copy(update={"east_west": east_west})
    release = releases("prod", gateway=gateway)["istio-ingressgateway"]
    (service,) = [m for m in charts.expand(release, built_charts()) if m["kind"] == "Service"]
    assert [port["port"] for port in service["spec"]["ports"]] == (ports or [15021, 80, 443])
    assert all(port["port"] == port["targetPort"] for port in service["spec"]["ports"])


def test_gateway_believes_as_many_proxies_as_the_settings_say() -> None:
    gateway = settings("prod").gateway.model_copy(update={"trusted_proxies": 2})
    values = releases("prod", gateway=gateway)["istio-ingressgateway"].values
    config = yaml.safe_load(values["podAnnotations"]["proxy.istio.io/config"])
    assert config["gatewayTopology"] == {"numTrustedProxies": 2}


@pytest.mark.parametrize("stack", ["staging", "prod"])
def test_images_are_pinned_to_the_release(stack: str) -> None:
    container = one(stack, "istiod", "Deployment")["spec"]["template"]["spec"]["containers"][0]
    assert re.fullmatch(r"[^:]+/pilot:1\.31\.1", container["image"])


@pytest.mark.parametrize("stack", STACKS)
def test_expansion_is_complete_and_the_same_every_time(stack: str) -> None:
    for name, release in releases(stack).items():
        again = charts.expand(release, built_charts())
        assert again == list(expanded(stack, name))
        references = [
            (m["kind"], m["metadata"].get("namespace"), m["metadata"]["name"]) for m in again
        ]
        assert len(references) == len(set(references))
        for manifest in again:
            cluster_scoped = manifest["kind"].startswith(("Cluster", "Custom")) or (
                manifest["kind"].endswith("WebhookConfiguration")
            )
            assert cluster_scoped != ("namespace" in manifest["metadata"]), manifest["kind"]


@pytest.mark.parametrize("stack", STACKS)
def test_no_secret_in_any_value(stack: str) -> None:
    text = yaml.safe_dump([dict(release.values) for release in releases(stack).values()])
    assert not re.search(r"password|passwd|private_?key|BEGIN ", text, re.IGNORECASE)


def test_another_version_than_the_charts_at_hand_is_said() -> None:
    release = dataclasses.replace(releases("prod")["istiod"], version="1.30.0")
    with pytest.raises(charts.ChartMismatch, match=r"istiod is pinned to chart istiod 1\.30\.0"):
        charts.expand(release, built_charts())


def test_an_unknown_chart_is_said() -> None:
    release = dataclasses.replace(releases("prod")["istiod"], chart="ztunnel")
    with pytest.raises(charts.ChartMismatch, match=r"no chart ztunnel \(charts: base, "):
        charts.expand(release, built_charts())
