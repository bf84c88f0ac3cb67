"""The gateway's routes as the edge sees them: what kind of traffic, which names in Envoy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple

from components.route_names import (
    api_route_name,
    api_route_names,
    entries,
    grpc_route_name,
    split_names,
    websocket_route_name,
)
from model.access import Catalogue
from model.service import Route, Service
from model.settings import Split


class GatewayRoute(NamedTuple):
    """One route of the catalogue on one of the public hosts."""

    prefix: str
    """Its path, or for gRPC a slash and the service's name; no two routes have the same."""
    kind: Literal["unary", "stream", "websocket", "grpc"]
    """`unary`: one request with an end, one answer with an end."""
    names: tuple[str, ...]
    """Names of its HTTP routes in Envoy, one for each part and cohort."""
    token: bool
    """True where only a verified token gets in, so that the tenant is known."""
    upload: bool = False
    login: bool = False
    longest: str = ""
    """How long one exchange may last where it may be idle that long; empty for all others."""
    begun_within: str = ""
    """Where exchanges last long: how soon an answer that nobody asked to be streamed begins."""
    begun: tuple[str, ...] = ()
    """Names of the HTTP routes that `begun_within` holds for."""


def gateway_routes(catalogue: Catalogue, traffic: Mapping[str, Split]) -> tuple[GatewayRoute, ...]:
    """Every route that the gateway serves, in the catalogue's order."""
    return tuple(_gateway_routes(catalogue, traffic))


def _gateway_routes(catalogue: Catalogue, traffic: Mapping[str, Split]) -> Iterator[GatewayRoute]:
    for service in catalogue.services:
        split = traffic.get(service.name)
        for route in service.routes:
            yield GatewayRoute(
                prefix=route.path,
                kind=_kind(route),
                names=api_route_names(service, route, split),
                token=route.access == "token",
                upload=route.upload,
                login=route.login,
                longest=route.stream_timeout if route.streaming else "",
                begun_within=service.timeout if route.streaming else "",
                begun=_tried_once(service, route, split) if route.streaming else (),
            )
        for socket in service.websockets:
            yield GatewayRoute(
                prefix=socket.path,
                kind="websocket",
                names=split_names(websocket_route_name(service, socket), split),
                token=True,
                longest=socket.timeout,
            )
        for grpc in service.grpc:
            yield GatewayRoute(
                prefix=f"/{grpc.name}",
                kind="grpc",
                names=split_names(grpc_route_name(service, grpc), split),
                token=True,
            )


def _tried_once(service: Service, route: Route, split: Split | None) -> tuple[str, ...]:
    """Reads that are repeated have a limit for each try from their VirtualService."""
    return tuple(
        name
        for entry in entries(route)
        if entry.part == "write" or (entry.part == "read" and not service.retries)
        for name in split_names(api_route_name(service, route, entry.part), split)
    )


def _kind(route: Route) -> Literal["unary", "stream"]:
    return "stream" if route.streaming else "unary"
