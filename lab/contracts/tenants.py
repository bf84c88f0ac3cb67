"""Tenants, roles, addresses: what a token says decides, never what a client says."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace

from components.gateway_workload import GATEWAY
from lab.contracts.access import gateway, http_port
from lab.contracts.access import grpc as grpc_call
from lab.contracts.addresses import ELSEWHERE, Header, forwarded, from_administration, within
from lab.contracts.contract import (
    CLIENT,
    DENIED,
    Call,
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
from model.service import Service

DOCUMENT = "security.md"
Claimed = str | list[str] | None
"""What a token's claim may hold; None where it has none."""
SERVED = Expect((200,))
_REDIRECTED = Expect((301,))
_NOBODY = "203.0.113.0/24"
"""Stands for a list of addresses that is empty (RFC 5737)."""


def contracts(facts: Facts) -> Iterator[Contract]:
    """The families `tenant`, `role` and `address`."""
    yield from _tenant(facts)
    yield from _roles(facts)
    yield from _addresses(facts)
    if not facts.settings.authorization.denied_user_agents:
        return
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
    # A header twice, and as the client that capitals may hide it from.
    doubled = (*spoofed, *spoofed[:1], (tenant.title(), "tenant-c"))
    claims = ((tenant, TENANT), (user, USER), (role, "user"))
    others_claims = {
        names.tenant.claim: "tenant-b", names.user.claim: "user-2", names.role.claim: "user",
    }  # fmt: skip
    others_seen = ((tenant, "tenant-b"), (user, "user-2"), (role, "user"))
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
            for sent in ((), spoofed, doubled)
        )
        # Another tenant's token, among headers that name the first one.
        + tuple(
            Call(
                CLIENT,
                facts.api(
                    f"{route.path}/1",
                    *facts.bearer(**others_claims),
                    *claims,
                    method=method[route.path],
                ),
                Expect((200,), served_by=one.name, seen=others_seen),
            )
            for one, route in readable
        )
        + tuple(
            Call(CLIENT, way.ask(*facts.bearer(), *sent), replace(way.served, seen=claims))
            for way in sockets(facts)
            for sent in ((), spoofed, doubled)
        )
        + tuple(
            Call(
                CLIENT,
                way.ask(*facts.bearer(**others_claims), *claims),
                replace(way.served, seen=others_seen),
            )
            for way in sockets(facts)
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
                    *facts.bearer(**{names.tenant.claim: claimed}),
                    *sent,
                    method=method[route.path],
                ),
                DENIED,
            )
            for _, route in readable
            for claimed in (None, "")
            for sent in ((), spoofed[:1])
        )
        + tuple(
            Call(CLIENT, way.ask(*facts.bearer(**{names.tenant.claim: claimed}), *sent), way.denied)
            for way in others(facts)
            for claimed in (None, "")
            for sent in ((), spoofed[:1])
        ),
    )
    lists = ([TENANT], [TENANT, "tenant-b"])
    yield Contract(
        "tenant.list",
        "A tenant claim that is a list names none of its tenants: services see the list itself, as"
        " JSON in base64.",
        DOCUMENT,
        tuple(
            Call(
                CLIENT,
                facts.api(
                    f"{route.path}/1",
                    *facts.bearer(**{names.tenant.claim: several}),
                    method=method[route.path],
                ),
                Expect((200,), served_by=one.name, seen=((tenant, _in_base64(several)),)),
            )
            for one, route in readable
            for several in lists
        ),
    )
    yield Contract(
        "tenant.inside",
        "A tenant-isolated service refuses every request without a verified tenant, also from"
        " inside the mesh.",
        DOCUMENT,
        tuple(
            call
            for one in facts.catalogue.services
            if one.tenant_isolated
            for caller in facts.catalogue.callers(one)
            for sent, expect in (
                ((), None),
                (spoofed, None),
                (facts.bearer(**{names.tenant.claim: None}), None),
                (facts.bearer(**{names.tenant.claim: ""}), None),
                ((*facts.bearer(), *spoofed), claims),
            )
            for call in _inside(facts, one, caller, sent, expect)
        ),
    )
    yield Contract(
        "tenant.made-up-inside",
        "Tenant, user and role headers that a service of the mesh makes up do not reach the service"
        " that it calls.",
        DOCUMENT,
        tuple(
            call
            for one in facts.catalogue.services
            if not one.tenant_isolated
            for caller in facts.catalogue.callers(one)
            for sent, seen in (
                (spoofed, ((tenant, None), (user, None), (role, None))),
                ((*facts.bearer(), *spoofed), claims),
            )
            for call in _inside(facts, one, caller, sent, seen)
        ),
    )


