"""Which VirtualService route takes a request that comes in at a gateway, and where it goes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from semantics.objects import MeshObjects, Workload, name_of, namespace_of

MESH = "mesh"


@dataclass(frozen=True)
class Server:
    """One server of a Gateway object, at the pods that serve it."""

    gateway: str
    """`namespace/name` of the Gateway object."""
    workload: Workload
    port: int
    """The pod's port."""
    hosts: tuple[str, ...]
    plaintext: bool
    mutual: bool
    """Whether clients must show a certificate of the mesh."""


@dataclass(frozen=True)
class HttpRoute:
    """One `http` route of a VirtualService on one of its hosts."""

    virtual_service: str
    """`namespace/name` of the VirtualService."""
    namespace: str
    host: str
    gateways: tuple[str, ...]
    index: int
    route: Mapping[str, Any]

    @property
    def matches(self) -> tuple[Mapping[str, Any], ...]:
        """The alternatives; one empty one where the route takes everything."""
        return tuple(self.route.get("match") or ({},))

    def takes(self, gateway: str, path: str, method: str, headers: Mapping[str, str]) -> bool:
        """Whether the route takes the request."""
        return any(_matches(m, gateway, path, method, headers) for m in self.matches)

    def destinations(self) -> Iterator[tuple[str, str, int | None, int]]:
        """(namespace, service, port, weight) of each destination."""
        for entry in self.route.get("route") or ():
            destination = entry.get("destination") or {}
            service, namespace = service_of(str(destination.get("host", "")), self.namespace)
            port = (destination.get("port") or {}).get("number")
            yield namespace, service, port, int(entry.get("weight", 100))

    def rewritten(self, path: str) -> str:
        """The path that the destination sees."""
        rewrite = self.route.get("rewrite") or {}
        if "uri" not in rewrite:
            return path
        for match in self.matches:
            prefix = (match.get("uri") or {}).get("prefix")
            if prefix is not None and path.startswith(prefix):
                return str(rewrite["uri"]) + path[len(prefix) :]
        return str(rewrite["uri"])


def servers(objects: MeshObjects) -> list[Server]:
    """All servers of all gateways that answer clients; redirects to HTTPS are left out."""
    found = []
    for gateway in objects.of("Gateway"):
        spec = gateway.get("spec") or {}
        selector = spec.get("selector") or {}
        pods = [w for w in objects.workloads if selector.items() <= dict(w.labels).items()]
        for server in spec.get("servers") or ():
            tls = server.get("tls") or {}
            if tls.get("httpsRedirect"):
                continue
            number = int((server.get("port") or {}).get("number", 0))
            for pod in pods:
                found.append(
                    Server(
                        gateway=f"{namespace_of(gateway)}/{name_of(gateway)}",
                        workload=pod,
                        port=_pod_port(objects, pod, number),
                        hosts=tuple(str(h).split("/")[-1] for h in server.get("hosts") or ()),
                        plaintext=not tls,
                        mutual=tls.get("mode") in ("ISTIO_MUTUAL", "AUTO_PASSTHROUGH"),
                    )
                )
    return found


def _pod_port(objects: MeshObjects, pod: Workload, number: int) -> int:
    for service in objects.of("Service"):
        spec = service.get("spec") or {}
        selector = spec.get("selector") or {}
        if namespace_of(service) != pod.namespace or not selector:
            continue
        if selector.items() <= dict(pod.labels).items():
            for port in spec.get("ports") or ():
                if port.get("port") == number and isinstance(port.get("targetPort"), int):
                    return int(port["targetPort"])
    return number


