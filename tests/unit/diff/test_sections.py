"""Each section by small objects: what it tells, and which way it says the change goes."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from diff.changes import Change, Effect
from diff.compare import diff_objects
from diff.facts import together
from tests.unit.semantics.mesh_objects import ROOT, item

WEAKER, STRICTER, NEUTRAL = Effect.WEAKER, Effect.STRICTER, Effect.NEUTRAL


def _changes(section: str, old: list[Any], new: list[Any]) -> list[Change]:
    found = next(s for s in diff_objects(old, new).sections if s.key == section)
    return list(found.changes)


def _peer(mode: str, namespace: str = ROOT, **spec: Any) -> dict[str, Any]:
    return item("PeerAuthentication", "default", {"mtls": {"mode": mode}, **spec}, namespace)


def _rule(**policy: Any) -> dict[str, Any]:
    return item("DestinationRule", "web", {"host": "web", "trafficPolicy": policy})


def _gateway(**tls: Any) -> dict[str, Any]:
    server = {"port": {"number": 443, "protocol": "HTTPS"}, "hosts": ["a.example"], "tls": tls}
    return item("Gateway", "main", {"selector": {"istio": "g"}, "servers": [server]}, ROOT)


def _mesh(**config: Any) -> dict[str, Any]:
    return {
        "kind": "ConfigMap",
        "metadata": {"name": "istio", "namespace": ROOT},
        "data": {"mesh": yaml.safe_dump(config)},
    }


def _namespace(**labels: str) -> dict[str, Any]:
    return {"kind": "Namespace", "metadata": {"name": "apps", "labels": labels}}


def _service() -> dict[str, Any]:
    return item(
        "Service", "web", {"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80}]}
    )


TLS: dict[str, tuple[list[Any], list[Any], str, Effect]] = {
    "STRICT to PERMISSIVE": ([_peer("STRICT")], [_peer("PERMISSIVE")], "mTLS", WEAKER),
    "PERMISSIVE to STRICT": ([_peer("PERMISSIVE")], [_peer("STRICT")], "mTLS", STRICTER),
    "a port to DISABLE": (
        [_peer("STRICT", "apps")],
        [_peer("STRICT", "apps", portLevelMtls={"8080": {"mode": "DISABLE"}})],
        "mTLS of port 8080",
        WEAKER,
    ),
    "STRICT that goes": ([_service(), _peer("STRICT")], [_service()], "mTLS", WEAKER),
    "client TLS to DISABLE": (
        [_rule(tls={"mode": "ISTIO_MUTUAL"})],
        [_rule(tls={"mode": "DISABLE"})],
        "client TLS",
        WEAKER,
    ),
    "client TLS of a port": (
        [_rule(portLevelSettings=[{"port": {"number": 80}, "tls": {"mode": "ISTIO_MUTUAL"}}])],
        [_rule(portLevelSettings=[{"port": {"number": 80}, "tls": {"mode": "SIMPLE"}}])],
        "client TLS of port 80",
        WEAKER,
    ),
    "a lower TLS version": (
        [_gateway(mode="SIMPLE", minProtocolVersion="TLSV1_2")],
        [_gateway(mode="SIMPLE", minProtocolVersion="TLSV1_0")],
        "lowest version",
        WEAKER,
    ),
    "a higher TLS version": (
        [_gateway(mode="SIMPLE", minProtocolVersion="TLSV1_2")],
        [_gateway(mode="SIMPLE", minProtocolVersion="TLSV1_3")],
        "lowest version",
        STRICTER,
    ),
    "below the version that Istio takes by itself": (
        [_gateway(mode="SIMPLE")],
        [_gateway(mode="SIMPLE", minProtocolVersion="TLSV1_1")],
        "lowest version",
        WEAKER,
    ),
    "above the version that Istio takes by itself": (
        [_gateway(mode="SIMPLE", minProtocolVersion="TLS_AUTO")],
        [_gateway(mode="SIMPLE", minProtocolVersion="TLSV1_3")],
        "lowest version",
        STRICTER,
    ),
    "a lower highest version": (
        [_gateway(mode="SIMPLE")],
        [_gateway(mode="SIMPLE", maxProtocolVersion="TLSV1_2")],
        "highest version",
        WEAKER,
    ),
    "a server whose TLS mode goes": (
        [_gateway(mode="SIMPLE", credentialName="a")],
        [_gateway(credentialName="a")],
        "TLS mode",
        WEAKER,
    ),
    "client TLS whose mode goes": (
        [_rule(tls={"mode": "ISTIO_MUTUAL"})],
        [_rule(tls={})],
        "client TLS",
        WEAKER,
    ),
    "UNSET to STRICT below PERMISSIVE": (
        [_service(), _peer("PERMISSIVE"), _peer("UNSET", "apps")],
        [_service(), _peer("PERMISSIVE"), _peer("STRICT", "apps")],
        "mTLS",
        STRICTER,
    ),
    "as many trusted proxies as nobody can say": (
        [_mesh(defaultConfig={"gatewayTopology": {"numTrustedProxies": 1}})],
        [_mesh(defaultConfig={"gatewayTopology": {"numTrustedProxies": "many"}})],
        "defaultConfig.gatewayTopology.numTrustedProxies",
        WEAKER,
    ),
    "one more cipher": (
        [_gateway(mode="SIMPLE", cipherSuites=["A", "B"])],
        [_gateway(mode="SIMPLE", cipherSuites=["A", "B", "C"])],
        "ciphers",
        WEAKER,
    ),
    "one cipher less": (
        [_gateway(mode="SIMPLE", cipherSuites=["A", "B"])],
        [_gateway(mode="SIMPLE", cipherSuites=["A"])],
        "ciphers",
        STRICTER,
    ),
    "another certificate": (
        [_gateway(mode="SIMPLE", credentialName="a")],
        [_gateway(mode="SIMPLE", credentialName="b")],
        "certificate",
        NEUTRAL,
    ),
    "no redirect to HTTPS": (
        [_gateway(httpsRedirect=True)],
        [_gateway(httpsRedirect=False)],
        "HTTPS redirect",
        WEAKER,
    ),
    "injection off": (
        [_service(), _namespace(**{"istio-injection": "enabled"})],
        [_service(), _namespace(**{"istio-injection": "disabled"})],
        "sidecar",
        WEAKER,
    ),
    "outbound to anywhere": (
        [_mesh(outboundTrafficPolicy={"mode": "REGISTRY_ONLY"})],
        [_mesh(outboundTrafficPolicy={"mode": "ALLOW_ANY"})],
        "outboundTrafficPolicy.mode",
        WEAKER,
    ),
    "one more trusted proxy": (
        [_mesh(defaultConfig={"gatewayTopology": {"numTrustedProxies": 1}})],
        [_mesh(defaultConfig={"gatewayTopology": {"numTrustedProxies": 2}})],
        "defaultConfig.gatewayTopology.numTrustedProxies",
        WEAKER,
    ),
    "less normalization": (
        [_mesh(pathNormalization={"normalization": "DECODE_AND_MERGE_SLASHES"})],
        [_mesh(pathNormalization={"normalization": "BASE"})],
        "pathNormalization.normalization",
        WEAKER,
    ),
}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ([_gateway(mode="SIMPLE")], [_gateway(mode="SIMPLE", minProtocolVersion="TLS_AUTO")]),
        ([_gateway(mode="SIMPLE")], [_gateway(mode="SIMPLE", minProtocolVersion="TLSV1_2")]),
        ([_peer("UNSET", "apps")], []),
    ],
)
def test_what_istio_means_anyway_is_no_change(old: list[Any], new: list[Any]) -> None:
    assert _changes("tls", old, new) == []


@pytest.mark.parametrize("name", TLS)
def test_tls(name: str) -> None:
    old, new, field, effect = TLS[name]
    found = [c for c in _changes("tls", old, new) if field in (c.field, "")]
    if name in ("STRICT that goes", "UNSET to STRICT below PERMISSIVE"):
        found = [c for c in found if c.subject.startswith("workload")]
    assert found, _changes("tls", old, new)
    assert {c.effect for c in found} == {effect}


def _virtual_service(**route: Any) -> dict[str, Any]:
    http = {
        "match": [{"uri": {"prefix": "/a"}}],
        "route": [{"destination": {"host": "web"}}],
        **route,
    }
    return item(
        "VirtualService",
        "web",
        {"hosts": ["a.example"], "gateways": ["istio-system/main"], "http": [http]},
    )


ROUTES: dict[str, tuple[list[Any], list[Any], tuple[str, str | None, str | None], Effect]] = {
    "timeout": (
        [_virtual_service(timeout="10s")],
        [_virtual_service(timeout="20s")],
        ("timeout", "10s", "20s"),
        NEUTRAL,
    ),
    "a timeout that goes": (
        [_virtual_service(timeout="10s")],
        [_virtual_service()],
        ("timeout", "10s", None),
        NEUTRAL,
    ),
    "retries": (
        [_virtual_service(retries={"attempts": 1})],
        [_virtual_service(retries={"attempts": 3})],
        ("retries attempts", "1", "3"),
        NEUTRAL,
    ),
    "destination": (
        [_virtual_service()],
        [_virtual_service(route=[{"destination": {"host": "other", "port": {"number": 80}}}])],
        ("goes to", "web", "other:80"),
        NEUTRAL,
    ),
    "a header that clients may bring again": (
        [_virtual_service(headers={"request": {"remove": ["x-tenant-id", "x-debug"]}})],
        [_virtual_service(headers={"request": {"remove": ["x-debug"]}})],
        ("headers.request.remove", "x-tenant-id, x-debug", "x-debug"),
        WEAKER,
    ),
    "a header more that is removed": (
        [_virtual_service()],
        [_virtual_service(headers={"request": {"remove": ["x-debug"]}})],
        ("headers.request.remove", None, "x-debug"),
        STRICTER,
    ),
    "a header that is no longer overwritten": (
        [_virtual_service(headers={"request": {"set": {"x-role": "guest"}}})],
        [_virtual_service()],
        ("headers.request.set.x-role", "guest", None),
        WEAKER,
    ),
    "a header that is overwritten": (
        [_virtual_service()],
        [_virtual_service(headers={"request": {"set": {"x-role": "guest"}}})],
        ("headers.request.set.x-role", None, "guest"),
        NEUTRAL,
    ),
    "CORS origins": (
        [_virtual_service(corsPolicy={"allowOrigins": [{"exact": "https://a"}]})],
        [
            _virtual_service(
                corsPolicy={"allowOrigins": [{"exact": "https://a"}, {"prefix": "https://"}]}
            )
        ],
        ("CORS allowOrigins", "https://a", "https://a, https://*"),
        WEAKER,
    ),
    "connection limit": (
        [_rule(connectionPool={"tcp": {"maxConnections": 10}})],
        [_rule(connectionPool={"tcp": {"maxConnections": 20}})],
        ("connectionPool.tcp.maxConnections", "10", "20"),
        NEUTRAL,
    ),
}


@pytest.mark.parametrize("name", ROUTES)
def test_routes(name: str) -> None:
    old, new, expected, effect = ROUTES[name]
    [change] = _changes("routes", old, new)
    assert (change.field, change.before, change.after) == expected
    assert change.effect is effect


def test_a_host_outside_that_may_be_called_is_weaker() -> None:
    entry = item("ServiceEntry", "vendor", {"hosts": ["api.vendor.example"]})
    [change] = _changes("routes", [_service()], [_service(), entry])
    assert "api.vendor.example" in str(change.after)
    assert change.effect is WEAKER


def _local_limit(tokens: int, **more: Any) -> dict[str, Any]:
    bucket = {"max_tokens": tokens, "tokens_per_fill": tokens, "fill_interval": "60s"}
    patch = {"patch": {"value": {"typed_config": {"token_bucket": bucket, **more}}}}
    return item("EnvoyFilter", "limits", {"configPatches": [patch]}, ROOT)


def _global_limit(requests: int, unit: str) -> dict[str, Any]:
    config = {
        "domain": "edge",
        "descriptors": [
            {
                "key": "tenant",
                "descriptors": [
                    {
                        "key": "route",
                        "value": "login",
                        "rate_limit": {"unit": unit, "requests_per_unit": requests},
                    }
                ],
            }
        ],
    }
    return {
        "kind": "ConfigMap",
        "metadata": {"name": "ratelimit", "namespace": "apps"},
        "data": {"config.yaml": yaml.safe_dump(config)},
    }


LIMITS: dict[str, tuple[list[Any], list[Any], Effect]] = {
    "a larger local limit": ([_local_limit(10)], [_local_limit(20)], WEAKER),
    "a smaller local limit": ([_local_limit(20)], [_local_limit(10)], STRICTER),
    "a limit that goes": ([_local_limit(10), _service()], [_service()], WEAKER),
    "a larger global limit": ([_global_limit(10, "minute")], [_global_limit(20, "minute")], WEAKER),
    "a smaller number of a shorter unit": (
        [_global_limit(100, "minute")],
        [_global_limit(10, "second")],
        WEAKER,
    ),
    "open on failure": (
        [_local_limit(10, failure_mode_deny=True)],
        [_local_limit(10, failure_mode_deny=False)],
        WEAKER,
    ),
    "a larger body": (
        [_local_limit(1, max_request_bytes=10)],
        [_local_limit(1, max_request_bytes=20)],
        WEAKER,
    ),
}


@pytest.mark.parametrize("name", LIMITS)
def test_limits(name: str) -> None:
    old, new, effect = LIMITS[name]
    [change] = _changes("limits", old, new)
    assert change.effect is effect, change


def test_sampling_is_told_from_and_to() -> None:
    def telemetry(percent: float) -> dict[str, Any]:
        tracing = [{"providers": [{"name": "otel"}], "randomSamplingPercentage": percent}]
        return item("Telemetry", "mesh", {"tracing": tracing}, ROOT)

    [change] = _changes("telemetry", [telemetry(10)], [telemetry(100)])
    assert (change.field, change.before, change.after) == ("tracing sampling", "10 %", "100 %")


def test_counts_and_identity_by_kind_and_name() -> None:
    one, two = _service(), _rule()
    changed = {**one, "spec": {**one["spec"], "ports": []}}
    diff = diff_objects([one, two], [changed, item("Service", "new", {})])
    assert {(c.kind, c.added, c.changed, c.removed) for c in diff.counts} == {
        ("Service", 1, 1, 0),
        ("DestinationRule", 0, 0, 1),
    }


def test_a_newer_version_of_the_same_object_is_a_change_of_it() -> None:
    old = {**_peer("STRICT"), "apiVersion": "security.istio.io/v1beta1"}
    new = _peer("STRICT")
    assert [str(o.status) for o in diff_objects([old], [new]).objects] == ["changed"]


@pytest.mark.parametrize(
    ("subjects", "expected"),
    [
        (["a"], "a"),
        (["x a", "x b"], "x: a, b"),
        (["x", "x b"], "x: (itself), b"),
        (["a", "b c"], "a; b c"),
        (["h /a", "h /b", "g /a"], "h: /a, /b; g /a"),
        (
            [f"x {n}" for n in range(14)],
            "x: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11; and 2 more",
        ),
    ],
)
def test_subjects_that_changed_alike_are_told_together(subjects: list[str], expected: str) -> None:
    assert together(subjects) == expected
