"""Tokens: which are accepted, and where one is needed."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from urllib.parse import quote

from joserfc.jwk import RSAKey

from lab.contracts.contract import CLIENT, DENIED, UNAUTHENTICATED, Call, Contract, Expect
from lab.contracts.facts import Facts
from lab.contracts.ways_in import others, sockets
from lab.exchange import Request

DOCUMENT = "security.md"
_BAD = (
    "A token that is expired, not yet valid, signed by another key, unsigned, or from an unlisted"
    " issuer is refused with 401."
)


def contracts(facts: Facts) -> Iterator[Contract]:
    """The family `jwt`."""
    exposures = facts.catalogue.exposures
    protected = [(service, route) for service, route in exposures if route.access == "token"]
    public = [(service, route) for service, route in exposures if route.access == "public"]
    yield Contract(
        "jwt.none",
        "A route needs a token unless the catalogue declares it public and says why.",
        DOCUMENT,
        tuple(
            Call(CLIENT, facts.api(f"{route.path}/1", method=method), DENIED)
            for _, route in protected
            for method in (route.methods or ("GET", "POST"))
        )
        + tuple(
            Call(CLIENT, facts.grpc(f"/{grpc.name}/Get"), Expect((200,), grpc="PERMISSION_DENIED"))
            for service in facts.catalogue.services
            for grpc in service.grpc
        )
        + tuple(Call(CLIENT, way.ask(), way.denied) for way in sockets(facts)),
        safe=True,
    )
    bad = dict(_bad_tokens(facts))
    for name, token in bad.items():
        yield _refused(facts, name, token)
    yield Contract(
        "jwt.audience",
        "A token for another audience is refused with 403.",
        DOCUMENT,
        tuple(_denied(facts, facts.token(aud="another"))),
    )
    yield Contract(
        "jwt.no-subject",
        "A token without a subject is refused with 403.",
        DOCUMENT,
        tuple(_denied(facts, facts.token(sub=None))),
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
            for service, route in public
            for method in ((route.methods or ("GET", "POST"))[0],)
            for call in (
                Call(
                    CLIENT,
                    facts.api(route.path, method=method),
                    Expect((200,), served_by=service.name),
                ),
                Call(
                    CLIENT,
                    facts.api(route.path, _authorization(bad["expired"]), method=method),
                    UNAUTHENTICATED,
                ),
            )
        ),
    )
    yield from _preflight(facts)


def _refused(facts: Facts, name: str, token: str) -> Contract:
    places = [_ask(facts, token)]
    for service in facts.catalogue.services:
        places += [
            facts.api(f"{route.path}/1", _authorization(token), method=route.methods[0])
            if route.methods
            else facts.api(f"{route.path}/1", _authorization(token))
            for route in service.routes
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
    payload = facts.token().split(".")[1]
    yield "unsigned", f"{_encoded({'alg': 'none', 'typ': 'JWT'})}.{payload}."
    yield "unsigned-claimed-signed", f"{facts.token().split('.')[0]}.{payload}."
    header, _, signature = facts.token().split(".")
    forged = json.loads(base64.urlsafe_b64decode(payload + "=="))
    forged[facts.settings.authentication.role.claim] = "super-admin"
    yield "changed", f"{header}.{_encoded(forged)}.{signature}"
    yield "no-token-at-all", quote("not a token")


def _encoded(content: dict[str, object]) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")


def _authorization(token: str) -> tuple[str, str]:
    return ("authorization", f"Bearer {token}")


def _ask(facts: Facts, token: str) -> Request:
    return facts.api("/api/v1/users/1", _authorization(token))


def _preflight(facts: Facts) -> Iterator[Contract]:
    origins = facts.settings.edge.cors.allowed_origins
    if not origins:
        return

    def preflight(origin: str) -> Request:
        return facts.api(
            "/api/v1/users",
            ("origin", origin),
            ("access-control-request-method", "GET"),
            ("access-control-request-headers", "authorization"),
            method="OPTIONS",
        )

    allowed = Expect(
        (200, 204),
        headers=(
            ("access-control-allow-origin", origins[0]),
            ("access-control-allow-credentials", "true"),
        ),
    )
    yield Contract(
        "jwt.preflight",
        "A CORS preflight passes without a token and is answered by the gateway; any other OPTIONS"
        " request needs one.",
        DOCUMENT,
        (
            Call(CLIENT, preflight(origins[0]), allowed),
            Call(
                CLIENT,
                preflight("https://evil.example"),
                Expect((200, 204, 403), headers=(("access-control-allow-origin", None),)),
            ),
            Call(CLIENT, facts.api("/api/v1/users", method="OPTIONS"), DENIED),
            Call(
                CLIENT, facts.api("/api/v1/users", ("origin", origins[0]), method="OPTIONS"), DENIED
            ),
        ),
        safe=True,
    )
