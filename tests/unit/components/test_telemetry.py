"""Telemetry: what is traced, tagged and logged, on every stack."""

from __future__ import annotations

import collections
import functools
from typing import Any

import pytest

import mesh
from components.mesh_config import ACCESS_LOG, AUDIT_LOG, METRICS, TRACING, mesh_config
from components.objects import Manifest
from components.request_fields import MODEL_HEADER, TOKENS_HEADER
from components.telemetry import AUDITED, ERRORS
from components.token_metric import TOKENS
from components.trace_sampling import CLIENT_TRACE_HEADERS, ratio
from model import stack_file
from model.catalogue import catalogue
from model.settings import AccessLog, Metrics, Sampling, Settings

CATALOGUE = catalogue()
STACKS = ("dev", "staging", "prod")
IDENTITY_TAGS = {"tenant_id", "user_id", "session_id", "conversation_id"}
AI = {"ai-orchestrator", "model-router", "agent-engine", "rag-engine", "model-adapter"} | {
    "multimodal-engine"
}
WEBSOCKET = {"voice-engine", "conversation-service"}


def settings(stack: str, **telemetry: Any) -> Settings:
    loaded = stack_file.load(stack, CATALOGUE)
    return loaded.model_copy(update={"telemetry": loaded.telemetry.model_copy(update=telemetry)})


def built(stack: str, changed: Settings, name: str = "telemetry") -> list[Manifest]:
    (part,) = [part for part in mesh.parts(stack, changed, CATALOGUE) if part.name == name]
    return [declared for declared in part.objects() if isinstance(declared, dict)]


@functools.cache
def objects(stack: str) -> list[Manifest]:
    return built(stack, settings(stack))


def telemetries(manifests: list[Manifest]) -> dict[str, dict[str, Any]]:
    return {m["metadata"]["name"]: m["spec"] for m in manifests if m["kind"] == "Telemetry"}


@pytest.mark.parametrize("stack", STACKS)
def test_one_telemetry_for_a_namespace_and_one_for_a_workload(stack: str) -> None:
    selected = collections.Counter(
        (m["metadata"]["namespace"], str(m["spec"].get("selector")))
        for m in objects(stack)
        if m["kind"] == "Telemetry"
    )
    assert set(selected.values()) == {1}


@pytest.mark.parametrize("stack", STACKS)
def test_selectors_find_pods(stack: str) -> None:
    for manifest in objects(stack):
        selector = manifest["spec"].get("selector", {}).get("matchLabels", {})
        selector |= manifest["spec"].get("workloadSelector", {}).get("labels", {})
        if manifest["metadata"]["namespace"] == "istio-system":
            assert selector in ({}, {"istio": "ingressgateway"})
        else:
            assert set(selector) == {"app"}
            assert selector["app"] in CATALOGUE.names


@pytest.mark.parametrize("stack", STACKS)
def test_every_provider_named_is_in_mesh_config(stack: str) -> None:
    known = {p["name"] for p in mesh_config(settings(stack))["extensionProviders"]}
    for spec in telemetries(objects(stack)).values():
        for entry in [
            *spec.get("tracing", []),
            *spec["metrics" if "metrics" in spec else "tracing"],
        ]:
            assert {provider["name"] for provider in entry["providers"]} <= known
        for entry in spec.get("accessLogging", []):
            assert {provider["name"] for provider in entry["providers"]} <= known


def test_ratios_of_the_platform() -> None:
    found = telemetries(objects("prod"))
    ratios = {
        name: spec["tracing"][0]["randomSamplingPercentage"]
        for name, spec in found.items()
        if "tracing" in spec
    }
    assert ratios == {
        "mesh-default": 10,
        **dict.fromkeys(AI, 50),
        **dict.fromkeys(WEBSOCKET, 100),
    }


@pytest.mark.parametrize("stack", STACKS)
def test_tags_survive_inheritance(stack: str) -> None:
    for name, spec in telemetries(objects(stack)).items():
        for tracing in spec.get("tracing", []):
            tags = tracing["customTags"]
            assert {"environment", "cluster"} | IDENTITY_TAGS <= set(tags), name
            assert tags["environment"] == {"literal": {"value": stack}}
            assert tags["tenant_id"] == {"header": {"name": "x-tenant-id"}}
            assert tracing["useRequestIdForTraceSampling"] is True
            if name in AI:
                assert tags["ai_model"] == {"formatter": {"value": f"%RESP({MODEL_HEADER})%"}}
                assert tags["token_count"] == {"formatter": {"value": f"%RESP({TOKENS_HEADER})%"}}


