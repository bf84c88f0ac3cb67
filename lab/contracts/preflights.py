"""Browsers: preflights pass without a token, and only named origins may read what is answered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

from components.gateway_workload import GATEWAY
from components.virtual_service import (
    CORS_EXPOSED_HEADERS,
    CORS_METHODS,
    CORS_REQUEST_HEADERS,
)
from lab.contracts.contract import CLIENT, DENIED, Call, Contract, Expect, Recorded
from lab.contracts.facts import Facts
from lab.exchange import Reply, Request
from model.service import Route, Service
from model.values import seconds

DOCUMENT = "security.md"
Headers = tuple[tuple[str, str | None], ...]
_ORIGIN, _CREDENTIALS = "access-control-allow-origin", "access-control-allow-credentials"
_METHODS, _HEADERS = "access-control-allow-methods", "access-control-allow-headers"
_AGE, _EXPOSED = "access-control-max-age", "access-control-expose-headers"
_NONE: Headers = tuple(
    (name, None) for name in (_ORIGIN, _CREDENTIALS, _METHODS, _HEADERS, _AGE, _EXPOSED)
)


def contracts(facts: Facts) -> Iterator[Contract]:
    """The family `cors`, and of `jwt` what passes without a token for browsers' sake."""
    cors = facts.settings.edge.cors
    origins = cors.allowed_origins
    if not origins:
        return
    exposures = facts.catalogue.exposures
    yield Contract(
        "jwt.preflight",
        "A CORS preflight passes without a token and is answered by the gateway; any other OPTIONS"
        " request to a route that needs a token needs one too.",
        DOCUMENT,
        (
            *(
                Call(
                    CLIENT,
                    _preflight(facts, route, origin),
                    Expect((200,), headers=_allowed(facts, one, origin)),
                )
                for one, route in exposures
                for origin in origins
            ),
            *(
                Call(CLIENT, facts.api(route.path, *sent, method="OPTIONS"), DENIED)
                for _, route in exposures
                if route.access == "token"
                for sent in ((), (("origin", origins[0]),), _ASKED)
            ),
        ),
        watch=answered_by_gateway,
        safe=True,
    )
    yield Contract(
        "cors.refused",
        "A preflight of any other origin ends at the gateway as well, with an answer that names no"
        " origin, so that the browser goes no further.",
        DOCUMENT,
        tuple(
            Call(
                CLIENT, _preflight(facts, route, origin), Expect((200,), headers=((_ORIGIN, None),))
            )
            for _, route in exposures
            for origin in _others(origins)
        ),
        watch=answered_by_gateway,
    )
    readable = [
        (one, route, (route.methods or ("GET",))[0])
        for one, route in exposures
        if not any(not rule.methods or "GET" in rule.methods for rule in route.restricted)
    ]
    yield Contract(
        "cors.requests",
        "An answer to a request from an allowed origin names that origin, allows credentials and"
        " shows the request's id and the state of its limits; one to any other origin does not.",
        DOCUMENT,
        tuple(
            Call(
                CLIENT,
                facts.api(
                    f"{route.path}{'/1' if route.access == 'token' else ''}",
                    *(facts.bearer() if route.access == "token" else ()),
                    ("origin", origin),
                    method=method,
                ),
                Expect((200,), served_by=one.name, headers=told),
            )
            for one, route, method in readable
            for origin, told in (
                *((origin, _named(origin)) for origin in origins),
                (next(_others(origins)), _NONE),
            )
        ),
    )
    yield Contract(
        "cors.refusals",
        "What is refused for its token or by a policy (401, 403) has no CORS headers: the browser"
        " keeps it from the page.",
        DOCUMENT,
        tuple(
            Call(
                CLIENT,
                facts.api(f"{route.path}/1", ("origin", origins[0]), *sent, method=method),
                Expect((status,), headers=_NONE),
            )
            for _, route, method in readable
            if route.access == "token"
            for sent, status in (((), 403), ((("authorization", "Bearer wrong"),), 401))
        ),
    )


_ASKED = (
    ("access-control-request-method", "GET"),
    ("access-control-request-headers", "authorization"),
)


def _preflight(facts: Facts, route: Route, origin: str) -> Request:
    return facts.api(route.path, ("origin", origin), *_ASKED, method="OPTIONS")


def _allowed(facts: Facts, one: Service, origin: str) -> Headers:
    """What a preflight is told; the headers of a service's cohorts are allowed too."""
    split = facts.settings.traffic.get(one.name)
    marks = [cohort.header.lower() for cohort in (split.cohorts if split else ()) if cohort.header]
    age = seconds(facts.settings.edge.cors.max_age)
    return (
        (_ORIGIN, origin),
        (_CREDENTIALS, "true"),
        (_METHODS, ",".join(CORS_METHODS)),
        (_HEADERS, ",".join(dict.fromkeys((*CORS_REQUEST_HEADERS, *marks)))),
        (_AGE, f"{age:.0f}"),
    )


def _named(origin: str) -> Headers:
    return (
        (_ORIGIN, origin),
        (_CREDENTIALS, "true"),
        (_EXPOSED, ",".join(CORS_EXPOSED_HEADERS)),
    )


def _others(origins: Sequence[str]) -> Iterator[str]:
    """Origins that are not allowed, most of them made to look as if they were."""
    lookalikes = [
        lookalike
        for origin in origins
        for scheme, host in [urlsplit(origin)[:2]]
        for lookalike in (
            f"{origin}.evil.example",
            f"{scheme}://evil.{host}",
            f"{scheme}://evil{host}",
            f"{'http' if scheme == 'https' else 'https'}://{host}",
            f"{origin}:8443",
            f"{origin}/",
            origin.replace(".", "-", 1),
        )
    ]
    for one in ("https://evil.example", "null", *lookalikes):
        if one not in origins:
            yield one


def answered_by_gateway(_: Sequence[Reply], recorded: Recorded) -> str | None:
    """Every request is in the gateway's log, and in that of nobody behind it."""
    for lines in recorded.lines:
        proxies = [str(line["proxy"]) for line in lines]
        if not any(proxy.startswith(GATEWAY) for proxy in proxies):
            return "a request is not in the gateway's log"
        if behind := sorted({one for one in proxies if not one.startswith(GATEWAY)}):
            return f"a request that the gateway must answer itself came to {', '.join(behind)}"
    return None if recorded.lines else "no request was recorded"
