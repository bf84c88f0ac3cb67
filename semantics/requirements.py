"""What a request from outside must bring to get through a gateway to the service behind it.

A request is followed from the gateway's policies over the VirtualService route to the policies of
the workload behind it, with the token or the claim headers that the gateway passes on.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum

from semantics.authentication import RefusedToken, authenticate
from semantics.authorization import Guard
from semantics.conditions import Dimension
from semantics.describe import tokens_text
from semantics.ingress import Ingress
from semantics.paths import normalize
from semantics.regions import TOKEN, Space
from semantics.request import Outcome, Request, Token, principal_of
from semantics.routes import Route
from semantics.servers import Server

REMOTE_IP = Dimension("remote_ip")
_ANYWHERE = {4: 7, 6: 15}
"""Ranges of at most this prefix length, by IP version, let in the internet and no office."""


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


def requirement(
    revision: Ingress, server: Server, route: Route, request: Request, space: Space | None
) -> tuple[Requirement, tuple[str, ...]]:
    """What is asked for one request, and the services (`namespace/name`) that answer it.

    Args:
        revision: the objects.
        server: where the request comes in.
        route: the route that takes it.
        request: what the client sends, without address and token.
        space: tokens to try are those of its axis; None for a connection without HTTP.
    """
    destinations = [d for d in route.destinations() if d[3] > 0]
    services = tuple(dict.fromkeys(f"{d[0]}/{d[1]}" for d in destinations))
    if route.route.get("redirect") or route.route.get("directResponse"):
        answer = "redirect" if route.route.get("redirect") else "direct response"
        return Requirement(Level.OPEN, f"{answer} without a token"), (f"({answer})",)
    tokens = space.axis(TOKEN) if space is not None else None
    classes = tokens.classes if tokens is not None else ((None,),)
    refused_by = ""
    for place, address in _addresses(revision.guard(server.workload)):
        passing: list[Token | None] = []
        for alike in classes:
            asked = replace(request, remote_ip=address, token=alike[0])
            refusal = _refusal(revision, server, route, destinations, asked)
            if refusal is None:
                passing += alike
            elif not refused_by:
                refused_by = refusal
        if passing and not request.http:
            level = Level.CERTAIN_ADDRESSES if place else Level.OPEN
            return Requirement(
                level, f"connections{f' only from {place}' if place else ''}"
            ), services
        if passing:
            return _described(passing, place, refused_by), services
    return Requirement(Level.REFUSED, "refused", refused_by), services


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
    """(name, client address): first one that no list names, then one of each list named.

    What lies in a list of nearly everything is an address like any other, and has no name.
    """
    blocks: dict[str, _Network] = {}
    for policy in guard.http_policies:
        for rule in policy.rules:
            for condition in rule.conditions():
                if condition.dimension == REMOTE_IP:
                    blocks.update({v: n for v in condition.values if (n := _network(v))})
    ordinary = [
        ("", address)
        for address in ("192.0.2.7", "100.64.9.9", "10.250.9.9", "2001:db8::7")
        if not any(ipaddress.ip_address(address) in network for network in blocks.values())
    ]
    anyone = {v: n for v, n in blocks.items() if n.prefixlen <= _ANYWHERE[n.version]}
    inside = [(v, v.split("/")[0]) for v in blocks if v not in anyone]
    return [*ordinary[:1], *(("", str(n[7])) for n in anyone.values()), *inside]


_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _network(block: str) -> _Network | None:
    """A range; None of what istiod can't read, which no address lies in."""
    try:
        return ipaddress.ip_network(block, strict=False)
    except ValueError:
        return None


def _refusal(
    revision: Ingress,
    server: Server,
    route: Route,
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
