"""What clients outside the mesh reach through the gateways, and what they must bring for it.

A request is followed from the gateway's policies over the VirtualService route to the policies of
the workload behind it, with the token or the claim headers that the gateway passes on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum

from semantics import witnesses
from semantics.authentication import RefusedToken, authenticate
from semantics.authorization import Guard
from semantics.conditions import Condition, Dimension
from semantics.describe import listed, tokens_text
from semantics.gateway_change import GatewayChange
from semantics.ingress import HostIngress, Ingress
from semantics.objects import MeshObjects
from semantics.paths import normalize
from semantics.regions import TOKEN, Space, space_of
from semantics.request import Outcome, Request, Token, principal_of
from semantics.routes import (
    HttpRoute,
    Server,
    example_paths,
)
from semantics.strings import ip_block
from semantics.witnesses import paths_of


class Level(IntEnum):
    """What a client needs, the most open last."""

    UNROUTED = 0
    REFUSED = 1
    CERTAIN_ADDRESSES = 2
    CERTAIN_TOKENS = 3
    ANY_TOKEN = 4
    OPEN = 5


@dataclass(frozen=True)
class Requirement:
    """The level, and in words what is asked."""

    level: Level
    text: str
    by: str = field(default="", compare=False)
    """Who refuses those that bring less."""


UNROUTED = Requirement(Level.UNROUTED, "no route")


@dataclass(frozen=True)
class Exposed:
    """One class of requests from outside: host, path, methods, and the service it reaches."""

    host: str
    path: str
    methods: tuple[str, ...]
    service: str
    requirement: Requirement


@dataclass(frozen=True)
class ExposureChange:
    """What outside clients need for a class of requests, before and after."""

    host: str
    paths: tuple[str, ...]
    methods: tuple[str, ...]
    service: str
    before: Requirement
    after: Requirement

    @property
    def opens(self) -> bool:
        """Whether less is asked than before, of requests that get an answer at all."""
        return self.after.level > max(self.before.level, Level.REFUSED)


WITNESSES = witnesses.METHODS
METHODS = Dimension("method")
REMOTE_IP = Dimension("remote_ip")
PATH = Dimension("path")


def compare(old: MeshObjects, new: MeshObjects) -> list[ExposureChange]:
    """Every class of outside requests for which more, less or something else is asked now."""
    revisions = (Ingress(old), Ingress(new))
    found: dict[_Difference, dict[tuple[str, ...], list[str]]] = {}
    for host in sorted({r.host for revision in revisions for r in revision.routes}):
        for path, methods, service, before, after in _host_rows(revisions, host, everything=False):
            if (before.level, before.text) != (after.level, after.text):
                by_methods = found.setdefault((host, service, before, after), {})
                by_methods.setdefault(methods, []).append(path)
    changes = [
        ExposureChange(host, paths, methods, service, before, after)
        for (host, service, before, after), by_methods in found.items()
        for paths, methods in _transposed(by_methods)
    ]
    return sorted(
        changes,
        key=lambda c: (not c.opens, -c.after.level, c.host, c.paths, c.methods),
    )


_Difference = tuple[str, str, Requirement, Requirement]


def _transposed(
    by_methods: Mapping[tuple[str, ...], Sequence[str]],
) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Paths and methods with each set of paths once, all of its methods together."""
    by_paths: dict[tuple[str, ...], list[str]] = {}
    for methods, paths in by_methods.items():
        by_paths.setdefault(tuple(dict.fromkeys(paths)), []).extend(methods)
    for paths, all_methods in by_paths.items():
        yield paths, tuple(all_methods)


def table(objects: MeshObjects) -> list[Exposed]:
    """Everything that outside clients may address, and what it asks of them."""
    revision = Ingress(objects)
    return [
        Exposed(host, path, methods, service, after)
        for host in sorted({r.host for r in revision.routes})
        for path, methods, service, _, after in _host_rows(
            (revision, revision), host, everything=True
        )
    ]


