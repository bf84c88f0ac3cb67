"""The generated types refuse what the CRDs refuse and pass on exactly what they were given."""

from __future__ import annotations

import ast
import importlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from components.istio.authorization_policy import AuthorizationPolicy, AuthorizationPolicySpec, Rule
from components.istio.virtual_service import HTTPRoute, Percent, VirtualService, VirtualServiceSpec
from components.wire import Manifest, ObjectMeta
from schema.kinds import ISTIO_KINDS, PROMETHEUS_OPERATOR_KINDS

HERE = Path(__file__).parent
SAMPLES: list[dict[str, Any]] = list(yaml.safe_load_all((HERE / "samples.yaml").read_text()))


def kind_class(kind: str) -> type[Manifest]:
    package = "istio" if kind in ISTIO_KINDS else "prometheus_operator"
    module = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind).lower()
    found: type[Manifest] = getattr(importlib.import_module(f"components.{package}.{module}"), kind)
    return found


def sample(kind: str) -> dict[str, Any]:
    """A fresh copy of the last sample of a kind, the fullest."""
    copy: dict[str, Any] = json.loads(json.dumps([s for s in SAMPLES if s["kind"] == kind][-1]))
    return copy


def refusal(document: dict[str, Any]) -> str:
    with pytest.raises(ValidationError) as refused:
        kind_class(document["kind"]).model_validate(document)
    return str(refused.value)


def test_every_kind_has_a_sample() -> None:
    assert {s["kind"] for s in SAMPLES} == {*ISTIO_KINDS, *PROMETHEUS_OPERATOR_KINDS}


@pytest.mark.parametrize("document", SAMPLES, ids=lambda d: f"{d['kind']}-{d['metadata']['name']}")
def test_what_goes_in_comes_out(document: dict[str, Any]) -> None:
    out = kind_class(document["kind"]).model_validate(document).manifest()
    assert json.dumps(out, sort_keys=True) == json.dumps(document, sort_keys=True)
    assert list(out) == ["apiVersion", "kind", "metadata", "spec"]


def test_an_envoy_patch_is_passed_on_verbatim() -> None:
    document = sample("EnvoyFilter")
    value = document["spec"]["configPatches"][0]["patch"]["value"]
    out = kind_class("EnvoyFilter").model_validate(document).manifest()
    assert json.dumps(out["spec"]["configPatches"][0]["patch"]["value"]) == json.dumps(value)


def test_builders_write_field_names_and_get_wire_names() -> None:
    route = HTTPRoute(timeout="5s", mirror_percentage=Percent(value=1))
    service = VirtualService(
        metadata=ObjectMeta(name="identity", namespace="apps"),
        spec=VirtualServiceSpec(hosts=["identity"], export_to=["."], http=[route]),
    )
    assert service.manifest() == {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "identity", "namespace": "apps"},
        "spec": {
            "exportTo": ["."],
            "hosts": ["identity"],
            "http": [{"mirrorPercentage": {"value": 1}, "timeout": "5s"}],
        },
    }


def test_empty_is_not_absent() -> None:
    metadata = ObjectMeta(name="deny", namespace="apps")
    deny = AuthorizationPolicy(metadata=metadata, spec=AuthorizationPolicySpec())
    nothing = AuthorizationPolicy(metadata=metadata, spec=AuthorizationPolicySpec(rules=[]))
    everything = AuthorizationPolicy(
        metadata=metadata, spec=AuthorizationPolicySpec(rules=[Rule()])
    )
    assert [policy.manifest()["spec"] for policy in (deny, nothing, everything)] == [
        {},
        {"rules": []},
        {"rules": [{}]},
    ]


@pytest.mark.parametrize("kind", [*ISTIO_KINDS, *PROMETHEUS_OPERATOR_KINDS])
def test_unknown_fields_are_refused_by_name(kind: str) -> None:
    document = sample(kind)
    document["spec"]["hoosts"] = ["x"]
    assert "spec.hoosts" in refusal(document)
    document = sample(kind)
    document["metadata"]["lables"] = {}
    assert "metadata.lables" in refusal(document)
    document = sample(kind)
    document["status"] = {}
    assert "status" in refusal(document)


@pytest.mark.parametrize("kind", [*ISTIO_KINDS, *PROMETHEUS_OPERATOR_KINDS])
def test_an_object_of_another_kind_or_version_is_refused(kind: str) -> None:
    for key in ("kind", "apiVersion"):
        document = sample(kind)
        document[key] = document[key] + "x"
        with pytest.raises(ValidationError, match=key):
            kind_class(kind).model_validate(document)


