"""Which VirtualService route takes a request that comes in at a gateway, and where it goes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from semantics.delegates import merged
from semantics.examples import ANYTHING, Unreadable, matches, taken
from semantics.identity import Object, name_of, namespace_of
from semantics.objects import MeshObjects
from semantics.servers import Server

MESH = "mesh"


@dataclass(frozen=True)
class Sample:
    """What routes tell requests apart by, the method left out."""

    path: str
    headers: tuple[tuple[str, str], ...] = ()
    """Names in small letters."""
    query: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        query = "&".join(f"{name}={value}" for name, value in self.query)
        headers = "".join(f" [{name}={value}]" for name, value in self.headers)
        return self.path + (f"?{query}" if query else "") + headers


@dataclass(frozen=True)
class Arrival:
    """A request as the routes of a server see it."""

    server: Server
    host: str
    method: str
    sample: Sample


@dataclass(frozen=True)
class Route:
    """One route of a VirtualService; a delegate's as Istio merges it with the one that names it."""

    virtual_service: str
    """`namespace/name` of the VirtualService whose hosts and gateways count."""
    namespace: str
    """Where short names of destinations are looked for."""
    hosts: tuple[str, ...]
    gateways: tuple[str, ...]
    exported: tuple[str, ...]
    """Namespaces whose proxies know of it, `*` for all."""
    protocol: str
    """`http`, `tls` or `tcp`: which list of the VirtualService it stands in."""
    route: Mapping[str, Any]

    @property
    def home(self) -> str:
        """Namespace of the VirtualService."""
        return self.virtual_service.partition("/")[0]

    @property
    def matches(self) -> tuple[Mapping[str, Any], ...]:
        """The alternatives; one empty one where the route takes everything."""
        return tuple(self.route.get("match") or ({},))

    def served_at(self, server: Server) -> bool:
        """Whether the server's pods know of the route and it names their Gateway."""
        seen = {"*", server.workload.namespace}.intersection(self.exported)
        return bool(seen) and server.gateway in self.gateways

    def takes(self, arrival: Arrival) -> bool:
        """Whether the route takes the request."""
        return any(_fits(match, arrival) for match in self.matches)

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
        if expression := rewrite.get("uriRegexRewrite"):
            try:
                pattern, becomes = str(expression.get("match")), str(expression.get("rewrite"))
                return re.sub(pattern, becomes, path)
            except (re.error, IndexError):  # told among what could not be judged
                return path
        if "uri" not in rewrite:
            return path
        for match in self.matches:
            prefix = (match.get("uri") or {}).get("prefix")
            if prefix is not None and path.startswith(prefix):
                return str(rewrite["uri"]) + path[len(prefix) :]
        return str(rewrite["uri"])

    def samples(self) -> Iterator[Sample]:
        """Requests that the matches take, of each kind that they name at least one."""
        for match in self.matches:
            paths = _taken(match.get("uri")) if match.get("uri") else ("/",)
            if prefix := (match.get("uri") or {}).get("prefix"):
                paths = (str(prefix), f"{str(prefix).rstrip('/')}/{ANYTHING}")
            for headers in _named(match.get("headers"), str.lower):
                for query in _named(match.get("queryParams"), str):
                    for path in paths:
                        yield Sample(path, headers, query)

    def methods(self) -> Iterator[str]:
        """Methods that the matches name."""
        for match in self.matches:
            yield from _taken(match["method"]) if match.get("method") else ()

    def unjudged(self) -> Iterator[str]:
        """What of the route no request could be made for, in words."""
        for match in self.matches:
            for where, wanted in _string_matches(match):
                try:
                    taken(wanted)
                except Unreadable as problem:
                    yield f"{where}: {problem}"
        expression = (self.route.get("rewrite") or {}).get("uriRegexRewrite") or {}
        try:
            re.sub(str(expression.get("match", "")), str(expression.get("rewrite", "")), "/")
        except (re.error, IndexError) as problem:
            yield f"uriRegexRewrite: {problem}"
        if self.route.get("delegate"):
            yield "its delegate is not among the objects"


def _named(matches: Any, spelled: Any) -> Iterator[tuple[tuple[str, str], ...]]:
    """For headers or parameters that a match names: all of them, with values that it takes."""
    wanted = {spelled(str(name)): _taken(match or {}) for name, match in (matches or {}).items()}
    for place in range(max((len(values) for values in wanted.values()), default=1)):
        if all(wanted.values()):
            yield tuple((n, values[min(place, len(values) - 1)]) for n, values in wanted.items())


