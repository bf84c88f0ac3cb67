"""Tenants, roles, addresses: what a token says decides, never what a client says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from ipaddress import IPv4Network, ip_network

from components.gateway_workload import GATEWAY
from lab.contracts.access import http_port
from lab.contracts.contract import (
    CLIENT,
    DENIED,
    Call,
    Caller,
    Contract,
    Expect,
    Recorded,
    Watch,
    service,
)
from lab.contracts.facts import TENANT, USER, Facts
from lab.contracts.reached import refused_at_gateway
from lab.contracts.ways_in import methods, others, sockets
from lab.exchange import Reply, Request

DOCUMENT = "security.md"
Header = tuple[str, str]


def contracts(facts: Facts) -> Iterator[Contract]:
    """The families `tenant`, `role` and `address`."""
    yield from _tenant(facts)
    yield from _roles(facts)
    yield from _addresses(facts)
    yield Contract(
        "agent.denied",
        "Clients whose User-Agent contains a name in `authorization.deniedUserAgents`, in any case"
        " and at any place, are refused.",
        DOCUMENT,
        tuple(
            Call(CLIENT, facts.api("/health", ("user-agent", text)), DENIED)
            for name in facts.settings.authorization.denied_user_agents
            for text in (name, name.upper(), f"Mozilla/5.0 {name.title()}/1.7", f"x{name}x")
        )
        + (Call(CLIENT, facts.api("/health"), Expect((200,))),),
        safe=True,
    )


def _tenant(facts: Facts) -> Iterator[Contract]:
    names = facts.settings.authentication
    tenant, user, role = names.tenant.header, names.user.header, names.role.header
    spoofed: tuple[Header, ...] = ((tenant, "tenant-b"), (user, "root"), (role, "super-admin"))
    claims = ((tenant, TENANT), (user, USER), (role, "user"))
    sentence = (
        "The tenant, user and role headers that a service sees come from its caller's verified"
        " token; what the client sent in them is dropped."
    )
    readable = [
        (one, route)
        for one, route in facts.catalogue.exposures
        if route.access == "token"
        and not any(not r.methods or "GET" in r.methods for r in route.restricted)
    ]
    method = {route.path: (route.methods or ("GET",))[0] for _, route in readable}
    yield Contract(
        "tenant.claims",
        sentence,
        DOCUMENT,
        tuple(
            Call(
                CLIENT,
                facts.api(f"{route.path}/1", *facts.bearer(), *sent, method=method[route.path]),
                Expect((200,), served_by=one.name, seen=claims),
            )
            for one, route in readable
            for sent in ((), spoofed)
        )
        + tuple(
            Call(CLIENT, way.ask(*facts.bearer(), *sent), replace(way.served, seen=claims))
            for way in sockets(facts)
            for sent in ((), spoofed)
        ),
    )
    yield Contract(
        "tenant.claims-grpc",
        sentence,
        DOCUMENT,
        tuple(
            Call(CLIENT, way.ask(*facts.bearer(), *sent), way.served)
            for way in methods(facts)
            for sent in ((), spoofed)
        ),
        watch=_logged_as(TENANT, USER),
    )
    yield Contract(
        "tenant.spoofed-without-token",
        sentence,
        DOCUMENT,
        tuple(
            Call(CLIENT, facts.api(f"{route.path}/1", *spoofed, method=method[route.path]), DENIED)
            for _, route in readable
        )
        + tuple(Call(CLIENT, way.ask(*spoofed), way.denied) for way in others(facts))
        + tuple(
            Call(
                CLIENT,
                facts.api(route.path, *spoofed, method=(route.methods or ("GET",))[0]),
                Expect(
                    (200,), served_by=one.name, seen=((tenant, None), (user, None), (role, None))
                ),
            )
            for one, route in facts.catalogue.exposures
            if route.access == "public"
        ),
    )
    yield Contract(
        "tenant.no-claim",
        "A token without a tenant is refused on every route that is not public.",
        DOCUMENT,
        tuple(
            Call(
                CLIENT,
                facts.api(
                    f"{route.path}/1",
                    *facts.bearer(**{names.tenant.claim: None}),
                    *sent,
                    method=method[route.path],
                ),
                DENIED,
            )
            for _, route in readable
            for sent in ((), spoofed[:1])
        )
        + tuple(
            Call(CLIENT, way.ask(*facts.bearer(**{names.tenant.claim: None}), *sent), way.denied)
            for way in others(facts)
            for sent in ((), spoofed[:1])
        ),
    )
    yield Contract(
        "tenant.inside",
        "A tenant-isolated service refuses every request without a verified tenant, also from"
        " inside the mesh.",
        DOCUMENT,
        tuple(
            Call(service(caller), _inside(one.name, http_port(one).number, sent), expect)
            for one in facts.catalogue.services
            if one.tenant_isolated
            for caller in facts.catalogue.callers(one)
            for sent, expect in (
                ((), DENIED),
                (spoofed, DENIED),
                (facts.bearer(**{names.tenant.claim: None}), DENIED),
                (
                    (*facts.bearer(), *spoofed),
                    Expect((200,), served_by=one.name, seen=claims),
                ),
            )
        ),
    )


def _logged_as(tenant: str, user: str) -> Watch:
    """The service's own proxy saw these headers: a gRPC answer does not show what it saw."""

    def watch(_: Sequence[Reply], recorded: Recorded) -> str | None:
        for lines in recorded.lines:
            behind = [line for line in lines if not str(line["proxy"]).startswith(GATEWAY)]
            if not behind:
                return "a call is in no service's log"
            for line in behind:
                told = (line.get("tenant_id"), line.get("user_id"))
                if told != (tenant, user):
                    return f"{line['proxy']} saw tenant {told[0]} and user {told[1]}"
        return None

    return watch


