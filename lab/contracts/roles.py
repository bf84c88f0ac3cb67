"""Roles: who may use the operations that are restricted to some, and from where."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lab.contracts.access import gateway, http_port
from lab.contracts.addresses import ELSEWHERE, Header, forwarded, from_administration
from lab.contracts.contract import (
    CLIENT,
    DENIED,
    Call,
    Contract,
    Expect,
    service,
)
from lab.contracts.facts import Facts
from lab.contracts.reached import refused_at_gateway
from lab.exchange import Request

DOCUMENT = "security.md"
Claimed = str | list[str] | None
"""What a token's claim may hold; None where it has none."""
SERVED = Expect((200,))


def contracts(facts: Facts) -> Iterator[Contract]:
    """The family `role`."""
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
