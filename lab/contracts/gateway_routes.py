"""Every route that the gateway has, as Envoy and EnvoyFilters know them, and a request for each.

One route of the catalogue is several there: one for each kind of request, and for each cohort.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice

from components.route_names import (
    Entry,
    api_route_name,
    entries,
    grpc_route_name,
    split_names,
    websocket_route_name,
)
from lab.contracts.addresses import from_administration
from lab.contracts.contract import CLIENT, Call, Expect
from lab.contracts.facts import TENANT, Facts, served
from lab.exchange import Request
from model.service import Route, Service
from model.settings import Split

_TENANTS = 40
"""So many that no limit of a tenant is met."""
_GRPC = (("content-type", "application/grpc"), ("te", "trailers"))


@dataclass(frozen=True)
class GatewayRoute:
    """One route at the gateway, and what a client asks to be sent along it."""

    name: str
    """Its name in Envoy, which the access log has, too."""
    service: Service
    """The one it leads to."""
    request: Request
    """With what the route matches, but without a token."""
    public: bool = False
    claims: tuple[tuple[str, str], ...] = ()
    """What the token must say, where a role is asked for."""

    @property
    def reached(self) -> Expect:
        """The service, or its proxy, answered."""
        return Expect((101,) if self.request.kind == "websocket" else (200,))

    def call(self, facts: Facts, tenant: str, address: str, *headers: tuple[str, str]) -> Call:
        """One request of a tenant's client."""
        names = facts.settings.authentication
        claims = {**dict(self.claims), names.tenant.claim: tenant}
        administration = from_administration(facts) if self.claims else None
        source = administration or ("x-forwarded-for", address)
        sent = self.request.with_headers(*facts.bearer(**claims), source, *headers)
        return Call(CLIENT, replace(sent, timeout=30.0), self.reached)


def gateway_routes(facts: Facts) -> Iterator[GatewayRoute]:
    """All that somebody can be served on, in the catalogue's order."""
    for one in facts.catalogue.services:
        split = facts.settings.traffic.get(one.name)
        for route in one.routes:
            for entry in entries(route):
                name = api_route_name(one, route, entry.part)
                found = _on_api(facts, one, route, entry)
                if not found.claims or from_administration(facts):
                    yield from _of_cohorts(replace(found, name=name), split)
        for socket in one.websockets:
            name, upgrade = websocket_route_name(one, socket), facts.websocket(socket.path)
            yield from _of_cohorts(GatewayRoute(name, one, upgrade), split)
        for grpc in one.grpc:
            host = facts.settings.grpc_host
            # Not by a gRPC client: not all that answer here, the echo server does, speak gRPC.
            request = replace(
                facts.api(f"/{grpc.name}/Get", *_GRPC, method="POST"),
                authority=host, tls=facts.tls(host),
            )  # fmt: skip
            yield from _of_cohorts(GatewayRoute(grpc_route_name(one, grpc), one, request), split)


def _on_api(facts: Facts, one: Service, route: Route, entry: Entry) -> GatewayRoute:
    path = route.path if route.access == "public" else f"{route.path}/1"
    methods = entry.methods or (("GET",) if entry.part == "stream" else ("POST",))
    method = next((m for m in methods if served(route, m)), methods[0])
    headers = (("accept", "text/event-stream"),) if entry.part == "stream" else ()
    roles = [
        rule.roles[-1] for rule in route.restricted if not rule.methods or method in rule.methods
    ]
    claim = facts.settings.authentication.role.claim
    claims = tuple((claim, role) for role in roles[:1])
    public = route.access == "public"
    return GatewayRoute("", one, facts.api(path, *headers, method=method), public, claims)


def _of_cohorts(route: GatewayRoute, split: Split | None) -> Iterator[GatewayRoute]:
    *of_cohorts, rest = split_names(route.name, split)
    for name, cohort in zip(of_cohorts, split.cohorts if split else (), strict=True):
        mark = (
            (cohort.header, cohort.value)
            if cohort.header
            else ("cookie", f"{cohort.cookie}={cohort.value}")
        )
        yield replace(route, name=name, request=route.request.with_headers(mark))
    yield replace(route, name=rest)


def asked(
    facts: Facts, routes: Sequence[GatewayRoute], times: int, *headers: tuple[str, str]
) -> list[tuple[GatewayRoute, str, Call]]:
    """So many calls for each route, in turn, each of one of many tenants and clients."""
    found = []
    for index, route in enumerate(islice(cycle(routes), len(routes) * times)):
        tenant = f"{TENANT}-{index % _TENANTS}"
        found.append(
            (route, tenant, route.call(facts, tenant, facts.many_clients(index), *headers))
        )
    return found