_Row = tuple[str, tuple[str, ...], str, Requirement, Requirement]


def _host_rows(
    revisions: tuple[Ingress, Ingress], host: str, *, everything: bool
) -> Iterator[_Row]:
    """One row for each path and class of methods of a host; only what may differ, or all."""
    old, new = (
        HostIngress(revision, host, tuple(r for r in revision.routes if r.host == host))
        for revision in revisions
    )
    paths = {p for side in (old, new) for route in side.routes for p in example_paths(route)}
    paths |= {p for side in (old, new) for p in _named_below(side, paths)}
    if not everything:
        at_gateway = GatewayChange.between(
            _at_gateway(old), _at_gateway(new), host.replace("*", "some")
        )
        paths = {
            path
            for path in paths
            if at_gateway.touches(path)
            or any(_way(old, path, method) != _way(new, path, method) for method in WITNESSES)
        }
    guards = {
        id(guard): guard
        for side in (old, new)
        for path in paths
        for method in WITNESSES
        for guard in side.guards(path, method)
    }
    if not guards:
        return
    space = space_of(guards.values(), (), only=(METHODS, TOKEN))
    for path in sorted(paths):
        for methods in _methods(space):
            before, was = _requirement(old, path, methods[0], space)
            after, becomes = _requirement(new, path, methods[0], space)
            yield path, methods, becomes or was, before, after


def _at_gateway(side: HostIngress) -> list[tuple[Guard, tuple[object, ...]]]:
    return [(side.revision.guard(s.workload), (s.gateway, s.port, s.hosts)) for s in side.servers]


def _named_below(side: HostIngress, bases: set[str]) -> Iterator[str]:
    """Paths that policies tell apart, where a route takes them."""
    workloads = {str(s.workload): s.workload for s in side.servers}
    for route in side.routes:
        for namespace, service, _, _ in route.destinations():
            workloads |= {str(w): w for w in side.revision.behind(namespace, service)}
    for workload in workloads.values():
        for policy in side.revision.guard(workload).http_policies:
            for rule in policy.rules:
                for condition in rule.conditions():
                    if condition.dimension == PATH:
                        for value in condition.values:
                            yield from (p for p in paths_of(value) if _below_any(p, bases))


def _below_any(path: str, bases: set[str]) -> bool:
    parts = path.rstrip("/").split("/")
    return any("/".join(parts[:end]) in bases for end in range(2, len(parts) + 1))


def _way(side: HostIngress, path: str, method: str) -> list[object]:
    """What of a request's way decides on who gets through, the gateway's policies left out."""
    found: list[object] = []
    for server, route in side.ways(path, method):
        destinations = tuple(
            (
                destination,
                side.revision.target_port(*destination[:3]),
                tuple(
                    side.revision.guard(w).fingerprint
                    for w in side.revision.behind(*destination[:2])
                ),
            )
            for destination in route.destinations()
            if destination[3] > 0
        )
        kept = {k: route.route.get(k) for k in ("match", "rewrite", "redirect", "directResponse")}
        found.append((server.gateway, server.port, repr(kept), destinations))
    return found


def _methods(space: Space) -> list[tuple[str, ...]]:
    axis = space.axis(METHODS)
    return [tuple(each) for each in axis.classes] if axis is not None else [("GET",)]


def _requirement(
    side: HostIngress, path: str, method: str, space: Space
) -> tuple[Requirement, str]:
    """What is asked for one request, and the service that answers it."""
    best, reached = UNROUTED, ""
    for server, route in side.ways(path, method):
        request = Request(
            source_ip="10.255.255.254",
            port=server.port,
            host=side.host.replace("*", "some"),
            method=method,
            path=path,
        )
        requirement, service = _asked(side.revision, server, route, request, space)
        if requirement.level > best.level:
            best, reached = requirement, service
    return best, reached