def http_routes(objects: MeshObjects) -> list[HttpRoute]:
    """All HTTP routes that a gateway serves, in the order in which they are tried per host."""
    found = []
    for virtual_service in objects.of("VirtualService"):
        spec = virtual_service.get("spec") or {}
        namespace = namespace_of(virtual_service)
        gateways = tuple(
            g if "/" in g or g == MESH else f"{namespace}/{g}"
            for g in spec.get("gateways") or (MESH,)
        )
        if set(gateways) == {MESH}:
            continue
        for host in spec.get("hosts") or ():
            for index, route in enumerate(spec.get("http") or ()):
                found.append(
                    HttpRoute(
                        virtual_service=f"{namespace}/{name_of(virtual_service)}",
                        namespace=namespace,
                        host=str(host),
                        gateways=gateways,
                        index=index,
                        route=route,
                    )
                )
    return found


class Router:
    """The routes of one host, to be asked which one takes a request at a gateway."""

    def __init__(self, routes: Sequence[HttpRoute]) -> None:
        self._literal: dict[str, list[int]] = {}
        self._anywhere: list[int] = []
        self._routes = routes
        for place, route in enumerate(routes):
            for match in route.matches:
                uri = match.get("uri") or {}
                literal = uri.get("exact") or uri.get("prefix")
                if literal is None or match.get("ignoreUriCase"):
                    self._anywhere.append(place)
                else:
                    self._literal.setdefault(str(literal), []).append(place)

    def route(self, gateway: str, path: str, method: str) -> HttpRoute | None:
        """The first route that takes a request without further headers; None: not found."""
        places = set(self._anywhere)
        for end in range(len(path) + 1):
            places.update(self._literal.get(path[:end], ()))
        for place in sorted(places):
            route = self._routes[place]
            if gateway in route.gateways and route.takes(gateway, path, method, {}):
                return route
        return None


def host_within(host: str, patterns: tuple[str, ...]) -> bool:
    """Whether a server with these host patterns serves the host."""
    return any(p in ("*", host) or (p.startswith("*.") and host.endswith(p[1:])) for p in patterns)


def service_of(host: str, namespace: str) -> tuple[str, str]:
    """(service, namespace) of a destination host, short or full."""
    name, *rest = host.split(".")
    return name, rest[0] if rest else namespace


def example_paths(route: HttpRoute) -> Iterator[str]:
    """Paths that the route's matches name: each one itself, and one below a prefix."""
    for match in route.matches:
        uri = match.get("uri") or {}
        if "exact" in uri:
            yield str(uri["exact"])
        elif "prefix" in uri:
            prefix = str(uri["prefix"])
            yield prefix
            yield prefix + ("some" if prefix.endswith("/") else "/some")
        elif "regex" in uri:
            yield re.sub(r"\[[^\]]*\][+*]?|\(\?[^)]*\)|\.[*+]|[\\^$?()]", "", str(uri["regex"]))
        else:
            yield "/"


def _matches(
    match: Mapping[str, Any], gateway: str, path: str, method: str, headers: Mapping[str, str]
) -> bool:
    named = match.get("gateways")
    if named and not any(gateway == g or gateway.endswith(f"/{g}") for g in named):
        return False
    ignore_case = bool(match.get("ignoreUriCase"))
    if "uri" in match and not _string_match(match["uri"], path, ignore_case=ignore_case):
        return False
    if "method" in match and not _string_match(match["method"], method):
        return False
    for name, wanted in (match.get("headers") or {}).items():
        if not _string_match(wanted or {}, headers.get(name.lower())):
            return False
    return all(
        not _string_match(wanted or {}, headers.get(name.lower()))
        for name, wanted in (match.get("withoutHeaders") or {}).items()
    )


def _string_match(
    wanted: Mapping[str, Any], text: str | None, *, ignore_case: bool = False
) -> bool:
    """Istio's StringMatch; an empty one asks for presence only."""
    if text is None:
        return False
    fold = str.lower if ignore_case else str
    if "exact" in wanted:
        return fold(text) == fold(wanted["exact"])
    if "prefix" in wanted:
        return fold(text).startswith(fold(wanted["prefix"]))
    if "regex" in wanted:
        return re.fullmatch(str(wanted["regex"]), text) is not None
    return True
