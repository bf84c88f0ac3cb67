"""istiod does with the edge's EnvoyFilters what the unit tests say it does.

The dev stack's routes, policies and filters go to a real API server, through istiod's webhook.
Then istiod is asked, as the gateway's proxy would ask, for listeners and routes, and what it
answers is compared with what `tests/unit/components/gateway_config.py` makes of the same filters.
"""

from __future__ import annotations

import itertools
import json
import queue
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import betterproto2
import grpc
import pytest
from envoy_data_plane.envoy.config.core.v3 import Node
from envoy_data_plane.envoy.config.listener.v3 import Listener
from envoy_data_plane.envoy.config.route.v3 import (
    RetryPolicy,
    Route,
    RouteAction,
    RouteConfiguration,
)
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    HttpConnectionManager,
)
from envoy_data_plane.envoy.service.discovery.v3 import DiscoveryRequest, DiscoveryResponse
from envoy_data_plane.google.protobuf import Struct
from joserfc.jwk import RSAKey

import mesh
from components.gateway_proxy import gateway_proxy_config
from components.mesh_config import gateway_topology
from components.objects import Manifest
from lab.control_plane.istio import PLAIN_XDS_PORT
from lab.lab import Lab
from lab.stack import istiod_values
from lab.waiting import NotYet, until
from model import stack_file
from model.catalogue import catalogue
from tests.lab.conftest import throw_away_lab
from tests.unit.components.gateway_config import Gateway, gateway, gateway_route_names

pytestmark = [
    pytest.mark.lab,
    # istiod still sends a field that Envoy has renamed.
    pytest.mark.filterwarnings("ignore:RouteAction.max_grpc_timeout:DeprecationWarning"),
]

STACK = "dev"
PORTS = (80, 443, 15443)
OURS = "voicemesh."
_API = "type.googleapis.com/envoy.config"
_LISTENER, _ROUTES = f"{_API}.listener.v3.Listener", f"{_API}.route.v3.RouteConfiguration"
_KINDS = {
    "Namespace",
    "Service",
    "Gateway",
    "VirtualService",
    "DestinationRule",
    "RequestAuthentication",
    "AuthorizationPolicy",
    "EnvoyFilter",
}


@dataclass(frozen=True)
class Pushed:
    """What istiod sends the gateway."""

    managers: dict[str, tuple[int, HttpConnectionManager]]
    """Port and connection manager by the name of its route configuration."""
    buffers: dict[int, int | None]
    """Size of a connection's buffer, by port."""
    routes: list[RouteConfiguration]


def _objects() -> list[Manifest]:
    found = catalogue()
    parts = mesh.parts(STACK, stack_file.load(STACK, found), found)
    return [
        _with_keys(item)
        for part in parts
        for item in part.objects()
        if isinstance(item, dict) and item["kind"] in _KINDS
    ]


def _with_keys(item: Manifest) -> Manifest:
    """Keys inline, for there is no issuer here that istiod could fetch them from."""
    if item["kind"] != "RequestAuthentication":
        return item
    key = RSAKey.generate_key(2048, {"kid": "test"}).as_dict(private=False)
    rules = [
        {**{k: v for k, v in rule.items() if k != "jwksUri"}, "jwks": json.dumps({"keys": [key]})}
        for rule in item["spec"]["jwtRules"]
    ]
    return {**item, "spec": {**item["spec"], "jwtRules": rules}}