def _inside(
    facts: Facts,
    one: Service,
    caller: str,
    sent: tuple[Header, ...],
    seen: tuple[tuple[str, str | None], ...] | None,
) -> Iterator[Call]:
    """A call of a service to each port of another: what it sees of it, or None where it refuses.

    Of gRPC it does not show what it saw.
    """
    for port in one.ports:
        if port.metrics:
            continue
        if port.protocol == "grpc":
            called = replace(grpc_call(facts, one, port), headers=sent)
            answer = "OK" if seen else "PERMISSION_DENIED"
            yield Call(service(caller), called, Expect((200,), grpc=answer))
            continue
        asked = Request(
            f"service:{one.name}:{port.number}", f"{one.name}:{port.number}", path="/contract",
            headers=sent, timeout=15,
        )  # fmt: skip
        expect = Expect((200,), served_by=one.name, seen=seen) if seen else DENIED
        yield Call(service(caller), asked, expect)


def _in_base64(several: Sequence[str]) -> str:
    return base64.b64encode(json.dumps(several, separators=(",", ":")).encode()).decode()


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


def _roles(facts: Facts) -> Iterator[Contract]:
    claim = facts.settings.authentication.role.claim
    admin = from_administration(facts)
    here = admin or forwarded(facts, ELSEWHERE)
    # Where no address is an administrator's, nobody may.
    right = SERVED if admin else DENIED
    calls, elsewhere = [], []
    for restricted in facts.catalogue.restricted:
        for method in restricted.methods:
            path = f"{restricted.path}/1"

            def ask(
                role: Claimed, address: Header, path: str = path, method: str = method
            ) -> Request:
                return facts.api(path, *facts.bearer(**{claim: role}), address, method=method)

            for role in restricted.roles:
                calls += [
                    Call(CLIENT, ask(claimed, here), right)
                    for claimed in (role, [role], ["user", role])
                ]
                elsewhere.append(Call(CLIENT, ask(role, forwarded(facts, ELSEWHERE)), DENIED))
            calls += [
                Call(CLIENT, ask(role, here), DENIED)
                for role in unlisted_roles(facts, restricted.roles)
            ]
    sentence = (
        "An operation restricted to roles is refused for clients' tokens of any other role, at the"
        " gateway and again at the service."
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
        "role.inside",
        "Services are not asked for a role by each other: who may call is said by `callers` alone.",
        DOCUMENT,
        tuple(_without_role(facts)),
    )
    yield Contract(
        "role.address",
        "Restricted operations are refused from client addresses outside"
        " `authorization.adminAddresses`.",
        DOCUMENT,
        tuple(elsewhere),
        watch=refused_at_gateway,
    )


def unlisted_roles(facts: Facts, listed: Sequence[str]) -> Iterator[Claimed]:
    """What a role claim may hold and a rule does not name: the catalogue's other roles too."""
    known = dict.fromkeys(role for rule in facts.catalogue.restricted for role in rule.roles)
    yield from (role for role in known if role not in listed)
    for role in listed:
        yield from (role.upper(), f"{role}s", role[:-1], f" {role}", f"{role},user")
    yield from ("user", "", None, ["user"], [])


def _without_role(facts: Facts) -> Iterator[Call]:
    """A caller's token of an ordinary user, past its own proxy and through it."""
    for one, route in facts.catalogue.exposures:
        for rule in route.restricted:
            served = Expect((200,), served_by=one.name)
            port = http_port(one).number
            for caller in facts.catalogue.callers(one):
                for method in rule.methods or route.methods:
                    inside = Request(
                        f"service:{one.name}:{port}", f"{one.name}:{port}", method=method,
                        path=f"{route.path}/1", headers=facts.bearer(), timeout=15,
                    )  # fmt: skip
                    yield Call(service(caller), inside, served)


