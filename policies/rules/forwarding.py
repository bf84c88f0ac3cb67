"""Where routes forward to: ports on which HTTP is read, copies that stay in the mesh."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from policies.policy import Config, Finding, Setting, Severity, namespace_of, spec_of, stack_policy
from policies.routing import every_route, protocol_of
from policies.stack import Stack

_PROTOCOLS = "https://istio.io/latest/docs/ops/configuration/traffic-management/protocol-selection/"
_MIRRORING = "https://istio.io/latest/docs/tasks/traffic-management/mirroring/"
_OPAQUE = frozenset({"tcp", "tls", "https", "udp", "mongo", "mysql", "redis"})
"""Protocols in which a sidecar reads no HTTP."""


@stack_policy(
    "route-port-speaks-http",
    title="HTTP is routed to ports on which it is read",
    severity=Severity.HIGH,
    text="A destination of an HTTP route is a Service's port that is declared to speak HTTP. On a "
    "port of another protocol the service's own proxy reads no requests: tokens are not looked "
    "at, rules about paths and methods are void, limits, logs and traces do not see them.",
    remedy="Name the port http, http2 or grpc, or set its appProtocol.",
    url=_PROTOCOLS,
)
def route_port_speaks_http(stack: Stack, _: Config) -> Iterator[Finding]:
    """Compares with the Service."""
    for route in every_route(stack):
        for path, destination in route.destinations():
            host = str(destination.get("host", ""))
            place = stack.service_of(host, namespace_of(route.virtual_service))
            port = _port(stack, place, (destination.get("port") or {}).get("number"))
            protocol = protocol_of(port)
            if str(port.get("protocol") or "TCP") != "TCP":
                protocol = str(port["protocol"]).lower()
            if protocol in _OPAQUE:
                message = f"port {port.get('port')} of {host} speaks {protocol}"
                yield Finding(route.virtual_service, f"{path}.port", message)


def _port(stack: Stack, place: tuple[str, str] | None, number: Any) -> Mapping[str, Any]:
    """A Service's port, its only one where none is named; empty where there is none such."""
    ports = spec_of(stack.services.get(place or ("", ""), {})).get("ports") or ()
    named = [port for port in ports if number in (None, port.get("port"))]
    return named[0] if len(named) == 1 else {}


@stack_policy(
    "mirror-inside",
    title="Copies of requests stay in the mesh",
    severity=Severity.HIGH,
    text="A route mirrors requests to Services only. A copy carries the tokens and the data of "
    "those who sent the request, and nobody sees the answer: to a host outside the mesh it is a "
    "leak that looks like a test.",
    remedy="Mirror to a Service of the mesh, or list the host if it is meant to have the data.",
    url=_MIRRORING,
    settings={"hosts": Setting("array", [], "Hosts outside the mesh that may get copies.")},
)
def mirror_inside(stack: Stack, config: Config) -> Iterator[Finding]:
    """Looks at each mirror's host."""
    for route in every_route(stack):
        for path, destination in route.mirrors():
            host = str(destination.get("host", ""))
            place = stack.service_of(host, namespace_of(route.virtual_service))
            service = stack.services.get(place or ("", ""))
            outside = service is None and (place is None or host in stack.external_hosts)
            if service is not None:
                outside = spec_of(service).get("type") == "ExternalName"
            if outside and host not in config["hosts"]:
                yield Finding(route.virtual_service, path, f"requests are copied to {host}")
