"""EnvoyFilters that undo what other objects say, in all the ways that Envoy's configuration has."""

from __future__ import annotations

from typing import Any

import pytest

from tests.policies.variants import reported

HCM = "envoy.filters.network.http_connection_manager"
TYPE = "type.googleapis.com/envoy.extensions"
MANAGER = {"@type": f"{TYPE}.filters.network.http_connection_manager.v3.HttpConnectionManager"}
GUARDS, TLS = "envoy-filter-keeps-guards", "envoy-filter-keeps-tls"
OPENS, REQUESTS, CODE = (
    "envoy-filter-opens-nothing",
    "envoy-filter-keeps-requests",
    "proxy-runs-known-code",
)


def envoy_filter(
    applies_to: str, operation: str, value: Any = None, **match: Any
) -> dict[str, Any]:
    patch = {"operation": operation, **({} if value is None else {"value": value})}
    return {
        "apiVersion": "networking.istio.io/v1alpha3",
        "kind": "EnvoyFilter",
        "metadata": {"name": "added", "namespace": "shop"},
        "spec": {
            "priority": 10,
            "configPatches": [{"applyTo": applies_to, "match": match, "patch": patch}],
        },
    }


def at(network: str = HCM, http: str = "") -> dict[str, Any]:
    sub = {"subFilter": {"name": http}} if http else {}
    return {"filterChain": {"filter": {"name": network, **sub}}}


ROUTER = at(http="envoy.filters.http.router")


def off(name: str, key: str = "typed_per_filter_config") -> dict[str, Any]:
    return {key: {name: {"disabled": True}}}


def lua(code: str) -> dict[str, Any]:
    return {
        "name": "x",
        "typedConfig": {"@type": f"{TYPE}.filters.http.lua.v3.Lua", "inlineCode": code},
    }


RBAC, JWT = "envoy.filters.http.rbac", "envoy.filters.http.jwt_authn"
RAW = {"transport_socket": {"name": "envoy.transport_sockets.raw_buffer"}}
TO_ELSEWHERE: dict[str, Any] = {"load_assignment": {"endpoints": []}}