def _inside(name: str, port: int, headers: tuple[Header, ...]) -> Request:
    return Request(
        f"service:{name}:{port}", f"{name}:{port}", path="/contract", headers=headers, timeout=15
    )


def _roles(facts: Facts) -> Iterator[Contract]:
    claim = facts.settings.authentication.role.claim
    admin = _inside_address(facts.settings.authorization.admin_addresses[0])
    calls, elsewhere = [], []
    for restricted in facts.catalogue.restricted:
        for method in restricted.methods:
            path = f"{restricted.path}/1"

            def ask(
                role: str | None, address: str, path: str = path, method: str = method
            ) -> Request:
                return facts.api(
                    path, *facts.bearer(**{claim: role}), ("x-forwarded-for", address),
                    method=method,
                )  # fmt: skip

            for role in restricted.roles:
                calls.append(Call(CLIENT, ask(role, admin), Expect((200,))))
                elsewhere.append(Call(CLIENT, ask(role, "198.18.255.1"), DENIED))
            calls += [
                Call(CLIENT, ask(role, admin), DENIED)
                for role in ("user", "Admin", "administrator", "", None)
            ]
    sentence = (
        "An operation restricted to roles is refused for tokens of any other role, at the gateway"
        " and again at the service."
    )
    yield Contract(
        "role.restricted",
        sentence,
        DOCUMENT,
        tuple(calls),
        watch=refused_at_gateway,
    )
    yield Contract(
        "role.service",
        sentence,
        DOCUMENT,
        tuple(_past_gateway(facts)),
    )
    yield Contract(
        "role.address",
        "Restricted operations are refused from client addresses outside"
        " `authorization.adminAddresses`.",
        DOCUMENT,
        tuple(elsewhere),
    )


def _past_gateway(facts: Facts) -> Iterator[Call]:
    """With the gateway's identity straight to the service, as if the gateway let everything in."""
    claim = facts.settings.authentication.role.claim
    trust_domain, mesh = facts.settings.control_plane.trust_domain, facts.settings.namespaces.mesh
    gateway = Caller("identity", f"spiffe://{trust_domain}/ns/{mesh}/sa/istio-ingressgateway")
    for one, route in facts.catalogue.exposures:
        for rule in route.restricted:
            for method in rule.methods or route.methods:
                for role, expect in (
                    *((role, Expect((200,), served_by=one.name)) for role in rule.roles),
                    *((role, DENIED) for role in ("user", "Admin", None)),
                ):
                    request = Request(
                        f"pod:{one.name}:{http_port(one).number}", facts.settings.api_host,
                        method=method, path=f"{route.path}/1",
                        headers=facts.bearer(**{claim: role}),
                    )  # fmt: skip
                    yield Call(gateway, request, expect)