BAD_VALUES: list[tuple[str, str, Any, str]] = [
    # kind, path below spec, value, what the message must say
    ("PeerAuthentication", "mtls.mode", "STRCT", "'STRICT'"),
    ("PeerAuthentication", "portLevelMtls.8080.mode", "strict", "'STRICT'"),
    ("AuthorizationPolicy", "action", "ALOW", "'ALLOW'"),
    ("AuthorizationPolicy", "rules.0.from.0.source.serviceAccounts.0", "x" * 321, "320"),
    ("AuthorizationPolicy", "rules.0.when.0", {"values": ["x"]}, "key"),
    ("DestinationRule", "trafficPolicy.connectionPool.http.h2UpgradePolicy", "YES", "'UPGRADE'"),
    ("DestinationRule", "trafficPolicy.connectionPool.tcp.connectTimeout", "5", "250ms"),
    ("DestinationRule", "trafficPolicy.connectionPool.tcp.connectTimeout", "500us", "1ms"),
    ("DestinationRule", "trafficPolicy.connectionPool.tcp.connectTimeout", "1 s", "duration"),
    ("DestinationRule", "trafficPolicy.outlierDetection.consecutiveErrors", 5, "Extra inputs"),
    (
        "DestinationRule",
        "subsets.0.trafficPolicy",
        {"loadBalancer": {"simple": "LEAST_CONN"}},
        "'LEAST_REQUEST'",
    ),
    ("DestinationRule", "trafficPolicy.retryBudget.percent", 101, "100"),
    ("DestinationRule", "trafficPolicy.loadBalancer.simple", "RANDOM", "exclude each other"),
    (
        "DestinationRule",
        "trafficPolicy.loadBalancer.consistentHash.useSourceIp",
        True,
        "httpCookie",
    ),
    ("DestinationRule", "workloadSelector.matchLabels.app", "*", "pattern"),
    ("EnvoyFilter", "configPatches.0.applyTo", "HTTP_FILTERS", "'HTTP_FILTER'"),
    ("EnvoyFilter", "configPatches.0.match.cluster", {}, "listener and cluster exclude"),
    ("EnvoyFilter", "configPatches.0.patch.value", [], "dictionary"),
    ("Gateway", "servers.1.tls.minProtocolVersion", "TLS1.2", "'TLSV1_2'"),
    ("Gateway", "servers.1.tls.credentialNames", ["a"], "credentialName and credentialNames"),
    ("Gateway", "servers.1.port.number", "443", "integer"),
    ("RequestAuthentication", "jwtRules.0.jwks", "{}", "jwksUri and jwks exclude"),
    ("RequestAuthentication", "jwtRules.0.jwks_uri", "https://x", "Extra inputs"),
    ("RequestAuthentication", "selector", {}, "selector and targetRefs exclude"),
    ("ServiceEntry", "ports.0.number", 65536, "65535"),
    ("ServiceEntry", "workloadSelector", {}, "workloadSelector and endpoints"),
    ("Sidecar", "egress.0.hosts", ("./identity",), "list"),
    ("Telemetry", "tracing.0.randomSamplingPercentage", 101, "100"),
    ("Telemetry", "tracing.0.customTags.tenant.literal", {"value": "x"}, "literal and header"),
    ("Telemetry", "metrics.0.overrides.0.match.metric", "REQUESTS", "'REQUEST_COUNT'"),
    ("VirtualService", "http.0.match.0.uri.exact", "/", "exact and prefix exclude each other"),
    ("VirtualService", "http.0.timeout", "0s", "1ms"),
    ("VirtualService", "http.0.websocketUpgrade", True, "Extra inputs"),
    ("VirtualService", "http.0.route.0.weight", 1.5, "integer"),
    ("VirtualService", "http.0.route.0.destination", {"subset": "v1"}, "host"),
    ("ServiceMonitor", "endpoints.0.interval", "15", "pattern"),
    ("ServiceMonitor", "selector.matchExpressions.0.key", None, "string"),
    ("PrometheusRule", "groups.0.rules.0.for", "5 minutes", "pattern"),
]


@pytest.mark.parametrize(
    ("kind", "path", "value", "said"), BAD_VALUES, ids=[f"{k}.{p}" for k, p, *_ in BAD_VALUES]
)
def test_bad_values_are_refused_with_their_place(
    kind: str, path: str, value: Any, said: str
) -> None:
    document = sample(kind)
    *parents, last = path.split(".")
    node: Any = document["spec"]
    for step in parents:
        node = node[int(step) if isinstance(node, list) else step]
    node[int(last) if isinstance(node, list) else last] = value
    message = refusal(document)
    assert said in message
    assert ".".join(["spec", *parents]) in message


@pytest.mark.parametrize("name", ["Identity", "identity_service", "-a", "a" * 254, ""])
def test_names_that_kubernetes_refuses_are_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="name"):
        ObjectMeta(name=name)


def test_objects_are_immutable() -> None:
    metadata = ObjectMeta(name="a")
    with pytest.raises(ValidationError, match="frozen"):
        metadata.name = "b"  # type: ignore[misc]


def test_class_names_are_not_numbered() -> None:
    """A numbered name (`Http1`) would move when Istio adds a field."""
    for package in ("istio", "prometheus_operator"):
        folder = HERE.parents[2] / "components" / package
        for file in folder.glob("*.py"):
            names = [
                node.name
                for node in ast.walk(ast.parse(file.read_text()))
                if isinstance(node, ast.ClassDef)
            ]
            assert [name for name in names if re.search(r"\d$|_", name)] in ([], ["OAuth2"])
