"""The edge: headers of every answer, the request's id, bodies, silent requests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from components.edge.headers import REMOVED, security_headers
from lab.contracts.contract import CLIENT, Call, Contract, Expect, Judge
from lab.contracts.facts import Facts
from lab.contracts.reached import refused_at_gateway
from lab.contracts.stream_requests import over_http1
from lab.contracts.ways_in import others
from lab.exchange import Reply, Request
from model.service import Route, Service
from model.values import seconds

DOCUMENT = "edge.md"
Headers = tuple[tuple[str, str | None], ...]
_ONE_PROTOCOL = ("http/1.1",)


def contracts(facts: Facts) -> Iterator[Contract]:
    """The families `header`, `request-id`, `body` and `idle`."""
    yield from _headers(facts)
    yield from _request_id(facts)
    yield from _bodies(facts)
    yield from _idle(facts)


def _expected(facts: Facts, *, encrypted: bool = True) -> Headers:
    return tuple(security_headers(facts.settings.edge, encrypted=encrypted).items())


def _kinds_of_answer(facts: Facts) -> Iterator[tuple[Request, int]]:
    """One request for each kind of answer that the gateway gives over TLS."""
    yield facts.api("/health"), 200
    yield facts.api("/api/v1/users/1", *facts.bearer()), 200
    yield facts.api("/api/v1/users/1", *facts.bearer(), ("x-filler", "1"), method="POST"), 200
    yield facts.api("/api/v1/users/1"), 403
    yield facts.api("/api/v1/users/1", ("authorization", "Bearer wrong")), 401
    yield facts.api("/no/such/route", *facts.bearer()), 403
    size = facts.settings.edge.bodies.limit + 1
    yield facts.api("/api/v1/users/1", *facts.bearer(), method="POST", body_size=size), 413
    yield _http1(facts, facts.api("/health", ("x_underscore", "1"))), 400
    # Said by the services themselves: the codes that a client sees most.
    for code in (302, 404, 500, 503):
        yield facts.api(f"/health?codes={code}"), code
    for way in others(facts):
        for sent, expect in (
            (facts.bearer(), way.served),
            ((), way.denied),
            ((("authorization", "Bearer wrong"),), way.unauthenticated),
        ):
            yield way.ask(*sent), expect.status[0]


def _redirected(facts: Facts) -> Request:
    """Plain HTTP, which is answered with a redirect."""
    return Request("gateway:80", facts.settings.api_host, path="/health")


def _http1(facts: Facts, request: Request) -> Request:
    return replace(request, tls=replace(facts.tls(request.authority), alpn=_ONE_PROTOCOL))


def _headers(facts: Facts) -> Iterator[Contract]:
    yield Contract(
        "header.security",
        "Every answer of the gateway carries X-Frame-Options DENY, X-Content-Type-Options nosniff,"
        " Content-Security-Policy, Referrer-Policy no-referrer and Permissions-Policy: answers of"
        " services, redirects, 403, 404, 413, 429 and 503 alike, and also 400 for a malformed"
        " request.",
        DOCUMENT,
        tuple(
            Call(
                CLIENT,
                request,
                Expect((status,), headers=_expected(facts, encrypted=False)),
            )
            for request, status in _kinds_of_answer(facts)
        )
        + (
            Call(
                CLIENT,
                _redirected(facts),
                Expect((301,), headers=_expected(facts, encrypted=False)),
            ),
        ),
    )
    hsts = tuple(item for item in _expected(facts) if item not in _expected(facts, encrypted=False))
    yield Contract(
        "header.hsts",
        "Every answer over TLS carries Strict-Transport-Security.",
        DOCUMENT,
        tuple(
            Call(CLIENT, request, Expect((status,), headers=hsts))
            for request, status in _kinds_of_answer(facts)
        )
        + (
            Call(
                CLIENT,
                _redirected(facts),
                Expect((301,), headers=tuple((name, None) for name, _ in hsts)),
            ),
        ),
        safe=False,
    )
    own = ",".join(f"{name}:lax" for name, _ in _expected(facts))
    yield Contract(
        "header.overruled",
        "A service that sets one of these headers itself is overruled; none stands twice.",
        DOCUMENT,
        (Call(CLIENT, facts.api(f"/health?headers={own}"), _all(facts)),),
        _none_twice,
    )
    products = ",".join(f"{name}:product/1.0" for name in REMOVED)
    yield Contract(
        "header.products",
        "No answer carries `server` or `x-powered-by`.",
        DOCUMENT,
        tuple(
            Call(
                CLIENT, request, Expect((status,), headers=tuple((name, None) for name in REMOVED))
            )
            for request, status in (
                (facts.api(f"/health?headers={products}"), 200),
                *_kinds_of_answer(facts),
                (_redirected(facts), 301),
            )
        ),
    )
    yield Contract(
        "header.underscore",
        "A request with an underscore in a header's name is refused with 400 (HTTP/2: the stream is"
        " reset).",
        DOCUMENT,
        tuple(
            call
            for name in ("x_tenant_id", "x_user-role", "a_")
            for request in (facts.api("/api/v1/users/1", *facts.bearer(), (name, "b")),)
            for call in (
                Call(CLIENT, _http1(facts, request), Expect((400,))),
                Call(CLIENT, request, Expect((0,))),
            )
        ),
    )


def _all(facts: Facts) -> Expect:
    return Expect((200,), served_by="ai-orchestrator", headers=_expected(facts))


def _none_twice(replies: Sequence[Reply]) -> str | None:
    for reply in replies:
        names = [name.lower() for name, _ in reply.headers]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            return f"twice in the answer: {', '.join(twice)}"
    return None


def _request_id(facts: Facts) -> Iterator[Contract]:
    yield Contract(
        "request-id.returned",
        "Every request gets an id from the gateway, and the answer returns it in `x-request-id`.",
        DOCUMENT,
        tuple(
            Call(CLIENT, request, Expect((status,)))
            for request, status in (*_kinds_of_answer(facts), (_redirected(facts), 301))
            # A request that is refused before it is one has no id.
            if status != 400
        ),
        _own_id,
    )
    yield Contract(
        "request-id.none",
        "A request that is refused before it is one (a header with an underscore) has no id.",
        DOCUMENT,
        tuple(
            Call(
                CLIENT,
                _http1(facts, facts.api(path, ("x_underscore", "1"))),
                Expect((400,), headers=(("x-request-id", None),)),
            )
            for path in ("/health", "/api/v1/users/1")
        ),
    )
    sent = "11111111-1111-4111-8111-111111111111"
    yield Contract(
        "request-id.replaced",
        "An id that the client sends is replaced.",
        DOCUMENT,
        (
            Call(CLIENT, facts.api("/health", ("x-request-id", sent)), Expect((200,))),
            Call(CLIENT, facts.api("/health", ("X-Request-Id", "mine")), Expect((200,))),
        ),
        _replaced(sent, "mine"),
    )


def _own_id(replies: Sequence[Reply]) -> str | None:
    found = [reply.header("x-request-id") for reply in replies]
    if None in found or len(set(found)) < len(found):
        return f"each answer must have an id of its own, found {found}"
    for reply in replies:
        if reply.served_by and reply.seen("x-request-id") != [reply.header("x-request-id")]:
            return f"the service saw {reply.seen('x-request-id')}, not the id of the answer"
    return None


def _replaced(*sent: str) -> Judge:
    def judge(replies: Sequence[Reply]) -> str | None:
        for reply in replies:
            kept = {*reply.seen("x-request-id"), reply.header("x-request-id")} & set(sent)
            if kept:
                return f"the client's id was kept: {kept}"
        return _own_id(replies)

    return judge


def _writable(facts: Facts) -> list[tuple[Service, Route]]:
    """Routes that take a POST of any client with a token."""
    return [
        (one, route)
        for one, route in facts.catalogue.exposures
        if route.access == "token"
        and (not route.methods or "POST" in route.methods)
        and not any(not rule.methods or "POST" in rule.methods for rule in route.restricted)
    ]


def _bodies(facts: Facts) -> Iterator[Contract]:
    bodies = facts.settings.edge.bodies

    def post(route: Route, size: int) -> Request:
        return facts.api(
            f"{route.path}/1", *facts.bearer(), method="POST", body_size=size, timeout=30.0
        )

    def spoken_post(route: Route, size: int) -> Request:
        """By a client that has no token, and hears an answer while it is still sending."""
        head = (
            f"POST {route.path}/1 HTTP/1.1", f"Host: {facts.settings.api_host}",
            f"Content-Length: {size}", "", "",
        )  # fmt: skip
        said = facts.api(
            route.path, kind="bytes", messages=("\r\n".join(head), "x" * size), timeout=8.0
        )
        return over_http1(facts, said)

    def unsized(route: Route, size: int) -> Request:
        return replace(post(route, size - 1), messages=("x",))

    def at_limit(upload: bool, limit: int) -> tuple[Call, ...]:
        return tuple(
            call
            for one, route in _writable(facts)
            if route.upload == upload and not route.streaming
            for call in (
                Call(CLIENT, post(route, limit), Expect((200,), served_by=one.name)),
                Call(CLIENT, post(route, limit + 1), Expect((413,))),
                # Without content-length, so that the body itself is counted.
                Call(CLIENT, unsized(route, limit), Expect((200,), served_by=one.name)),
                Call(CLIENT, unsized(route, limit + 1), Expect((413,))),
                Call(CLIENT, over_http1(facts, unsized(route, limit + 1)), Expect((413,))),
            )
        )

    yield Contract(
        "body.limit",
        "A request on a unary route with a body larger than `bodies.limit` is answered with 413 and"
        " reaches no service; one of exactly that size passes.",
        DOCUMENT,
        at_limit(False, bodies.limit),
        watch=refused_at_gateway,
    )
    yield Contract(
        "body.unknown",
        "A body that is too large is nothing to somebody without token: the answer is 403, not 413.",
        DOCUMENT,
        tuple(
            Call(CLIENT, spoken_post(route, limit + 1), Expect((403,)))
            for _, route in _writable(facts)
            if not route.streaming
            for limit in (bodies.upload_limit if route.upload else bodies.limit,)
        ),
        patient=True,
    )
    yield Contract(
        "body.upload",
        "A route declared for uploads has `bodies.uploadLimit` instead.",
        DOCUMENT,
        at_limit(True, bodies.upload_limit),
    )


def _idle(facts: Facts) -> Iterator[Contract]:
    limit = float(seconds(facts.settings.edge.stream_idle))
    silent = f"{limit + 2:g}s"
    sentence = (
        "A unary request in which nothing moves for `streamIdle` is ended: 408 while the client is"
        " sending, 504 while the service is silent."
    )
    yield Contract(
        "idle.service-silent",
        sentence,
        DOCUMENT,
        (
            Call(
                CLIENT,
                facts.api(f"/api/v1/users/1?delay={silent}", *facts.bearer(), method="POST"),
                Expect((504,), within=limit + 1.5),
            ),
            Call(
                CLIENT,
                facts.api("/api/v1/users/1?delay=1s", *facts.bearer(), method="POST"),
                Expect((200,), served_by="identity-service"),
            ),
        ),
        patient=True,
    )
    streaming = [(one, route) for one, route in _writable(facts) if route.streaming]
    sockets = [(one, ws) for one in facts.catalogue.services for ws in one.websockets]
    yield Contract(
        "idle.streams",
        "A WebSocket, or a request on a streaming route, may be silent as long as it lasts.",
        DOCUMENT,
        tuple(
            Call(
                CLIENT,
                facts.api(
                    f"{route.path}/1?delay={silent}",
                    *facts.bearer(),
                    ("accept", "text/event-stream"),
                    method="POST",
                    timeout=limit + 15,
                ),
                Expect((200,), served_by=one.name),
            )
            for one, route in streaming
        )
        + tuple(
            Call(
                CLIENT,
                facts.websocket(ws.path, *facts.bearer(), pauses=limit + 2, timeout=limit + 15),
                Expect((101,), served_by=one.name),
            )
            for one, ws in sockets
        ),
        patient=True,
    )