def _inside_address(cidr: str) -> str:
    network = ip_network(cidr)
    assert isinstance(network, IPv4Network)
    return str(network[7])


def _lines(request: Request, last: str) -> Request:
    """The same with a second line of X-Forwarded-For, as a balancer may add its entry."""
    return request.with_headers(("x-forwarded-for", last))


def _claimed(address: str) -> tuple[Header, ...]:
    """Other headers in which proxies tell an address."""
    return (
        ("x-real-ip", address),
        ("true-client-ip", address),
        ("forwarded", f"for={address}"),
        ("x-envoy-external-address", address),
        ("x-envoy-internal", "true"),
    )


def _addresses(facts: Facts) -> Iterator[Contract]:
    authorization = facts.settings.authorization
    if not (authorization.denied_addresses and authorization.admin_addresses):
        return
    denied = _inside_address(authorization.denied_addresses[0])
    trusted = facts.settings.gateway.trusted_proxies

    def ask(forwarded: str, port: int = 443) -> Request:
        if port == 80:
            host = facts.settings.api_host
            return Request(
                "gateway:80", host, path="/health", headers=(("x-forwarded-for", forwarded),)
            )
        return facts.api("/health", ("x-forwarded-for", forwarded))

    yield Contract(
        "address.denied",
        "Client addresses in `authorization.deniedAddresses` are refused everywhere, on plain HTTP"
        " too.",
        DOCUMENT,
        (
            Call(CLIENT, ask(denied), DENIED),
            Call(CLIENT, ask(denied, 80), DENIED),
            Call(
                CLIENT,
                facts.api("/api/v1/users/1", *facts.bearer(), ("x-forwarded-for", denied)),
                DENIED,
            ),
            Call(CLIENT, ask("198.18.200.1"), Expect((200,))),
            *(
                Call(CLIENT, way.ask(*facts.bearer(), ("x-forwarded-for", denied)), way.denied)
                for way in others(facts)
            ),
        ),
    )
    if trusted != 1:
        return
    admin = _inside_address(facts.settings.authorization.admin_addresses[0])
    claim = facts.settings.authentication.role.claim
    administrators = facts.bearer(**{claim: "admin"})

    def forged(forwarded: str) -> Request:
        return facts.api(
            "/api/v1/users/1", *administrators, ("x-forwarded-for", forwarded), method="DELETE"
        )

    yield Contract(
        "address.forged",
        "A client can't change the address it is judged by: only the last `gateway.trustedProxies`"
        " entries of X-Forwarded-For count.",
        DOCUMENT,
        (
            Call(CLIENT, ask(f"198.18.200.2, {denied}"), DENIED),
            Call(CLIENT, ask(f"{admin}, 127.0.0.1, {denied}"), DENIED),
            Call(CLIENT, ask(f"{denied}, 198.18.200.2"), Expect((200,))),
            Call(CLIENT, forged(admin), Expect((200,))),
            Call(CLIENT, forged(f"{admin}, 198.18.200.3"), DENIED),
            Call(CLIENT, forged(f"{admin}, {admin}, 198.18.200.3"), DENIED),
            Call(CLIENT, forged(f"198.18.200.3, {admin}"), Expect((200,))),
            # Written in odd ways, in several lines, as IPv6, or as no address at all.
            *(
                Call(CLIENT, forged(f"{odd}{between}198.18.200.4"), DENIED)
                for odd in (f"{admin}:80", f"::ffff:{admin}", "2001:db8::1", "unknown", "", "%00")
                for between in (",", ", ", " ,\t")
            ),
            *(
                Call(CLIENT, _lines(forged(first), last), DENIED)
                for first, last in ((admin, "198.18.200.5"), (f"{admin}, {admin}", "198.18.200.5"))
            ),
            Call(CLIENT, _lines(ask("198.18.200.6"), denied), DENIED),
            # An address that is none is nobody's: not the administrators'.
            *(
                Call(CLIENT, forged(f"{admin}, {odd}"), DENIED)
                for odd in ("unknown", "", f"{admin}.", f"{admin}/32", "localhost")
            ),
            Call(CLIENT, forged("198.18.200.7").with_headers(*_claimed(admin)), DENIED),
        ),
    )