def _ask(xds: str) -> Pushed:
    settings = stack_file.load(STACK, catalogue())
    metadata = {
        "LABELS": {"istio": "ingressgateway", "app": "istio-ingressgateway"},
        "NAMESPACE": "istio-system",
        "ISTIO_VERSION": "1.31.1",
        "CLUSTER_ID": "Kubernetes",
        "PROXY_CONFIG": gateway_proxy_config(settings.edge, gateway_topology(settings)),
    }
    node = Node(
        id="router~10.9.0.1~gateway.istio-system~istio-system.svc.cluster.local",
        cluster="gateway",
        metadata=Struct.from_dict(metadata),
    )
    requests: queue.Queue[DiscoveryRequest | None] = queue.Queue()
    options = [("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(xds, options=options) as channel:
        stream = channel.stream_stream(
            "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources",
            request_serializer=bytes,
            response_deserializer=DiscoveryResponse.parse,
        )
        answers = stream(iter(requests.get, None), timeout=60)
        requests.put(DiscoveryRequest(node=node, type_url=_LISTENER))
        listeners = [Listener.parse(value) for value in _pushed(answers, _LISTENER)]
        managers = {}
        buffers = {}
        for listener in listeners:
            port = _port(listener)
            buffers[port] = listener.per_connection_buffer_limit_bytes
            for manager in _managers(listener):
                assert manager.rds is not None
                managers[manager.rds.route_config_name] = (port, manager)
        requests.put(DiscoveryRequest(node=node, type_url=_ROUTES, resource_names=sorted(managers)))
        routes = [RouteConfiguration.parse(value) for value in _pushed(answers, _ROUTES)]
        requests.put(None)
        answers.cancel()
    return Pushed(managers, buffers, routes)


def _pushed(answers: Iterator[DiscoveryResponse], type_url: str) -> list[bytes]:
    """The resources of the next answer of one type: istiod pushes other types unasked, between."""
    answer = next(each for each in answers if each.type_url == type_url)
    return [each.value for each in answer.resources]


def _port(listener: Listener) -> int:
    assert listener.address is not None
    assert listener.address.socket_address is not None
    return int(listener.address.socket_address.port_value or 0)


def _managers(listener: Listener) -> Iterator[HttpConnectionManager]:
    for chain in listener.filter_chains:
        for item in chain.filters:
            assert item.typed_config is not None
            yield HttpConnectionManager.parse(item.typed_config.value)


def _plain(message: betterproto2.Message) -> dict[str, Any]:
    plain: dict[str, Any] = message.to_dict(casing=betterproto2.Casing.SNAKE)
    return plain


@pytest.fixture(scope="module")
def expected() -> Gateway:
    objects = _objects()
    filters = [item for item in objects if item["metadata"]["name"].startswith("edge-")]
    return gateway(filters, gateway_route_names(objects), PORTS)


@pytest.fixture(scope="module")
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    with throw_away_lab("edge", request.config.getoption("--keep-lab")) as lab:
        lab.start(istiod_values(STACK)["meshConfig"])
        objects = _objects()
        lab.kubectl.apply([item for item in objects if item["kind"] == "Namespace"])
        lab.kubectl.apply([item for item in objects if item["kind"] != "Namespace"])
        yield lab


@pytest.fixture(scope="module")
def pushed(lab: Lab, expected: Gateway) -> Pushed:
    """What istiod sends once it has seen every route and every filter."""
    xds = f"127.0.0.1:{lab.exposure.expose('edge', {'xds': f'127.0.0.1:{PLAIN_XDS_PORT}'})['xds']}"

    def complete() -> Pushed:
        found = _ask(xds)
        missing = set(expected.routes) - {route.name for route in _routes(found)}
        filters = {f.name for _, m in found.managers.values() for f in m.http_filters}
        absent = set(expected.chain(443)) - filters
        if missing or absent or {port for port, _ in found.managers.values()} != set(PORTS):
            raise NotYet(f"without routes {sorted(missing)[:3]}, filters {sorted(absent)}")
        return found

    return until("istiod knows routes and filters", complete, within=60, every=1)


def _routes(found: Pushed) -> list[Route]:
    return [
        route
        for configuration in found.routes
        for host in configuration.virtual_hosts
        for route in host.routes
    ]


def test_every_host_has_a_chain_of_its_own(pushed: Pushed) -> None:
    assert sorted(pushed.managers) == [
        "http.80",
        "https.15443.https-east-west.east-west.istio-system",
        "https.443.https-api.public.istio-system",
        "https.443.https-grpc.public.istio-system",
        "https.443.https-ws.public.istio-system",
    ]


def test_filters_stand_where_they_should(pushed: Pushed, expected: Gateway) -> None:
    for name, (port, manager) in pushed.managers.items():
        # Istio's build alone has istio.*; DENY and ALLOW are two filters of one name.
        names = [item.name for item in manager.http_filters if not item.name.startswith("istio.")]
        assert [key for key, _ in itertools.groupby(names)] == expected.chain(port), name


def test_filters_arrive_word_for_word(pushed: Pushed, expected: Gateway) -> None:
    for name, (port, manager) in pushed.managers.items():
        for item in manager.http_filters:
            if item.name.startswith(OURS):
                assert _plain(item) == expected.http_filter(port, item.name), (name, item.name)


def _own_fields(manager: HttpConnectionManager) -> HttpConnectionManager:
    """The manager without Istio's filters, logs and extensions, whose types need not be known."""
    return replace(manager, http_filters=[], access_log=[], tracing=None, request_id_extension=None)


def test_connection_managers_have_istios_settings_and_ours(
    pushed: Pushed, expected: Gateway
) -> None:
    edge = stack_file.load(STACK, catalogue()).edge
    for name, (port, manager) in pushed.managers.items():
        found = _plain(_own_fields(manager))
        for key in ("always_set_request_id_in_response", "local_reply_config"):
            assert found[key] == expected.managers[port][key], (name, key)
        settings = {
            "stream_idle_timeout": edge.stream_idle,
            "request_headers_timeout": edge.request_headers,
            "common_http_protocol_options": {
                "idle_timeout": edge.connection_idle,
                "headers_with_underscores_action": "REJECT_REQUEST",
            },
            "http2_protocol_options": {
                "max_concurrent_streams": 100,
                "initial_stream_window_size": 65_536,
                "initial_connection_window_size": 1_048_576,
            },
            "server_header_transformation": "PASS_THROUGH",
            # Left to meshConfig and the gateway's topology.
            "path_with_escaped_slashes_action": "UNESCAPE_AND_FORWARD",
            "merge_slashes": True,
            "xff_num_trusted_hops": 1,
        }
        assert {key: found.get(key) for key in settings} == settings, name
    assert set(pushed.buffers.values()) == {32_768}


def test_every_route_has_its_own_limits(pushed: Pushed, expected: Gateway) -> None:
    seen = set()
    for route in _routes(pushed):
        if route.name not in expected.routes:
            continue
        seen.add(route.name)
        wanted = expected.routes[route.name]
        ours = {
            key: _plain(value)
            for key, value in route.typed_per_filter_config.items()
            if key.startswith(OURS)
        }
        assert ours == wanted["typed_per_filter_config"], route.name
        assert route.route is not None
        lasting = RouteAction(
            idle_timeout=route.route.idle_timeout,
            max_stream_duration=route.route.max_stream_duration,
        )
        action = {key: value for key, value in wanted["route"].items() if key != "cluster"}
        if "retry_policy" in action:
            tries = route.route.retry_policy
            assert tries is not None
            lasting.retry_policy = RetryPolicy(per_try_timeout=tries.per_try_timeout)
        assert _plain(lasting) == action, route.name
    assert seen == set(expected.routes)