@pytest.mark.parametrize(
    ("policies", "patched"),
    [
        ({GUARDS}, envoy_filter("HTTP_FILTER", "REMOVE", listener=at(http=JWT))),
        ({GUARDS}, envoy_filter("HTTP_FILTER", "REPLACE", {"name": RBAC}, listener=at(http=RBAC))),
        ({GUARDS}, envoy_filter("HTTP_FILTER", "MERGE", {"x": 1}, listener=at(http=RBAC))),
        (
            {GUARDS},
            envoy_filter("HTTP_FILTER", "REMOVE", listener=at(http="envoy.filters.http.ext_authz")),
        ),
        ({GUARDS}, envoy_filter("HTTP_FILTER", "REMOVE", context="SIDECAR_INBOUND")),
        (
            {GUARDS},
            envoy_filter("NETWORK_FILTER", "REMOVE", listener=at("envoy.filters.network.rbac")),
        ),
        (
            {GUARDS},
            envoy_filter("NETWORK_FILTER", "REPLACE", {"typed_config": MANAGER}, listener=at()),
        ),
        ({GUARDS}, envoy_filter("NETWORK_FILTER", "REMOVE", context="SIDECAR_INBOUND")),
        (
            {GUARDS},
            envoy_filter(
                "NETWORK_FILTER",
                "MERGE",
                {"typed_config": {**MANAGER, "httpFilters": []}},
                listener=at(),
            ),
        ),
        ({GUARDS}, envoy_filter("LISTENER", "REMOVE")),
        ({GUARDS}, envoy_filter("FILTER_CHAIN", "REMOVE")),
        ({GUARDS}, envoy_filter("LISTENER_FILTER", "REMOVE")),
        ({GUARDS}, envoy_filter("FILTER_CHAIN", "MERGE", {"filters": []})),
        ({GUARDS}, envoy_filter("LISTENER", "MERGE", {"default_filter_chain": {}})),
        ({GUARDS}, envoy_filter("HTTP_ROUTE", "MERGE", off(RBAC))),
        ({GUARDS}, envoy_filter("HTTP_ROUTE", "MERGE", off(JWT, "typedPerFilterConfig"))),
        ({GUARDS}, envoy_filter("VIRTUAL_HOST", "MERGE", off(JWT))),
        ({GUARDS}, envoy_filter("ROUTE_CONFIGURATION", "MERGE", off(RBAC))),
        ({GUARDS, OPENS}, envoy_filter("VIRTUAL_HOST", "MERGE", {"routes": [off(RBAC)]})),
        (
            {GUARDS},
            envoy_filter(
                "HTTP_ROUTE",
                "MERGE",
                {
                    "typed_per_filter_config": {
                        "own": {"@type": f"{TYPE}.filters.http.rbac.v3.RBACPerRoute"}
                    }
                },
            ),
        ),
        (
            {GUARDS},
            envoy_filter(
                "HTTP_FILTER",
                "INSERT_BEFORE",
                {
                    "name": "x",
                    "typed_config": {
                        "@type": f"{TYPE}.filters.http.jwt_authn.v3.JwtAuthentication"
                    },
                },
                listener=ROUTER,
            ),
        ),
        (
            {GUARDS, CODE},
            envoy_filter(
                "HTTP_FILTER",
                "INSERT_BEFORE",
                lua(f'h:set("{JWT}", "role", "admin")'),
                listener=ROUTER,
            ),
        ),
        ({CODE}, envoy_filter("HTTP_FILTER", "INSERT_FIRST", lua("x"), listener=at())),
        (
            {CODE},
            envoy_filter(
                "HTTP_FILTER",
                "INSERT_FIRST",
                {
                    "name": "x",
                    "typed_config": {
                        "@type": "type.googleapis.com/udpa.type.v1.TypedStruct",
                        "type_url": f"{TYPE}.filters.http.wasm.v3.Wasm",
                    },
                },
                listener=at(),
            ),
        ),
        ({TLS}, envoy_filter("CLUSTER", "MERGE", RAW)),
        ({TLS}, envoy_filter("CLUSTER", "MERGE", {"transportSocketMatches": []})),
        (
            {TLS},
            envoy_filter(
                "FILTER_CHAIN", "MERGE", {"transport_socket": {"require_client_certificate": False}}
            ),
        ),
        ({TLS, GUARDS}, envoy_filter("LISTENER", "MERGE", {"filter_chains": [RAW]})),
        ({OPENS}, envoy_filter("CLUSTER", "MERGE", TO_ELSEWHERE)),
        ({OPENS}, envoy_filter("CLUSTER", "MERGE", {"type": "ORIGINAL_DST"})),
        ({OPENS}, envoy_filter("LISTENER", "ADD", {"name": "x"})),
        ({OPENS}, envoy_filter("FILTER_CHAIN", "ADD", {"filters": []})),
        ({OPENS}, envoy_filter("VIRTUAL_HOST", "ADD", {"domains": ["*"]})),
        ({OPENS}, envoy_filter("HTTP_ROUTE", "INSERT_FIRST", {"match": {"prefix": "/"}})),
        ({OPENS}, envoy_filter("HTTP_ROUTE", "MERGE", {"route": {"cluster": "x"}})),
        ({OPENS}, envoy_filter("HTTP_ROUTE", "MERGE", {"directResponse": {"status": 200}})),
        (
            {OPENS},
            envoy_filter(
                "NETWORK_FILTER",
                "INSERT_FIRST",
                {
                    "name": "x",
                    "typed_config": {"@type": f"{TYPE}.filters.network.tcp_proxy.v3.TcpProxy"},
                },
                listener=at(),
            ),
        ),
        (
            {OPENS},
            envoy_filter(
                "NETWORK_FILTER",
                "INSERT_BEFORE",
                {
                    "name": "x",
                    "typed_config": {"@type": f"{TYPE}.filters.network.redis_proxy.v3.RedisProxy"},
                },
                listener=at(),
            ),
        ),
        (
            {OPENS},
            envoy_filter(
                "VIRTUAL_HOST",
                "MERGE",
                {
                    "typed_per_filter_config": {
                        "envoy.filters.http.cors": {
                            "@type": f"{TYPE}.filters.http.cors.v3.CorsPolicy"
                        }
                    }
                },
            ),
        ),
        ({OPENS}, envoy_filter("HTTP_ROUTE", "MERGE", {"route": {"prefix_rewrite": "/metrics"}})),
        (
            {"route-sets-no-claim"},
            envoy_filter(
                "HTTP_ROUTE",
                "MERGE",
                {"request_headers_to_add": [{"header": {"key": "X-Tenant-Id", "value": "evil"}}]},
            ),
        ),
        ({OPENS}, envoy_filter("BOOTSTRAP", "MERGE", {"admin": {"address": {}}})),
        *(
            (
                {REQUESTS},
                envoy_filter(
                    "NETWORK_FILTER",
                    "MERGE",
                    {"typed_config": {**MANAGER, **fields}},
                    listener=at(),
                ),
            )
            for fields in (
                {"normalize_path": False},
                {"mergeSlashes": False},
                {"path_with_escaped_slashes_action": "KEEP_UNCHANGED"},
                {"use_remote_address": False},
                {"xff_num_trusted_hops": 9},
                {"forward_client_cert_details": "ALWAYS_FORWARD_ONLY"},
            )
        ),
    ],
)
def test_a_patch_that_weakens_is_reported(policies: set[str], patched: dict[str, Any]) -> None:
    assert reported([patched]) == policies


@pytest.mark.parametrize(
    "patched",
    [
        envoy_filter("HTTP_ROUTE", "MERGE", off("body")),
        envoy_filter("HTTP_ROUTE", "MERGE", {"route": {"idle_timeout": "60s"}}),
        envoy_filter("CLUSTER", "MERGE", {"per_connection_buffer_limit_bytes": 32768}),
        envoy_filter("CLUSTER", "ADD", {"name": "x", **TO_ELSEWHERE, "transport_socket": {}}),
        envoy_filter("LISTENER", "MERGE", {"per_connection_buffer_limit_bytes": 32768}),
        envoy_filter(
            "NETWORK_FILTER",
            "MERGE",
            {"typed_config": {**MANAGER, "normalize_path": True}},
            listener=at(),
        ),
        envoy_filter("HTTP_FILTER", "REMOVE", listener=at(http="istio.stats")),
        envoy_filter(
            "NETWORK_FILTER",
            "INSERT_BEFORE",
            {
                "typed_config": {
                    "@type": f"{TYPE}.filters.network.connection_limit.v3.ConnectionLimit"
                }
            },
            listener=at(),
        ),
    ],
)
def test_a_patch_that_leaves_the_guards_alone_is_not(patched: dict[str, Any]) -> None:
    assert reported([patched]) == set()


@pytest.mark.parametrize(
    ("kind", "api"),
    [
        ("WasmPlugin", "extensions.istio.io/v1alpha1"),
        ("TrafficExtension", "extensions.istio.io/v1alpha1"),
    ],
)
def test_plugins_are_code(kind: str, api: str) -> None:
    plugin = {
        "apiVersion": api,
        "kind": kind,
        "metadata": {"name": "x", "namespace": "shop"},
        "spec": {},
    }
    assert reported([plugin]) == {CODE}
