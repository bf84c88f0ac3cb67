"""Mutual TLS: nothing talks to a service without a certificate of the mesh."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from lab.contracts.access import account, headers, instances, request
from lab.contracts.contract import (
    CLIENT,
    DENIED,
    GATEWAY,
    PLAIN,
    REFUSED,
    Call,
    Caller,
    Contract,
    Expect,
)
from lab.contracts.facts import Facts
from lab.exchange import Request, Tls

DOCUMENT = "security.md"


def contracts(facts: Facts) -> Iterator[Contract]:
    """The family `mtls`."""
    services = facts.catalogue.services
    yield Contract(
        "mtls.plaintext",
        "Every connection between workloads is mutual TLS; plain text to a service is refused.",
        DOCUMENT,
        tuple(
            Call(
                PLAIN,
                replace(asked, address=f"pod:{instance}:{port.number}"),
                REFUSED,
            )
            for one in services
            for instance in instances(one)
            for port in one.ports
            for asked in (
                Request("", one.name),
                Request("", one.name, http2=True),
                Request("", one.name, tls=Tls(one.name)),
            )
        ),
    )
    yield Contract(
        "mtls.foreign-certificate",
        "A certificate of another trust domain is refused.",
        DOCUMENT,
        tuple(
            Call(
                Caller("identity", account(facts, facts.catalogue.callers(one)[0]), "foreign"),
                replace(request(facts, one, "pod"), address=f"pod:{instance}:{port.number}"),
                REFUSED,
            )
            for one in services
            for instance in instances(one)
            for port in one.ports
        ),
    )
    yield Contract(
        "mtls.foreign-domain",
        "A certificate of another trust domain is refused.",
        DOCUMENT,
        tuple(
            Call(
                Caller("identity", _foreign(facts, facts.catalogue.callers(one)[0])),
                replace(request(facts, one, "pod"), address=f"pod:{instance}:{port.number}"),
                REFUSED,
            )
            for one in services
            for instance in instances(one)
            for port in one.ports
        ),
    )
    if facts.settings.gateway.east_west:
        yield _east_west(facts)


def _east_west(facts: Facts) -> Contract:
    """On a route that needs a token, and with one: only the certificate is in question."""
    one, route = next(
        (one, route)
        for one, route in facts.catalogue.exposures
        if route.access == "token" and not route.methods and not route.restricted
    )
    api = facts.settings.api_host
    inside = f"{one.name}.{facts.settings.namespaces.apps}.svc.cluster.local"
    caller = facts.catalogue.names[-1]
    known, foreign = account(facts, caller), _foreign(facts, caller)

    def ask(host: str, tls: Tls | None = None, *sent: tuple[str, str]) -> Request:
        return Request(
            f"{GATEWAY}:15443", host, path=f"{route.path}/1", tls=tls, headers=sent, timeout=15.0
        )

    token = headers(facts)
    return Contract(
        "mtls.east-west",
        "The east-west entry on port 15443 serves only callers with a certificate of the mesh.",
        DOCUMENT,
        (
            Call(CLIENT, ask(inside, Tls(inside), *token), REFUSED),
            Call(CLIENT, ask(api, Tls(api), *token), REFUSED),
            Call(CLIENT, ask(api, None, *token), REFUSED),
            Call(
                Caller("identity", known),
                ask(api, Tls(api), *token),
                Expect((200,), served_by=one.name),
            ),
            # A certificate is no token.
            Call(Caller("identity", known), ask(api, Tls(api)), DENIED),
            Call(Caller("identity", known, "foreign"), ask(api, Tls(api), *token), REFUSED),
            # Gateways take every domain's certificates that the mesh's CA has signed, policies don't.
            Call(Caller("identity", foreign), ask(api, Tls(api), *token), DENIED),
        ),
    )


def _foreign(facts: Facts, name: str) -> str:
    trust_domain = facts.settings.control_plane.trust_domain
    return account(facts, name).replace(f"//{trust_domain}/", "//foreign.example/", 1)