def _asked(
    revision: Ingress, server: Server, route: HttpRoute, request: Request, space: Space
) -> tuple[Requirement, str]:
    destinations = [d for d in route.destinations() if d[3] > 0]
    service = listed(dict.fromkeys(f"{d[1]}" for d in destinations))
    if route.route.get("redirect") or route.route.get("directResponse"):
        answer = "redirect" if route.route.get("redirect") else "direct response"
        return Requirement(Level.OPEN, f"{answer} without a token"), f"({answer})"
    tokens = space.axis(TOKEN)
    assert tokens is not None
    addresses = _addresses(revision.guard(server.workload))
    refused_by = ""
    for place, address in addresses:
        passing: list[Token | None] = []
        for alike in tokens.classes:
            asked = replace(request, remote_ip=address, token=alike[0])
            refusal = _refusal(revision, server, route, destinations, asked)
            if refusal is None:
                passing += alike
            elif not refused_by:
                refused_by = refusal
        if passing:
            return _described(passing, place, refused_by), service
    return Requirement(Level.REFUSED, "refused", refused_by), service


def _described(passing: list[Token | None], place: str, refused_by: str) -> Requirement:
    where = f", only from {place}" if place else ""
    if None in passing:
        level = Level.CERTAIN_ADDRESSES if place else Level.OPEN
        return Requirement(level, f"without a token{where}")
    if any(set(t.claims) <= {"iss", "sub", "aud"} for t in passing if t is not None):
        level = Level.CERTAIN_ADDRESSES if place else Level.ANY_TOKEN
        return Requirement(level, f"any valid token{where}", refused_by)
    level = Level.CERTAIN_ADDRESSES if place else Level.CERTAIN_TOKENS
    return Requirement(level, f"{tokens_text(passing).removeprefix('with ')}{where}", refused_by)


def _addresses(guard: Guard) -> list[tuple[str, str]]:
    """(name, client address): first one that no list names, then one of each list named."""
    blocks: dict[str, Condition] = {}
    for policy in guard.http_policies:
        for rule in policy.rules:
            for condition in rule.conditions():
                if condition.dimension == REMOTE_IP:
                    blocks.update((value, condition) for value in condition.values)
    ordinary = next(
        a
        for a in ("192.0.2.7", "100.64.9.9", "10.250.9.9", "2001:db8::7")
        if not any(ip_block(value)(a) for value in blocks)
    )
    inside = [(value, value.split("/")[0]) for value in blocks]
    return [("", ordinary), *inside]


def _refusal(
    revision: Ingress,
    server: Server,
    route: HttpRoute,
    destinations: Sequence[tuple[str, str, int | None, int]],
    request: Request,
) -> str | None:
    """Who refuses the request on its way, None if nobody does."""
    gateway = revision.guard(server.workload)
    decision = gateway.decide(request)
    if decision.outcome is Outcome.DENY:
        return decision.by
    passed = _passed_on(gateway, request)
    principal = principal_of(
        server.workload.namespace,
        server.workload.service_account,
        revision.objects.mesh.trust_domain,
    )
    refusals = []
    for namespace, service, port, _ in destinations:
        workloads = revision.behind(namespace, service)
        if not workloads:
            return None
        for workload in workloads:
            inner = replace(
                passed,
                peer=principal if workload.proxied else None,
                port=revision.target_port(namespace, service, port),
                path=route.rewritten(passed.path),
            )
            decision = revision.guard(workload).decide(inner)
            if decision.outcome is not Outcome.DENY:
                return None
            refusals.append(decision.by)
    return refusals[0] if refusals else None


def _passed_on(gateway: Guard, request: Request) -> Request:
    """The request as it leaves the gateway: path normalized, token and claim headers as said."""
    path = normalize(request.path, gateway.objects.mesh.path_normalization)
    try:
        seen = authenticate(request, gateway.jwt_rules)
    except RefusedToken:  # the gateway has refused it already
        return request
    kept = request.token
    if seen.token is not None and not any(
        rule.forwarded for rule in gateway.jwt_rules if rule.accepts(seen.token)
    ):
        kept = None
    return replace(request, path=path, headers=seen.headers, token=kept)
