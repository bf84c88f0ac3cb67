"""Reading VirtualServices and DestinationRules: their parts with the paths they stand at.

Source: https://istio.io/latest/docs/reference/config/networking/virtual-service/
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from policies.policy import Object, name_of, namespace_of, spec_of
from policies.stack import Stack
from semantics.delegates import merged

MESH = "mesh"
_UNITS = {
    "h": Decimal(3600),
    "m": Decimal(60),
    "s": Decimal(1),
    "ms": Decimal("0.001"),
    "us": Decimal("0.000001"),
}
_DURATION = re.compile(r"([0-9]*\.?[0-9]+)(ms|us|h|m|s)")


@dataclass(frozen=True)
class HttpRoute:
    """One entry of `spec.http`."""

    virtual_service: Object
    """Where the route is written; short names of hosts mean its namespace."""
    index: int
    route: Mapping[str, Any]
    """The route; a delegate's with what it takes over from the root."""
    root: Object | None = None
    """The VirtualService whose hosts and gateways a delegate's route is served at."""

    @property
    def served_by(self) -> Object:
        """The VirtualService whose hosts and gateways the route is served at."""
        return self.virtual_service if self.root is None else self.root

    @property
    def path(self) -> str:
        """Where the route stands in its VirtualService."""
        return f"spec.http[{self.index}]"

    @property
    def matches(self) -> tuple[Mapping[str, Any], ...]:
        """The alternatives; one empty one where the route takes everything."""
        return tuple(self.route.get("match") or ({},))

    @property
    def forwards(self) -> bool:
        """False for redirects, direct responses and delegation."""
        return bool(self.route.get("route"))

    @property
    def named(self) -> str:
        """How a message names the route."""
        return str(self.route.get("name") or f"number {self.index}")

    @property
    def methods(self) -> frozenset[str] | None:
        """The methods that the route takes; None for any."""
        found: set[str] = set()
        for match in self.matches:
            method = match.get("method") or {}
            if "exact" in method:
                found.add(str(method["exact"]))
            elif re.fullmatch(r"[A-Z|]+", str(method.get("regex", ""))):
                found.update(str(method["regex"]).split("|"))
            else:
                return None
        return frozenset(found)

    def destinations(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """(path, destination) of each destination and mirror."""
        for index, entry in enumerate(self.route.get("route") or ()):
            yield f"{self.path}.route[{index}].destination", entry.get("destination") or {}
        yield from self.mirrors()

    def mirrors(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """(path, destination) of each mirror."""
        if mirror := self.route.get("mirror"):
            yield f"{self.path}.mirror", mirror
        for index, entry in enumerate(self.route.get("mirrors") or ()):
            yield f"{self.path}.mirrors[{index}].destination", entry.get("destination") or {}


def http_routes(virtual_service: Object) -> Iterator[HttpRoute]:
    """The HTTP routes in their order."""
    for index, route in enumerate(spec_of(virtual_service).get("http") or ()):
        yield HttpRoute(virtual_service, index, route)


def destinations(virtual_service: Object) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(path, destination) of everything that a VirtualService sends to, HTTP, TLS and TCP."""
    for route in http_routes(virtual_service):
        yield from route.destinations()
    for protocol in ("tls", "tcp"):
        for index, route in enumerate(spec_of(virtual_service).get(protocol) or ()):
            for number, entry in enumerate(route.get("route") or ()):
                path = f"spec.{protocol}[{index}].route[{number}].destination"
                yield path, entry.get("destination") or {}


def gateways_of(virtual_service: Object) -> list[str]:
    """`namespace/name` of the gateways that serve it, or `mesh`."""
    namespace = namespace_of(virtual_service)
    named = spec_of(virtual_service).get("gateways") or [MESH]
    return [g if g == MESH or "/" in g else f"{namespace}/{g}" for g in map(str, named)]


def delegate_of(route: HttpRoute) -> tuple[str, str] | None:
    """(namespace, name) of the VirtualService that a route hands over to."""
    delegate = route.route.get("delegate")
    if not delegate:
        return None
    namespace = delegate.get("namespace") or namespace_of(route.virtual_service)
    return str(namespace), str(delegate.get("name", ""))


def served_routes(stack: Stack, virtual_service: Object) -> Iterator[HttpRoute]:
    """The HTTP routes in their order, each delegate's in the place of the route that names it.

    A delegate's delegates are left out, as Istio does not follow them.
    """
    for route in http_routes(virtual_service):
        delegate = stack.delegates.get(delegate_of(route) or ("", ""))
        if delegate is None:
            yield route
            continue
        for own in http_routes(delegate):
            if (both := merged(route.route, own.route)) is not None and "delegate" not in own.route:
                yield HttpRoute(delegate, own.index, both, root=virtual_service)


def every_route(stack: Stack) -> Iterator[HttpRoute]:
    """Every HTTP route as it is served; a delegate that nobody names stands for itself."""
    named: set[tuple[str, str]] = set()
    for item in stack.of("VirtualService"):
        for route in http_routes(item):
            if (delegate := delegate_of(route)) is not None:
                named.add(delegate)
    for item in stack.of("VirtualService"):
        key = (namespace_of(item), name_of(item))
        if key not in named or key not in stack.delegates:
            yield from served_routes(stack, item)


def public_routes(stack: Stack) -> Iterator[HttpRoute]:
    """Every HTTP route that some gateway serves."""
    for item in stack.of("VirtualService"):
        if set(gateways_of(item)) != {MESH}:
            yield from served_routes(stack, item)


def uri_of(match: Mapping[str, Any]) -> tuple[str, str]:
    """(`exact` | `prefix` | `regex`, value) of a match; the empty prefix where it takes any."""
    for how, value in (match.get("uri") or {}).items():
        return str(how), str(value)
    return "prefix", ""


def rewritten(route: Mapping[str, Any], how: str, value: str) -> tuple[str, str]:
    """What the service sees of a match of the URI: `regex` where an expression decides."""
    rewrite = route.get("rewrite") or {}
    if rewrite.get("uriRegexRewrite"):
        return "regex", value
    if rewrite.get("uri") is None or how == "regex":
        return how, value
    return how, str(rewrite["uri"])


def traffic_policies(rule: Object) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(path, policy) at every level of a DestinationRule: top, port, subset, port of a subset."""
    spec = spec_of(rule)
    yield from _levels("spec", spec)
    for index, subset in enumerate(spec.get("subsets") or ()):
        yield from _levels(f"spec.subsets[{index}]", subset)


def _levels(path: str, holder: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    policy = holder.get("trafficPolicy") or {}
    if policy:
        yield f"{path}.trafficPolicy", policy
    for index, port in enumerate(policy.get("portLevelSettings") or ()):
        yield f"{path}.trafficPolicy.portLevelSettings[{index}]", port


def protocol_of(port: Mapping[str, Any]) -> str:
    """What a Service port says it speaks, in Istio's words; empty where it does not say."""
    declared = str(port.get("appProtocol") or "").lower().removeprefix("kubernetes.io/")
    return declared or str(port.get("name") or "").split("-")[0].lower()


def seconds(duration: Any) -> Decimal | None:
    """A duration such as `1h30m` or `250ms` in seconds; None for what is none."""
    text = str(duration or "")
    parts = _DURATION.findall(text)
    if not parts or "".join(n + u for n, u in parts) != text:
        return None
    return sum((Decimal(number) * _UNITS[unit] for number, unit in parts), Decimal(0))