def _taken(match: Any) -> tuple[str, ...]:
    try:
        return taken(match)
    except Unreadable:
        return ()


def _string_matches(match: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for part in ("uri", "method", "authority", "scheme"):
        if match.get(part):
            yield part, match[part]
    for part in ("headers", "withoutHeaders", "queryParams"):
        for name, wanted in (match.get(part) or {}).items():
            yield f"{part}.{name}", wanted or {}


def routes(objects: MeshObjects) -> list[Route]:
    """All routes that some gateway serves, in the order in which they are tried."""
    by_name = {(namespace_of(v), name_of(v)): v for v in objects.of("VirtualService")}
    return [
        route
        for virtual_service in objects.of("VirtualService")
        for route in _served(virtual_service, by_name)
    ]


def _served(root: Object, by_name: Mapping[tuple[str, str], Object]) -> Iterator[Route]:
    spec, namespace = root.get("spec") or {}, namespace_of(root)
    gateways = tuple(
        str(g) if "/" in str(g) or g == MESH else f"{namespace}/{g}"
        for g in spec.get("gateways") or (MESH,)
    )
    if set(gateways) == {MESH}:
        return
    written = Route(
        virtual_service=f"{namespace}/{name_of(root)}",
        namespace=namespace,
        hosts=tuple(str(h).lower() for h in spec.get("hosts") or ()),
        gateways=gateways,
        exported=tuple(namespace if n == "." else str(n) for n in spec.get("exportTo") or ("*",)),
        protocol="http",
        route={},
    )
    for protocol in ("tls", "tcp"):
        for route in spec.get(protocol) or ():
            yield replace(written, protocol=protocol, route=route)
    for route in spec.get("http") or ():
        delegate = route.get("delegate") or {}
        place = str(delegate.get("namespace") or namespace), str(delegate.get("name", ""))
        other = by_name.get(place) if delegate else None
        if other is None:
            yield replace(written, route=route)
            continue
        for own in (other.get("spec") or {}).get("http") or ():
            both = merged(route, own)
            if both is not None and "delegate" not in own:
                yield replace(written, namespace=place[0], route=both)


class Router:
    """The HTTP routes of one host at one server, to be asked which one takes a request."""

    def __init__(self, routes: Sequence[Route]) -> None:
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

    def route(self, arrival: Arrival) -> Route | None:
        """The first route that takes a request; None: not found."""
        places, path = set(self._anywhere), arrival.sample.path
        for end in range(len(path) + 1):
            places.update(self._literal.get(path[:end], ()))
        for place in sorted(places):
            if self._routes[place].takes(arrival):
                return self._routes[place]
        return None


def service_of(host: str, namespace: str) -> tuple[str, str]:
    """(service, namespace) of a destination host, short or full."""
    name, *rest = host.split(".")
    return name, rest[0] if rest else namespace


def _fits(match: Mapping[str, Any], arrival: Arrival) -> bool:
    """Whether one alternative of a route takes the request.

    Source: https://istio.io/latest/docs/reference/config/networking/virtual-service/#HTTPMatchRequest
    """
    server, sample = arrival.server, arrival.sample
    named = match.get("gateways")
    if named and not any(server.gateway == g or server.gateway.endswith(f"/{g}") for g in named):
        return False
    if match.get("port") not in (None, server.number):
        return False
    if match.get("sourceNamespace") not in (None, "", server.workload.namespace):
        return False
    if not (match.get("sourceLabels") or {}).items() <= dict(server.workload.labels).items():
        return False
    fixed = {
        "uri": sample.path,
        "method": arrival.method,
        "authority": arrival.host,
        "scheme": "http" if server.plaintext else "https",
    }
    for part, text in fixed.items():
        ignore_case = part == "uri" and bool(match.get("ignoreUriCase"))
        if match.get(part) and not matches(match[part], text, ignore_case=ignore_case):
            return False
    headers, query = dict(sample.headers), dict(sample.query)
    return (
        all(matches(m or {}, headers.get(n.lower())) for n, m in _items(match, "headers"))
        and all(matches(m or {}, query.get(n)) for n, m in _items(match, "queryParams"))
        and not any(
            matches(m or {}, headers.get(n.lower())) for n, m in _items(match, "withoutHeaders")
        )
    )


def _items(match: Mapping[str, Any], name: str) -> Iterator[tuple[str, Any]]:
    yield from (match.get(name) or {}).items()
