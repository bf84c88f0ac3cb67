"""Tokens: which are accepted, and where one is needed."""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import cycle
from urllib.parse import quote

from joserfc.jwk import RSAKey

from lab.contracts import preflights
from lab.contracts.access import (
    REFUSED_GRPC,
    account,
    gateway,
    http_port,
    instances,
    raw_grpc,
    request,
)
from lab.contracts.contract import (
    CLIENT,
    DENIED,
    UNAUTHENTICATED,
    Call,
    Caller,
    Contract,
    Expect,
)
from lab.contracts.contract import (
    service as through,
)
from lab.contracts.facts import Facts
from lab.contracts.ways_in import OVER_GRPC, others, shared, sockets
from lab.exchange import Request

DOCUMENT = "security.md"
_BAD = (
    "A token that is expired, not yet valid, signed by another key or in another way, unsigned, or"
    " from an unlisted issuer is refused with 401."
)


def contracts(facts: Facts) -> Iterator[Contract]:
    """The family `jwt`."""
    exposures = facts.catalogue.exposures
    protected = [route for _, route in exposures if route.access == "token"]
    public = [(one, route) for one, route in exposures if route.access == "public"]
    yield Contract(
        "jwt.none",
        "A route needs a token unless the catalogue declares it public and says why.",
        DOCUMENT,
        tuple(
            Call(CLIENT, facts.api(f"{route.path}/1", method=method), DENIED)
            for route in protected
            for method in (route.methods or ("GET", "POST"))
        )
        + tuple(
            Call(CLIENT, facts.grpc(f"/{grpc.name}/Get"), Expect((200,), grpc="PERMISSION_DENIED"))
            for one in facts.catalogue.services
            for grpc in one.grpc
        )
        + tuple(Call(CLIENT, way.ask(), way.denied) for way in (*sockets(facts), *shared(facts))),
        safe=True,
    )
    bad = dict(_bad_tokens(facts))
    for name, token in bad.items():
        yield _refused(facts, name, token)
    yield Contract(
        "jwt.audience",
        "A token for another audience is refused with 403.",
        DOCUMENT,
        tuple(_denied(facts, facts.token(aud="another")))
        + tuple(_inside(facts, {"another": facts.token(aud="another")}, DENIED, "7")),
    )
    yield Contract(
        "jwt.no-subject",
        "A token without a subject is refused with 403.",
        DOCUMENT,
        tuple(
            call
            for token in (facts.token(sub=None), facts.token(sub=""))
            for call in _denied(facts, token)
        ),
    )
    yield Contract(
        "jwt.issuers",
        "Tokens of every listed issuer are accepted.",
        DOCUMENT,
        tuple(
            Call(
                CLIENT,
                _ask(facts, facts.token(issuer=number, aud=audience)),
                Expect((200,), served_by="identity-service"),
            )
            for number, issuer in enumerate(facts.settings.authentication.issuers)
            for audience in issuer.audiences
        )
        + tuple(
            Call(
                CLIENT,
                way.ask(*facts.bearer(issuer=number, aud=issuer.audiences[0])),
                way.served,
            )
            for number, issuer in enumerate(facts.settings.authentication.issuers)
            for way in others(facts)
        ),
    )
    yield Contract(
        "jwt.public",
        "A public route is open without a token, and still refuses a bad one with 401.",
        DOCUMENT,
        tuple(
            call
            for one, route in public
            for method in ((route.methods or ("GET", "POST"))[0],)
            for call in (
                Call(
                    CLIENT,
                    facts.api(route.path, method=method),
                    Expect((200,), served_by=one.name),
                ),
                Call(
                    CLIENT,
                    facts.api(route.path, _authorization(bad["expired"]), method=method),
                    UNAUTHENTICATED,
                ),
            )
        ),
    )
    yield Contract(
        "jwt.inside",
        "A bad token is refused with 401 by every service too, whoever hands it on inside the mesh.",
        DOCUMENT,
        tuple(_inside(facts, bad, UNAUTHENTICATED, "16")),
    )
    yield Contract(
        "jwt.past-gateway",
        "A service asks for the token again: on a route that needs one it serves not even the"
        " gateway without it.",
        DOCUMENT,
        tuple(_past_gateway(facts)),
    )
    yield from preflights.contracts(facts)


def _inside(
    facts: Facts, tokens: Mapping[str, str], expect: Expect, grpc_status: str
) -> Iterator[Call]:
    """Each token to each port of each service, past a caller's proxy and through it."""
    for one in facts.catalogue.services:
        caller = facts.catalogue.callers(one)[0]
        identity = Caller("identity", account(facts, caller))
        for token in tokens.values():
            sent = (_authorization(token),)
            asked = request(facts, one, "service")
            yield Call(through(caller), replace(asked, headers=sent), expect)
            for port in one.ports:
                if port.protocol == "grpc":
                    called = replace(raw_grpc(facts, one, port), headers=(*OVER_GRPC, *sent))
                    refused = Expect((200,), headers=(("grpc-status", grpc_status),))
                    yield Call(identity, called, refused)
        for token, instance in zip(cycle(tokens.values()), instances(one), strict=False):
            asked = replace(
                request(facts, one, "pod"),
                address=f"pod:{instance}:{http_port(one).number}",
                headers=(_authorization(token),),
            )
            yield Call(identity, asked, expect)


