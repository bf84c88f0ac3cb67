"""What the gateway does to each route and request, read from the configuration after patching."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.edge import bodies, headers, rate_limits, user_agents
from components.edge.component import EdgeArgs, EdgeFilters
from components.edge.routes import gateway_routes
from components.edge.timeouts import stream_timeouts
from components.gateway_proxy import gateway_proxy_config
from components.limits import descriptors, limited_routes
from components.mesh_config import GatewayTopology
from components.objects import Manifest
from components.virtual_service import public_routes
from model import stack_file
from model.access import Catalogue
from model.catalogue import catalogue
from model.service import Service
from model.settings import Allowance, Bodies, Cors, Edge, RateLimits, Settings, Split
from tests.unit.components.catalogues import catalogues, traffic
from tests.unit.components.gateway_config import Gateway, gateway, gateway_route_names

STACKS = ("dev", "staging", "prod")
HTTP, HTTPS, EAST_WEST = 80, 443, 15443
PORTS = (HTTP, HTTPS, EAST_WEST)
ISTIO = [
    f"envoy.filters.http.{name}" for name in ("jwt_authn", "rbac", "grpc_stats", "fault", "cors")
]
PLATFORM = catalogue()


@cache
def stack_settings(stack: str) -> Settings:
    return stack_file.load(stack, PLATFORM)


@cache
def unchanged(stack: str) -> tuple[Manifest, ...]:
    return edge_filters(stack)


def edge_filters(stack: str, **changes: Any) -> tuple[Manifest, ...]:
    settings = stack_settings(stack).model_copy(update=changes)
    return EdgeFilters.build(
        EdgeArgs(
            stack=stack,
            namespaces=settings.namespaces,
            edge=settings.edge,
            rate_limits=settings.rate_limits,
            tenant_claim=settings.authentication.tenant.claim,
            denied_user_agents=settings.authorization.denied_user_agents,
            catalogue=PLATFORM,
            traffic=settings.traffic,
            east_west=settings.gateway.east_west,
        )
    )


def patched(stack: str, **changes: Any) -> Gateway:
    names = gateway_route_names(_virtual_services(PLATFORM, stack_settings(stack).traffic))
    filters = edge_filters(stack, **changes) if changes else unchanged(stack)
    return gateway(filters, names, PORTS)


# Every filter


@pytest.mark.parametrize("stack", STACKS)
def test_filters_are_for_the_gateway_and_survive_upgrades(stack: str) -> None:
    filters = unchanged(stack)
    priorities = [item["spec"]["priority"] for item in filters]
    assert len(set(priorities)) == len(priorities), "the order of two filters would be chance"
    for item in filters:
        assert item["metadata"]["namespace"] == "istio-system"
        assert item["spec"]["workloadSelector"] == {"labels": {"istio": "ingressgateway"}}
        for patch in item["spec"]["configPatches"]:
            assert "proxy" not in patch["match"]


@pytest.mark.parametrize("stack", STACKS)
def test_order_of_the_chain(stack: str) -> None:
    """Headers see every answer; floods and scanners end before tokens are verified; the tenant is
    known when its limit is asked for; nobody's body is kept before it is known who they are."""
    result = patched(stack)
    first = [headers.FILTER, rate_limits.LOCAL, user_agents.FILTER]
    last = [bodies.BUFFER, rate_limits.OPEN, rate_limits.CLOSED, bodies.COMPRESSOR]
    whole = [*first, *ISTIO, *last, "envoy.filters.http.router"]
    assert result.chain(HTTP) == result.chain(HTTPS) == whole
    assert result.chain(EAST_WEST) == [name for name in whole if name != rate_limits.LOCAL]


def test_body_limit_comes_before_what_keeps_requests_waiting() -> None:
    """Seen in Envoy: the limit raised after reading had stopped at the connection's buffer, and a
    request that was too large ended in a timeout, not in 413."""
    chain = patched("dev").chain(HTTPS)
    assert chain.index(bodies.BUFFER) < chain.index(rate_limits.OPEN)


def test_no_scanners_named_no_filter() -> None:
    authorization = stack_settings("dev").authorization.model_copy(
        update={"denied_user_agents": ()}
    )
    assert user_agents.FILTER not in patched("dev", authorization=authorization).chain(HTTPS)


def test_scanners_are_found_anywhere_in_the_header() -> None:
    config = patched("dev").http_filter(HTTPS, user_agents.FILTER)["typed_config"]
    (policy,) = config["rules"]["policies"].values()
    assert config["rules"]["action"] == "DENY"
    assert policy["permissions"] == [{"any": True}]
    matches = [principal["header"] for principal in policy["principals"]]
    assert {match["name"] for match in matches} == {"user-agent"}
    assert [match["string_match"] for match in matches] == [
        {"contains": product, "ignore_case": True} for product in ("sqlmap", "nikto", "masscan")
    ]


