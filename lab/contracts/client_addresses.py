"""Client addresses: who is refused for where it comes from, and that nobody can pretend."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from lab.contracts.addresses import Header, forwarded, within
from lab.contracts.contract import (
    CLIENT,
    DENIED,
    Call,
    Contract,
    Expect,
)
from lab.contracts.facts import Facts
from lab.contracts.reached import refused_at_gateway
from lab.contracts.ways_in import others
from lab.exchange import Request

DOCUMENT = "security.md"
SERVED = Expect((200,))
_REDIRECTED = Expect((301,))
_NOBODY = "203.0.113.0/24"
"""Stands for a list of addresses that is empty (RFC 5737)."""


def _claimed(address: str) -> tuple[Header, ...]:
    """Other headers in which proxies tell an address."""
    return (
        ("x-real-ip", address),
        ("true-client-ip", address),
        ("forwarded", f"for={address}"),
        ("x-envoy-external-address", address),
        ("x-envoy-internal", "true"),
    )


def contracts(facts: Facts) -> Iterator[Contract]:
    """The family `address`."""
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
