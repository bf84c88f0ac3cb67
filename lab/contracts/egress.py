"""Egress: what leaves the mesh, and from which service."""

from __future__ import annotations

from collections.abc import Iterator

from lab.contracts.contract import Call, Contract, Expect, service
from lab.contracts.facts import Facts
from lab.exchange import Request
from lab.infrastructure import UNDECLARED_HOST

DOCUMENT = "security.md"
_BLOCKED = Expect((0,))


def contracts(facts: Facts) -> Iterator[Contract]:
    """The family `egress`."""
    services = facts.catalogue.services
    hosts = sorted({host for one in services for host in one.egress})
    yield Contract(
        "egress.undeclared",
        "A service reaches hosts outside the mesh only if it declares them; everything else is"
        " blocked.",
        DOCUMENT,
        tuple(
            Call(service(one.name), _request(facts, UNDECLARED_HOST), _BLOCKED) for one in services
        ),
    )
    yield Contract(
        "egress.declared",
        "A declared host can be reached by the service that declares it, and by no other.",
        DOCUMENT,
        tuple(
            Call(
                service(one.name),
                _request(facts, host),
                Expect((200,)) if host in one.egress else _BLOCKED,
            )
            for host in hosts
            for one in services
        ),
    )


def _request(facts: Facts, host: str) -> Request:
    return Request(f"{host}:443", host, tls=facts.tls(host))