def test_a_service_in_both_groups_has_the_higher_ratio_and_the_ai_tags() -> None:
    sampling = Sampling(default=10, ai=50, websocket=100)
    orchestrator = CATALOGUE.service("ai-orchestrator")
    both = orchestrator.model_copy(
        update={"websockets": CATALOGUE.service("voice-engine").websockets}
    )
    assert ratio(both, sampling) == 100
    assert ratio(orchestrator, sampling) == 50
    assert ratio(CATALOGUE.service("identity-service"), sampling) == 10
    assert ratio(orchestrator, Sampling(default=90, ai=20, websocket=0)) == 20


def gateway_ratios(stack: str) -> dict[str, float]:
    """Percent by route name, as the gateway's EnvoyFilter sets it."""
    (manifest,) = [m for m in objects(stack) if m["metadata"]["name"] == "trace-sampling"]
    found = {}
    for patch in manifest["spec"]["configPatches"]:
        if patch["applyTo"] == "HTTP_ROUTE":
            tracing = patch["patch"]["value"]["tracing"]
            # Another unit than the request id is compared with would choose other requests.
            share = tracing["random_sampling"]
            assert share["denominator"] == "TEN_THOUSAND"
            assert tracing["overall_sampling"] == {"numerator": 100}
            name = patch["match"]["routeConfiguration"]["vhost"]["route"]["name"]
            assert name not in found
            found[name] = share["numerator"] / 100
    return found


@pytest.mark.parametrize("stack", STACKS)
def test_the_gateway_decides_with_the_ratio_of_the_service_that_a_route_leads_to(
    stack: str,
) -> None:
    """Every route of every public VirtualService has its service's ratio, by patch or default."""
    sampling = settings(stack).telemetry.sampling
    patched = gateway_ratios(stack)
    seen = set()
    for service in CATALOGUE.services:
        for manifest in built(stack, settings(stack), service.name):
            gateways = manifest["spec"].get("gateways", [])
            if manifest["kind"] != "VirtualService" or "mesh" in gateways:
                continue
            for route in manifest["spec"]["http"]:
                name = route["name"]
                seen.add(name)
                assert patched.get(name, sampling.default) == ratio(service, sampling), name
    assert set(patched) <= seen


def test_half_a_percent_is_not_lost() -> None:
    changed = settings("prod", sampling=Sampling(default=10, ai=0.25, websocket=100))
    (manifest,) = [m for m in built("prod", changed) if m["metadata"]["name"] == "trace-sampling"]
    numerators = {
        patch["patch"]["value"]["tracing"]["random_sampling"]["numerator"]
        for patch in manifest["spec"]["configPatches"]
        if patch["applyTo"] == "HTTP_ROUTE"
    }
    assert numerators == {25, 10_000}


@pytest.mark.parametrize("stack", STACKS)
def test_clients_do_not_decide_what_is_traced(stack: str) -> None:
    (manifest,) = [m for m in objects(stack) if m["metadata"]["name"] == "trace-sampling"]
    (patch,) = [p for p in manifest["spec"]["configPatches"] if p["applyTo"] == "NETWORK_FILTER"]
    (mutation,) = patch["patch"]["value"]["typed_config"]["early_header_mutation_extensions"]
    removed = {one["remove"] for one in mutation["typed_config"]["mutations"]}
    assert removed == set(CLIENT_TRACE_HEADERS)
    assert {"traceparent", "x-client-trace-id", "x-envoy-force-trace"} <= removed


@pytest.mark.parametrize("errors_only", [True, False])
def test_logs(errors_only: bool) -> None:
    changed = settings("prod", access_log=AccessLog(errors_only=errors_only))
    spec = telemetries(built("prod", changed))["mesh-default"]
    assert spec["accessLogging"] == [
        {
            "providers": [{"name": ACCESS_LOG}],
            **({"filter": {"expression": ERRORS}} if errors_only else {}),
        },
        {"providers": [{"name": AUDIT_LOG}], "filter": {"expression": AUDITED}},
    ]


@pytest.mark.parametrize("stack", STACKS)
def test_nothing_replaces_the_audit_log(stack: str) -> None:
    """A list of log providers on a workload would replace the mesh's, audit log included."""
    for name, spec in telemetries(objects(stack)).items():
        assert name == "mesh-default" or "accessLogging" not in spec