def _past_gateway(facts: Facts) -> Iterator[Call]:
    """With the gateway's identity, as if the gateway let everything in."""
    caller = gateway(facts)
    for one in facts.catalogue.services:
        asked = [
            (route.path, method, facts.settings.api_host)
            for route in one.routes
            if route.access == "token"
            for method in route.methods or ("GET", "POST")
        ]
        asked += [(socket.path, "GET", facts.settings.ws_host) for socket in one.websockets]
        for path, method, host in asked:
            address = f"pod:{one.name}:{http_port(one).number}"
            request = Request(address, host, method=method, path=f"{path}/1", timeout=15.0)
            yield Call(caller, request, DENIED)
        for grpc in one.grpc:
            called = raw_grpc(facts, one, one.port(grpc.port), f"/{grpc.name}/Get")
            yield Call(caller, replace(called, headers=OVER_GRPC), REFUSED_GRPC)


def _refused(facts: Facts, name: str, token: str) -> Contract:
    places = [_ask(facts, token)]
    for one in facts.catalogue.services:
        places += [
            facts.api(f"{route.path}/1", _authorization(token), method=route.methods[0])
            if route.methods
            else facts.api(f"{route.path}/1", _authorization(token))
            for route in one.routes
            if route.access == "token"
        ]
    return Contract(
        f"jwt.{name}",
        _BAD,
        DOCUMENT,
        tuple(Call(CLIENT, place, UNAUTHENTICATED) for place in places)
        + tuple(
            Call(CLIENT, way.ask(_authorization(token)), way.unauthenticated)
            for way in others(facts)
        ),
    )


def _denied(facts: Facts, token: str) -> Iterator[Call]:
    """A token that is believed and not enough, at every way in."""
    for _, route in facts.catalogue.exposures:
        if route.access == "token":
            method = (route.methods or ("GET",))[0]
            asked = facts.api(f"{route.path}/1", _authorization(token), method=method)
            yield Call(CLIENT, asked, DENIED)
    for way in others(facts):
        yield Call(CLIENT, way.ask(_authorization(token)), way.denied)


def _bad_tokens(facts: Facts) -> Iterator[tuple[str, str]]:
    yield "expired", facts.token(lifetime=-3600)
    yield "not-yet-valid", facts.token(nbf=4_000_000_000, exp=4_000_003_600)
    stranger = RSAKey.generate_key(2048, {"kid": facts.issuers.key(0).kid or "", "use": "sig"})
    yield "wrong-key", facts.token(key=stranger)
    if len(facts.settings.authentication.issuers) > 1:
        yield "other-issuers-key", facts.token(issuer=0, key=facts.issuers.key(1))
    yield "unlisted-issuer", facts.token(iss="https://evil.example")
    yield "unlisted-issuer-own-key", facts.token(iss="https://evil.example", key=stranger)
    yield "unknown-key", facts.token(key=RSAKey.generate_key(2048, {"kid": "none", "use": "sig"}))
    yield "symmetric", _symmetric(facts)
    payload = facts.token().split(".")[1]
    yield "unsigned", f"{_encoded({'alg': 'none', 'typ': 'JWT'})}.{payload}."
    yield "unsigned-claimed-signed", f"{facts.token().split('.')[0]}.{payload}."
    header, _, signature = facts.token().split(".")
    forged = json.loads(base64.urlsafe_b64decode(payload + "=="))
    forged[facts.settings.authentication.role.claim] = "super-admin"
    yield "changed", f"{header}.{_encoded(forged)}.{signature}"
    yield "no-token-at-all", quote("not a token")


def _symmetric(facts: Facts) -> str:
    """Signed with the issuer's public key as if it were a shared secret (HS256)."""
    public = facts.issuers.key(0)
    header = {"alg": "HS256", "typ": "JWT", "kid": public.kid}
    payload = facts.token().split(".")[1]
    signed = f"{_encoded(header)}.{payload}"
    digest = hmac.digest(public.as_pem(private=False), signed.encode(), "sha256")
    return f"{signed}.{base64.urlsafe_b64encode(digest).decode().rstrip('=')}"


def _encoded(content: Mapping[str, object]) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")


def _authorization(token: str) -> tuple[str, str]:
    return ("authorization", f"Bearer {token}")


def _ask(facts: Facts, token: str) -> Request:
    return facts.api("/api/v1/users/1", _authorization(token))
