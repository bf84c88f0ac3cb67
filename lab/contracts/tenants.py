"""Tenants: what a token says decides, never what a client says."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

from components.gateway_workload import GATEWAY
from lab.contracts.access import grpc as grpc_call
from lab.contracts.addresses import Header
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
_PADDED = (f" {TENANT}", f"{TENANT} ", f"\t{TENANT}", f"{TENANT}\t", " ", "\t")


def contracts(facts: Facts) -> Iterator[Contract]:
    """The family `tenant`."""
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
    yield _padded(facts)
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
                *((facts.bearer(**{names.tenant.claim: padded}), None) for padded in _PADDED),
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


def _padded(facts: Facts) -> Contract:
    """Tenants with blanks around their names, which a header loses on its way."""
    claim = facts.settings.authentication.tenant.claim
    asked = [
        *((partial(facts.api, route.path), DENIED) for _, route in facts.readable()),
        *((way.ask, way.denied) for way in others(facts)),
    ]
    return Contract(
        "tenant.padded",
        "A token of which the tenant begins or ends with a blank or a tab is one without a tenant.",
        DOCUMENT,
        tuple(
            Call(CLIENT, ask(*facts.bearer(**{claim: padded})), expect)
            for ask, expect in asked
            for padded in _PADDED
        ),
        watch=refused_at_gateway,
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