# Headers


@pytest.mark.parametrize("port", PORTS)
def test_headers_of_every_answer(port: int) -> None:
    result = patched("prod")
    mutations = result.http_filter(port, headers.FILTER)["typed_config"]["mutations"]
    changes = mutations["response_mutations"]
    appended = [change["append"] for change in changes if "append" in change]
    values = {item["header"]["key"]: item["header"]["value"] for item in appended}
    assert values.pop("strict-transport-security", None) == (
        None if port == HTTP else "max-age=31536000; includeSubDomains"
    )
    assert values == {
        "x-frame-options": "DENY",
        "x-content-type-options": "nosniff",
        "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
        "referrer-policy": "no-referrer",
        "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    }
    assert {item["append_action"] for item in appended} == {"OVERWRITE_IF_EXISTS_OR_ADD"}
    assert [change["remove"] for change in changes if "remove" in change] == [
        "server",
        "x-powered-by",
    ]
    # What Envoy answers before there is a chain has the same ones.
    (mapper,) = result.managers[port]["local_reply_config"]["mappers"]
    assert mapper["headers_to_add"] == appended
    comparison = mapper["filter"]["status_code_filter"]["comparison"]
    assert (comparison["op"], comparison["value"]["default_value"]) == ("GE", 100)


@pytest.mark.parametrize("port", PORTS)
def test_request_id_is_returned(port: int) -> None:
    manager = patched("dev").managers[port]
    assert manager["always_set_request_id_in_response"] is True
    # The gateway makes its own: a client's would choose what is traced and mix up the logs.
    assert "preserve_external_request_id" not in manager


# The flood limit


@pytest.mark.parametrize("stack", STACKS)
def test_flood_limit_counts_addresses_and_nothing_else(stack: str) -> None:
    limits = stack_settings(stack).rate_limits
    config = patched(stack).http_filter(HTTPS, rate_limits.LOCAL)["typed_config"]
    (descriptor,) = config["descriptors"]
    assert descriptor["entries"] == [{"key": "masked_remote_address"}], "a bucket for each value"
    assert descriptor["token_bucket"] == {
        "max_tokens": limits.per_address.requests,
        "tokens_per_fill": limits.per_address.requests,
        "fill_interval": "60s",
    }
    assert config["always_consume_default_token_bucket"] is False, "one bucket for all clients"
    assert config["max_dynamic_descriptors"] == limits.tracked_addresses == 10_000
    assert config["rate_limits"] == [
        {
            "actions": [
                {"masked_remote_address": {"v4_prefix_mask_len": 32, "v6_prefix_mask_len": 64}}
            ]
        }
    ]
    for switch in ("filter_enabled", "filter_enforced"):
        assert config[switch]["default_value"]["numerator"] == 100


@pytest.mark.parametrize(("unit", "wait"), [("second", "1"), ("minute", "60"), ("hour", "3600")])
def test_refused_client_learns_when_to_come_back(unit: str, wait: str) -> None:
    limits = RateLimits(per_address=Allowance.model_validate({"requests": 7, "unit": unit}))
    config = patched("dev", rate_limits=limits).http_filter(HTTPS, rate_limits.LOCAL)[
        "typed_config"
    ]
    told = {h["header"]["key"]: h["header"]["value"] for h in config["response_headers_to_add"]}
    assert told == {
        "x-ratelimit-limit": f"7, 7;w={wait}",
        "x-ratelimit-remaining": "0",
        "x-ratelimit-reset": wait,
        "retry-after": wait,
    }


# Global limits


def test_two_instances_differ_in_what_a_failure_means_alone() -> None:
    result = patched("dev")
    opened = result.http_filter(HTTPS, rate_limits.OPEN)["typed_config"]
    closed = result.http_filter(HTTPS, rate_limits.CLOSED)["typed_config"]
    assert closed.pop("failure_mode_deny") is True
    assert closed.pop("status_on_error") == {"code": "ServiceUnavailable"}
    # One name for both: what alerts look for.
    assert "stat_prefix" not in {*closed, *opened}
    assert opened == closed
    grpc = opened["rate_limit_service"]["grpc_service"]
    host = "ratelimit.voiceassistant-dev.svc.cluster.local"
    assert grpc["envoy_grpc"] == {"cluster_name": f"outbound|8081||{host}", "authority": host}
    assert opened["timeout"] == grpc["timeout"] == "1s"
    assert opened["enable_x_ratelimit_headers"] == "DRAFT_VERSION_03"


def test_login_is_counted_by_address_and_closed_on_failure() -> None:
    result = patched("dev")
    for name in [name for name in result.routes if ".api.v1.auth." in name]:
        assert result.on_route(name, rate_limits.OPEN) is None
        assert _sent(result, name) == [
            ("/api/v1/auth", ("masked_remote_address",)),
        ]


def test_tenant_comes_from_the_verified_token() -> None:
    own = patched("dev").on_route("rag-engine.api.v1.rag.read", rate_limits.OPEN)
    assert own is not None
    (limit,) = own["rate_limits"]
    assert limit["actions"][1]["metadata"] == {
        "default_value": " ",
        "descriptor_key": "tenant",
        "metadata_key": {
            "key": "envoy.filters.http.jwt_authn",
            "path": [{"key": "payload"}, {"key": "tenant_id"}],
        },
    }


def test_route_with_an_allowance_of_its_own() -> None:
    limits = RateLimits(routes={"/api/v1/ai": Allowance(requests=5, unit="minute")})
    found = {
        item["value"]: item["descriptors"][0]["rate_limit"]
        for item in descriptors(limited_routes(gateway_routes(PLATFORM, {}), limits))["descriptors"]
    }
    assert found["/api/v1/ai"] == {"unit": "minute", "requests_per_unit": 5}
    assert found["/api/v1/rag"] == {"unit": "second", "requests_per_unit": 100}
    assert found["/ws/voice"] == found["/identity.v1.Identity"] == found["/api/v1/rag"]
    assert "/health" not in found


# Any catalogue


@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_any_catalogue(data: st.DataObject) -> None:
    """Each route that there is, and no other, gets what its declaration says."""
    found = data.draw(catalogues())
    splits = data.draw(traffic(found))
    prefixes = [route.path for _, route in found.exposures]
    limits = RateLimits(
        routes={p: Allowance(requests=3, unit="hour") for p in prefixes[:1]},
        closed_on_failure=tuple(data.draw(st.sets(st.sampled_from(prefixes)))) if prefixes else (),
    )
    declared = gateway_routes(found, splits)
    filters = (
        bodies.body_limit("istio-system", Bodies(), declared),
        bodies.compression("istio-system", 1024, declared),
        stream_timeouts("istio-system", declared),
        rate_limits.global_rate_limit(
            "istio-system",
            cluster="outbound|8081||ratelimit",
            authority="ratelimit",
            tenant_claim="tenant_id",
            timeout=limits.timeout,
            routes=limited_routes(declared, limits),
        ),
    )
    names = list(gateway_route_names(_virtual_services(found, splits)))
    result = gateway(filters, names, (HTTPS,))
    assert _named(filters) <= set(names), "patches of routes that do not exist"
    assert len(set(names)) == len(names), "two routes of one name"

    service_config = _allowances(descriptors(limited_routes(declared, limits)))
    covered = []
    for route in declared:
        for name in route.names:
            covered.append(name)
            unary = route.kind == "unary"
            size = 52_428_800 if route.upload else 1_048_576
            body = result.on_route(name, bodies.BUFFER)
            assert body == (_buffer(size) if unary else None)
            compressed = result.on_route(name, bodies.COMPRESSOR)
            assert (compressed is None) == unary
            assert unary or (compressed or {})["disabled"] is True
            action = result.routes[name]["route"]
            assert action.get("idle_timeout") == (
                "0s" if route.kind in ("stream", "websocket") else None
            )
            longest = action.get("max_stream_duration", {}).get("max_stream_duration")
            assert longest == (route.longest or None)
            begun = action.get("retry_policy", {}).get("per_try_timeout")
            assert begun == (route.begun_within if name in route.begun else None)

            sent = _sent(result, name)
            asked = [n for n in (rate_limits.OPEN, rate_limits.CLOSED) if result.on_route(name, n)]
            wanted = [("masked_remote_address",)] if route.login else []
            wanted += [("tenant",)] if route.token else []
            assert sent == [(route.prefix, keys) for keys in wanted]
            assert set(sent) <= set(service_config), "counted by no rule of the service"
            closed = route.prefix in limits.closed_on_failure
            assert asked == ([rate_limits.CLOSED if closed else rate_limits.OPEN] if wanted else [])
    assert sorted(covered) == sorted(names), "a route that the edge forgot"


def _virtual_services(found: Catalogue, splits: dict[str, Split]) -> list[Manifest]:
    return [
        item
        for service in found.services
        for item in public_routes(
            service,
            splits.get(service.name),
            namespace="apps",
            hosts=("api.example.com", "ws.example.com", "grpc.example.com"),
            gateways=["istio-system/public"],
            cors=Cors(),
            claim_headers=[],
        )
    ]


def _named(filters: tuple[Manifest, ...]) -> set[str]:
    return {
        patch["match"]["routeConfiguration"]["vhost"]["route"]["name"]
        for item in filters
        for patch in item["spec"].get("configPatches", [])
        if patch["applyTo"] == "HTTP_ROUTE"
    }


def _buffer(size: int) -> dict[str, Any]:
    return {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.buffer.v3.BufferPerRoute",
        "buffer": {"max_request_bytes": size},
    }


def _sent(result: Gateway, name: str) -> list[tuple[str, tuple[str, ...]]]:
    """The descriptors that a route sends: its value of `route`, and the keys that follow."""
    sent = []
    for instance in (rate_limits.OPEN, rate_limits.CLOSED):
        for limit in (result.on_route(name, instance) or {}).get("rate_limits", []):
            first, *others = limit["actions"]
            assert first["generic_key"]["descriptor_key"] == "route"
            keys = tuple(
                action["metadata"]["descriptor_key"] if "metadata" in action else next(iter(action))
                for action in others
            )
            sent.append((first["generic_key"]["descriptor_value"], keys))
    return sent


def _allowances(config: dict[str, Any]) -> dict[tuple[str, tuple[str, ...]], Any]:
    return {
        (outer["value"], (inner["key"],)): inner["rate_limit"]
        for outer in config["descriptors"]
        for inner in outer["descriptors"]
    }


# What is no EnvoyFilter


def test_connection_limits_are_istios_own_settings() -> None:
    config = gateway_proxy_config(
        Edge(stream_idle="2m", connection_idle="1h30m", request_headers="250ms"),
        GatewayTopology(num_trusted_proxies=2),
    )
    connections = config["connectionSettings"]
    assert "profile" not in connections, "its defaults would cut streams and redirect paths"
    assert connections == {
        "listenerPerConnectionBufferLimitBytes": 32_768,
        "httpIdleTimeout": "5400s",
        "httpStreamIdleTimeout": "120s",
        "httpRequestHeadersTimeout": "0.25s",
        "httpMaxConcurrentStreams": 100,
        "http2InitialStreamWindowSize": 65_536,
        "http2InitialConnectionWindowSize": 1_048_576,
        "httpHeadersWithUnderscoresAction": "HEADERS_WITH_UNDERSCORES_REJECT_REQUEST",
    }
    assert config["gatewayTopology"] == {"numTrustedProxies": 2}
    assert config["proxyHeaders"] == {"server": {"disabled": True}}


# Envoy's own judgement


@pytest.mark.parametrize("stack", STACKS)
def test_envoy_accepts_the_patched_gateway(stack: str, tmp_path: Path) -> None:
    bootstrap = tmp_path / "envoy.json"
    bootstrap.write_text(json.dumps(_bootstrap(patched(stack))), encoding="utf-8")
    envoy = Path(sys.executable).parent / "envoy"
    run = subprocess.run(
        [envoy, "--mode", "validate", "--log-level", "error", "-c", bootstrap],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-2000:]


def _bootstrap(result: Gateway) -> dict[str, Any]:
    routes = [{"match": {"path": f"/{name}"}, **route} for name, route in result.routes.items()]
    listeners = []
    for port, manager in result.managers.items():
        virtual_host = {"name": "all", "domains": ["*"], "routes": routes}
        config = {**manager, "route_config": {"name": "all", "virtual_hosts": [virtual_host]}}
        listeners.append(
            {
                "name": str(port),
                "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
                "filter_chains": [
                    {
                        "filters": [
                            {
                                "name": "envoy.filters.network.http_connection_manager",
                                "typed_config": config,
                            }
                        ]
                    }
                ],
            }
        )
    clusters = [{"name": "service"}, {"name": _rate_limit_cluster(result)}]
    return {"static_resources": {"listeners": listeners, "clusters": clusters}}


def _rate_limit_cluster(result: Gateway) -> str:
    config = result.http_filter(HTTPS, rate_limits.OPEN)["typed_config"]
    return str(config["rate_limit_service"]["grpc_service"]["envoy_grpc"]["cluster_name"])


def test_answers_on_streaming_routes_begin_in_time() -> None:
    """Where nobody asked for an event stream, and no limit for each try comes from retries."""
    declared = catalogue()
    found = {route.prefix: route for route in gateway_routes(declared, {})}
    assert found["/api/v1/agent"].begun == ("agent-engine.api.v1.agent.write",)
    assert found["/api/v1/agent"].begun_within == "120s"
    assert found["/api/v1/rag"].begun == found["/ws/voice"].begun == ()
    once = tuple(Service.model_validate({**dict(one), "retries": 0}) for one in declared.services)
    (agent,) = (
        route
        for route in gateway_routes(Catalogue(services=once), {})
        if route.prefix == "/api/v1/agent"
    )
    assert agent.begun == ("agent-engine.api.v1.agent.read", "agent-engine.api.v1.agent.write")
