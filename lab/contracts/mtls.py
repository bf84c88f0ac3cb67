"""Mutual TLS: nothing talks to a service without a certificate of the mesh."""

from __future__ import annotations

from collections.abc import Iterator

from lab.contracts.access import account, headers, request
from lab.contracts.contract import (
    CLIENT,
    GATEWAY,
    NOT_REACHED,
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
_SERVED = Expect((401, 403, 404))
"""An answer of the gateway, which has no route without a token there."""


def contracts(facts: Facts) -> Iterator[Contract]:
    """The family `mtls`."""
    services = facts.catalogue.services
    yield Contract(
        "mtls.plaintext",
        "Every connection between workloads is mutual TLS; plain text to a service is refused.",
        DOCUMENT,
        tuple(
            Call(PLAIN, Request(f"pod:{one.name}:{port.number}", one.name), REFUSED)
            for one in services
            for port in one.ports
        ),
    )
    yield Contract(
        "mtls.foreign-certificate",
        "A certificate of another trust domain is refused.",
        DOCUMENT,
        tuple(
            Call(
                Caller("identity", account(facts, facts.catalogue.callers(one)[0]), "foreign"),
                request(facts, one, "pod"),
                REFUSED,
            )
            for one in services
        ),
    )
    yield Contract(
        "mtls.foreign-domain",
        "A certificate of another trust domain is refused.",
        DOCUMENT,
        tuple(
            Call(
                Caller("identity", _foreign(facts, facts.catalogue.callers(one)[0])),
                request(facts, one, "pod"),
                Expect((0, 403)),
            )
            for one in services
        ),
    )
    host = f"identity-service.{facts.settings.namespaces.apps}.svc.cluster.local"
    if facts.settings.gateway.east_west:
        api = facts.settings.api_host
        yield Contract(
            "mtls.east-west",
            "The east-west entry on port 15443 serves only callers with a certificate of the mesh.",
            DOCUMENT,
            (
                Call(
                    CLIENT,
                    Request(f"{GATEWAY}:15443", host, tls=Tls(host), headers=headers(facts)),
                    REFUSED,
                ),
                Call(
                    CLIENT,
                    Request(f"{GATEWAY}:15443", api, tls=Tls(api), headers=headers(facts)),
                    REFUSED,
                ),
                Call(CLIENT, Request(f"{GATEWAY}:15443", host), REFUSED),
                Call(
                    Caller("identity", account(facts, "voice-engine")),
                    Request(f"{GATEWAY}:15443", api, tls=Tls(api), headers=headers(facts)),
                    _SERVED,
                ),
                Call(
                    Caller("identity", account(facts, "voice-engine"), "foreign"),
                    Request(f"{GATEWAY}:15443", api, tls=Tls(api), headers=headers(facts)),
                    NOT_REACHED,
                ),
            ),
        )


def _foreign(facts: Facts, name: str) -> str:
    trust_domain = facts.settings.control_plane.trust_domain
    return account(facts, name).replace(f"//{trust_domain}/", "//foreign.example/", 1)