@pytest.mark.parametrize("stack", STACKS)
def test_what_is_audited_has_a_policy_that_leaves_the_hint(stack: str) -> None:
    policies = {
        selected
        for manifest in built(stack, settings(stack), "authorization")
        if manifest["spec"].get("action") == "AUDIT"
        for selected in manifest["spec"]["selector"]["matchLabels"].values()
    }
    # The gateway too: what it refuses never reaches the service.
    assert policies == {"identity-service", "knowledge-service", "ingressgateway"}


def tag_expressions(spec: dict[str, Any]) -> dict[tuple[str, str, str], str]:
    """CEL by metric, side and tag."""
    return {
        (
            override["match"].get("metric") or override["match"]["customMetric"],
            override["match"]["mode"],
            tag,
        ): value["value"]
        for metrics in spec["metrics"]
        for override in metrics.get("overrides", [])
        for tag, value in override["tagOverrides"].items()
    }


def test_metric_tags_of_the_platform() -> None:
    found = telemetries(objects("prod"))
    assert tag_expressions(found["mesh-default"]) == {
        ("REQUEST_COUNT", "SERVER", "tenant_id"): "request.headers['x-tenant-id']"
    }
    for name in AI:
        assert tag_expressions(found[name]) == {
            ("REQUEST_COUNT", "SERVER", "ai_model"): f"response.headers['{MODEL_HEADER}']",
            ("REQUEST_DURATION", "SERVER", "ai_model"): f"response.headers['{MODEL_HEADER}']",
            (TOKENS, "SERVER", "tenant_id"): "request.headers['x-tenant-id']",
            (TOKENS, "SERVER", "ai_model"): f"response.headers['{MODEL_HEADER}']",
        }


@pytest.mark.parametrize("stack", STACKS)
def test_no_client_can_make_up_series_at_the_gateway(stack: str) -> None:
    """Tags at the gateway come from the verified token, never from a header a client writes."""
    tags = tag_expressions(telemetries(objects(stack))["istio-ingressgateway"])
    assert tags == {
        ("REQUEST_COUNT", "CLIENT", "tenant_id"): (
            "metadata.filter_metadata['envoy.filters.http.jwt_authn']['payload']['tenant_id']"
        )
    }
    for spec in telemetries(objects(stack)).values():
        for (_, mode, _), expression in tag_expressions(spec).items() if "metrics" in spec else ():
            assert mode == "SERVER" or "headers" not in expression


def test_no_user_as_a_label_unless_asked_for() -> None:
    def tags(metrics: Metrics) -> set[str]:
        found = telemetries(built("prod", settings("prod", metrics=metrics)))
        return {tag for s in found.values() if "metrics" in s for _, _, tag in tag_expressions(s)}

    assert tags(Metrics()) == {"tenant_id", "ai_model"}
    assert tags(Metrics(user=True)) == {"tenant_id", "ai_model", "user_id"}
    assert tags(Metrics(tenant=False, model=False)) == set()


def test_no_identity_on_a_histogram() -> None:
    for spec in telemetries(objects("prod")).values():
        if "metrics" in spec:
            for metric, _, tag in tag_expressions(spec):
                assert tag == "ai_model" or metric in ("REQUEST_COUNT", TOKENS)


@pytest.mark.parametrize("stack", STACKS)
def test_tokens_are_counted_at_ai_services_alone(stack: str) -> None:
    filters = {
        manifest["spec"]["workloadSelector"]["labels"]["app"]: manifest["spec"]["configPatches"]
        for manifest in objects(stack)
        if manifest["kind"] == "EnvoyFilter" and manifest["metadata"]["name"].endswith("-tokens")
    }
    assert set(filters) == AI
    for (patch,) in filters.values():
        assert patch["match"]["context"] == "SIDECAR_INBOUND"
        (definition,) = patch["patch"]["value"]["typed_config"]["definitions"]
        assert definition["name"] == TOKENS
        assert TOKENS_HEADER in definition["value"]


def test_metrics_and_tracing_go_to_the_one_provider() -> None:
    for spec in telemetries(objects("prod")).values():
        for tracing in spec.get("tracing", []):
            assert tracing["providers"] == [{"name": TRACING}]
        for metrics in spec.get("metrics", []):
            assert metrics["providers"] == [{"name": METRICS}]
