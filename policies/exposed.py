"""What is at the edge: gateways' pods, the services they route to, and by which paths."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from policies.access_rules import allows, clauses, declared_public
from policies.policy import namespace_of, spec_of
from policies.routing import HttpRoute, public_routes, uri_of
from policies.stack import Stack
from policies.workloads import Workload

HTTP = {"HTTP", "HTTP2", "GRPC", "GRPC-WEB"}
"""Protocols of Gateway servers that are HTTP in plain text."""


def gateway_workloads(stack: Stack) -> list[Workload]:
    """The pods that Gateway objects select."""
    found = {
        id(workload): workload
        for gateway in stack.of("Gateway")
        for workload in stack.selected(spec_of(gateway).get("selector") or {}, None)
    }
    return list(found.values())


def gateway_ports(stack: Stack, workload: Workload) -> list[str]:
    """Ports on which a gateway's pods forward requests: all but those that only redirect."""
    return sorted(
        {
            str((server.get("port") or {}).get("number"))
            for gateway in stack.of("Gateway")
            if workload.matched_by(spec_of(gateway).get("selector") or {})
            for server in spec_of(gateway).get("servers") or ()
            if not redirects(server)
        }
    )


def redirects(server: Mapping[str, Any]) -> bool:
    """Whether a Gateway server speaks plain HTTP and does nothing but redirect to HTTPS."""
    protocol = str((server.get("port") or {}).get("protocol", "")).upper()
    return protocol in HTTP and bool((server.get("tls") or {}).get("httpsRedirect"))


def declared_open_paths(stack: Stack, workload: Workload) -> list[str]:
    """Paths that a policy of a gateway opens to clients without a token, and says so.

    Preflights are open on every path, and say nothing of other methods.
    """
    return [
        path
        for policy in stack.applying("AuthorizationPolicy", workload)
        if allows(policy) and declared_public(policy)
        for clause in clauses(policy)
        if not clause.token() and clause.fields.get("methods") != ("OPTIONS",)
        for path in clause.fields.get("paths", ())
    ]


@dataclass(frozen=True)
class Exposure:
    """One way from a gateway to a service: a match of a public route."""

    how: str
    """`exact`, `prefix` or `regex`."""
    uri: str
    hosts: tuple[str, ...]
    ports: tuple[int, ...]
    """Ports of the service's pods that the route leads to; empty where nobody knows."""
    rewritten: bool
    """The service sees another path."""

    def takes(self, path: str) -> bool:
        """Whether the route takes a path."""
        if self.how == "exact":
            return path == self.uri
        if self.how == "regex":
            return re.fullmatch(self.uri, path) is not None
        return path.startswith(self.uri)


Ways = Mapping[tuple[str, str], Sequence[Exposure]]
"""All ways from gateways to each service, by (namespace, name)."""


def exposures(stack: Stack) -> Ways:
    """All ways from gateways to each service, by (namespace, name)."""
    found: dict[tuple[str, str], list[Exposure]] = {}
    for route in public_routes(stack):
        for service, destination in _services(stack, route):
            ports = _target_ports(stack, service, destination)
            hosts = tuple(map(str, spec_of(route.virtual_service).get("hosts") or ()))
            for match in route.matches:
                how, uri = uri_of(match)
                each = Exposure(how, uri, hosts, ports, bool(route.route.get("rewrite")))
                found.setdefault(service, []).append(each)
    return found


def exposed_paths(stack: Stack) -> dict[tuple[str, str], set[str]]:
    """Paths by service, without trailing slash: those that some gateway's route matches."""
    found: dict[tuple[str, str], set[str]] = {}
    for route in public_routes(stack):
        paths = {uri_of(match)[1].rstrip("/") for match in route.matches}
        for service, _ in _services(stack, route):
            found.setdefault(service, set()).update(paths)
    return found


def _services(
    stack: Stack, route: HttpRoute
) -> Iterator[tuple[tuple[str, str], Mapping[str, Any]]]:
    for _, destination in route.destinations():
        host = str(destination.get("host", ""))
        service = stack.service_of(host, namespace_of(route.virtual_service))
        if service is not None:
            yield service, destination


def _target_ports(
    stack: Stack, service: tuple[str, str], destination: Mapping[str, Any]
) -> tuple[int, ...]:
    """What a destination's port is at the pods; all ports of the Service where it names none."""
    number = (destination.get("port") or {}).get("number")
    ports = spec_of(stack.services.get(service, {})).get("ports") or ()
    targets = [p.get("targetPort", p.get("port")) for p in ports if number in (None, p.get("port"))]
    return tuple(dict.fromkeys(target for target in targets if isinstance(target, int)))
