"""What istiod makes of a gateway's EnvoyFilters, as far as the edge uses them.

Filter chains and routes start as istiod makes them without any EnvoyFilter; then the patches are
applied, in the order of their priorities and with the meaning that istiod gives each operation
(pilot/pkg/networking/core/envoyfilter).
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from components.objects import Manifest

CONNECTION_MANAGER = "envoy.filters.network.http_connection_manager"
_TYPES = "type.googleapis.com/envoy.extensions.filters"
ISTIO_FILTERS = ("jwt_authn", "rbac", "grpc_stats", "fault", "cors", "router")


@dataclass
class Gateway:
    """Connection manager by port, and route by name."""

    managers: dict[int, dict[str, Any]] = field(default_factory=dict)
    routes: dict[str, dict[str, Any]] = field(default_factory=dict)

    def chain(self, port: int) -> list[str]:
        """Names of the HTTP filters on a port, outermost first."""
        return [item["name"] for item in self.managers[port]["http_filters"]]

    def http_filter(self, port: int, name: str) -> dict[str, Any]:
        """One HTTP filter of a port."""
        (found,) = (f for f in self.managers[port]["http_filters"] if f["name"] == name)
        return dict(found)

    def on_route(self, route: str, filter_name: str) -> dict[str, Any] | None:
        """What a route says of a filter; None where it says nothing."""
        own: dict[str, Any] | None = self.routes[route]["typed_per_filter_config"].get(filter_name)
        return own


def gateway_route_names(virtual_services: Iterable[Manifest]) -> Iterator[str]:
    """Names of the HTTP routes that the gateway has, in order."""
    for item in virtual_services:
        if item["kind"] == "VirtualService" and "mesh" not in item["spec"]["gateways"]:
            yield from (route["name"] for route in item["spec"]["http"])


def gateway(
    envoy_filters: Iterable[Manifest], route_names: Iterable[str], ports: Iterable[int]
) -> Gateway:
    """The gateway with all the patches applied."""
    result = Gateway(
        managers={port: _manager(port) for port in ports},
        routes={
            name: {"name": name, "route": {"cluster": "service"}, "typed_per_filter_config": {}}
            for name in route_names
        },
    )
    ordered = sorted(envoy_filters, key=lambda item: int(item["spec"]["priority"]))
    patches = [patch for item in ordered for patch in item["spec"]["configPatches"]]
    # istiod merges network filters before it touches their HTTP filters.
    for applies_to in ("NETWORK_FILTER", "HTTP_FILTER", "HTTP_ROUTE"):
        for patch in patches:
            if patch["applyTo"] == applies_to:
                _apply(result, patch)
    return result


def _manager(port: int) -> dict[str, Any]:
    filters = [
        {"name": f"envoy.filters.http.{name}", "typed_config": {"@type": _type(name)}}
        for name in ISTIO_FILTERS
    ]
    return {
        "@type": f"{_TYPES}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": str(port),
        "http_filters": filters,
    }


def _type(name: str) -> str:
    messages = {
        "jwt_authn": "JwtAuthentication",
        "rbac": "RBAC",
        "grpc_stats": "FilterConfig",
        "fault": "HTTPFault",
        "cors": "Cors",
        "router": "Router",
    }
    return f"{_TYPES}.http.{name}.v3.{messages[name]}"


def _apply(result: Gateway, entry: dict[str, Any]) -> None:
    match, patch = entry["match"], copy.deepcopy(entry["patch"])
    assert match["context"] == "GATEWAY"
    if entry["applyTo"] == "HTTP_ROUTE":
        name = match["routeConfiguration"]["vhost"]["route"]["name"]
        assert patch["operation"] == "MERGE"
        # A name that no route has changes nothing, as in istiod.
        if name in result.routes:
            _merge(result.routes[name], patch["value"])
        return
    anchor = match["listener"]["filterChain"]["filter"]
    assert anchor["name"] == CONNECTION_MANAGER
    for port, manager in result.managers.items():
        if match["listener"].get("portNumber", port) != port:
            continue
        filters, names = manager["http_filters"], result.chain(port)
        match patch["operation"]:
            case "MERGE":
                _merge(manager, patch["value"]["typed_config"])
            case "INSERT_FIRST":
                filters.insert(0, patch["value"])
            case "INSERT_BEFORE":
                filters.insert(names.index(anchor["subFilter"]["name"]), patch["value"])
            case other:
                raise AssertionError(other)


def _merge(into: dict[str, Any], value: dict[str, Any]) -> None:
    """protobuf's merge: messages and maps by key, lists one after the other, the rest replaced."""
    for key, item in value.items():
        if isinstance(item, dict) and isinstance(into.get(key), dict):
            _merge(into[key], item)
        elif isinstance(item, list) and key in into:
            into[key] = [*into[key], *item]
        else:
            into[key] = item