def _past_gateway(facts: Facts) -> Iterator[Call]:
    """With the gateway's identity straight to the service, as if the gateway let everything in."""
    claim = facts.settings.authentication.role.claim
    for one, route in facts.catalogue.exposures:
        for rule in route.restricted:
            for method in rule.methods or route.methods:
                for role, expect in (
                    *((role, Expect((200,), served_by=one.name)) for role in rule.roles),
                    *((role, DENIED) for role in unlisted_roles(facts, rule.roles)),
                ):
                    request = Request(
                        f"pod:{one.name}:{http_port(one).number}", facts.settings.api_host,
                        method=method, path=f"{route.path}/1",
                        headers=facts.bearer(**{claim: role}),
                    )  # fmt: skip
                    yield Call(gateway(facts), request, expect)


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
    trusted = facts.settings.gateway.trusted_proxies
    denied, other = within((*authorization.denied_addresses, _NOBODY)[0]), "198.18.200.1"

    def ask(header: Header, port: int = 443) -> Request:
        asked = facts.api("/health", header)
        return asked if port == 443 else replace(asked, address=f"gateway:{port}", tls=None)

    if authorization.denied_addresses and trusted:
        # Without trusted proxies a client can't choose the address that is looked at.
        here = forwarded(facts, denied)
        yield Contract(
            "address.denied",
            "Client addresses in `authorization.deniedAddresses` are refused everywhere, on plain"
            " HTTP too.",
            DOCUMENT,
            (
                *(
                    Call(CLIENT, ask(forwarded(facts, within(block)), port), DENIED)
                    for block in authorization.denied_addresses
                    for port in (443, 80)
                ),
                *(
                    Call(CLIENT, facts.api(path, *facts.bearer(), here, method=method), DENIED)
                    for path, method in _readable_paths(facts)
                ),
                Call(CLIENT, ask(forwarded(facts, other)), SERVED),
                Call(CLIENT, ask(forwarded(facts, other), 80), _REDIRECTED),
                *(
                    Call(CLIENT, way.ask(*facts.bearer(), header), expect)
                    for way in others(facts)
                    for header, expect in (
                        (here, way.denied),
                        (forwarded(facts, other), way.served),
                    )
                ),
            ),
            watch=refused_at_gateway,
        )
    admin = within((*authorization.admin_addresses, _NOBODY)[0])
    claim = facts.settings.authentication.role.claim
    operation = next(
        (
            (f"{rule.path}/1", method, facts.bearer(**{claim: rule.roles[0]}))
            for rule in facts.catalogue.restricted
            for method in rule.methods
        ),
        None,
    )
    if not operation:
        return
    path, method, administrators = operation

    def forged(header: Header) -> Request:
        return facts.api(path, *administrators, header, method=method)

    def at(address: str, *claimed: str) -> Header:
        return forwarded(facts, address, *claimed)

    # Of one whom the gateway knows by its connection nothing that it writes counts.
    refused, let_in = (
        (DENIED if authorization.denied_addresses and trusted else SERVED),
        (SERVED if authorization.admin_addresses and trusted else DENIED),
    )
    yield Contract(
        "address.forged",
        "A client can't change the address it is judged by: only the last `gateway.trustedProxies`"
        " entries of X-Forwarded-For count.",
        DOCUMENT,
        (
            Call(CLIENT, ask(at(denied, "198.18.200.2")), refused),
            Call(CLIENT, ask(at(denied, admin, "127.0.0.1")), refused),
            Call(CLIENT, ask(at("198.18.200.2", denied)), SERVED),
            Call(CLIENT, ask(at("198.18.200.2", denied, denied, denied)), SERVED),
            # On plain HTTP and on the other hosts too.
            Call(CLIENT, ask(at("198.18.200.2", denied), 80), _REDIRECTED),
            Call(
                CLIENT,
                ask(at(denied, "198.18.200.2"), 80),
                DENIED if refused is DENIED else _REDIRECTED,
            ),
            *(
                Call(CLIENT, way.ask(*facts.bearer(), header), expect)
                for way in others(facts)
                for header, expect in (
                    (at("198.18.200.2", denied), way.served),
                    (at(denied, "198.18.200.2"), way.denied if refused is DENIED else way.served),
                )
            ),
            Call(CLIENT, forged(at(admin)), let_in),
            Call(CLIENT, forged(at("198.18.200.3", admin)), DENIED),
            Call(CLIENT, forged(at("198.18.200.3", admin, admin)), DENIED),
            Call(CLIENT, forged(at("198.18.200.3", admin, admin, admin)), DENIED),
            Call(CLIENT, forged(at(admin, "198.18.200.3")), let_in),
            # Written in odd ways, in several lines, as IPv6, or as no address at all.
            *(
                Call(CLIENT, forged(at(f"{odd}{between}198.18.200.4")), DENIED)
                for odd in (f"{admin}:80", f"::ffff:{admin}", "2001:db8::1", "unknown", "", "%00")
                for between in (",", ", ", " ,\t")
            ),
            *(
                Call(CLIENT, forged(("x-forwarded-for", first)).with_headers(last), DENIED)
                for first, last in (
                    (admin, at("198.18.200.5")),
                    (f"{admin}, {admin}", at("198.18.200.5")),
                )
            ),
            Call(
                CLIENT,
                ask(("x-forwarded-for", "198.18.200.6")).with_headers(at(denied)),
                refused,
            ),
            # An address that is none is nobody's: not the administrators'.
            *(
                Call(CLIENT, forged(at(odd, admin)), DENIED)
                for odd in ("unknown", "", f"{admin}.", f"{admin}/32", "localhost")
            ),
            Call(CLIENT, forged(at("198.18.200.7")).with_headers(*_claimed(admin)), DENIED),
        ),
    )


def _readable_paths(facts: Facts) -> Iterator[tuple[str, str]]:
    """Every route that needs a token, with a method that it serves."""
    for _, route in facts.catalogue.exposures:
        if route.access == "token":
            yield f"{route.path}/1", (route.methods or ("GET",))[0]
