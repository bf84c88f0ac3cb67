"""Connections of clients: idle ones, slow ones, and how much one of them carries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from lab.contracts.contract import CLIENT, REFUSED, Call, Contract, Expect, Judge
from lab.contracts.facts import Facts
from lab.exchange import Reply, Request
from lab.wire import IDLE, STREAMS
from model.values import seconds

DOCUMENT = "edge.md"
_LONGEST = 10
"""Seconds of the longest limit that a contract waits for."""
_DRAINED = 6.0
"""Seconds that Envoy drains a connection which had requests before it closes it: five until it
stops taking new ones, one until it no longer waits for the client to close."""
_ANSWERED = Expect((200, 401, 403, 404))
"""Whatever it says: the connection has had a request."""
_LATE = 2.0
"""Seconds that a busy machine may be late."""
_PATIENCE = 20.0
"""Seconds that a client listens to a connection that is not closed."""
_EARLY = 0.2
"""Seconds that the two ends' clocks may differ: the server's began first."""
_BEYOND = 10
_H2_PREFACE = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + "\0\0\0\4\0\0\0\0\0"
"""With it an HTTP/2 client begins, then come its SETTINGS, here none."""
_H2_UNFINISHED = "\0\0\3\1\0\0\0\0\1" + "\x82\x87\x84"
"""HEADERS of a first stream, without the flag that says that no more will come: GET, https, /."""


def contracts(facts: Facts) -> Iterator[Contract]:
    """The family `connection`."""
    yield from _idle(facts)
    yield from _headers(facts)
    yield from _streams(facts)


def _open_path(facts: Facts) -> str:
    """A public path that neither tokens nor tenants' limits keep anyone from."""
    return next(
        route.path
        for _, route in facts.catalogue.exposures
        if route.access == "public" and not route.login
    )


def _wire(facts: Facts, kind: str, *messages: str, protocol: str = "http/1.1") -> Request:
    request = facts.api(_open_path(facts), kind=kind, messages=messages, timeout=_PATIENCE)
    return replace(request, tls=replace(facts.tls(request.authority), alpn=(protocol,)))


def _idle(facts: Facts) -> Iterator[Contract]:
    limit = float(seconds(facts.settings.edge.connection_idle))
    streaming = next(
        (route for _, route in facts.catalogue.exposures if route.streaming and not route.methods),
        None,
    )
    if limit > _LONGEST or streaming is None:
        return
    whole = f"GET {_open_path(facts)} HTTP/1.1\r\nHost: {facts.settings.api_host}\r\n\r\n"
    yield Contract(
        "connection.idle",
        "A connection without any request is closed after `connectionIdle`.",
        DOCUMENT,
        (
            Call(CLIENT, _wire(facts, "bytes"), REFUSED),
            Call(CLIENT, _wire(facts, "bytes", protocol="h2"), REFUSED),
            Call(CLIENT, _wire(facts, "bytes", whole), _ANSWERED),
            Call(CLIENT, _wire(facts, "streams", protocol="h2"), _ANSWERED),
            # One with a request is not.
            Call(
                CLIENT,
                facts.api(
                    f"{streaming.path}/1?delay={limit + 2:g}s", *facts.bearer(), timeout=30.0
                ),
                Expect((200,)),
            ),
        ),
        closed_after(limit, silent=slice(0, 2), served=slice(2, 4)),
        patient=True,
    )


def closed_after(limit: float, *, silent: slice, served: slice) -> Judge:
    """Connections that never had a request were closed in time; the others drained in time."""

    def judge(replies: Sequence[Reply]) -> str | None:
        expected = ((silent, limit), (served, limit + _DRAINED))
        for part, most in expected:
            for reply in replies[part]:
                if IDLE not in reply.extra:
                    return f"a connection was not closed: {reply}"
                # From the connection's last request on, whose answer came within moments.
                if not limit - _EARLY <= reply.seconds <= most + _LATE:
                    return (
                        f"a connection was closed after {reply.seconds:.1f} s ({reply}),"
                        f" {limit:g} to {most:g} s are right"
                    )
        return None

    return judge


def _headers(facts: Facts) -> Iterator[Contract]:
    edge = facts.settings.edge
    limit, idle = float(seconds(edge.request_headers)), float(seconds(edge.stream_idle))
    if limit > _LONGEST or limit >= idle:
        return
    begun = f"GET {_open_path(facts)} HTTP/1.1\r\nHost: {facts.settings.api_host}\r\n"
    # A line in each third of a second: a client that is slow, not one that is silent.
    lines = ("X-Slow: 1\r\n",) * int(idle * 6)
    slow = replace(_wire(facts, "bytes", begun, *lines), pauses=_PAUSE, timeout=idle + 5)
    plain = replace(slow, address="gateway:80", tls=None)
    h2 = _wire(facts, "bytes", _H2_PREFACE + _H2_UNFINISHED, protocol="h2")
    yield Contract(
        "connection.headers",
        "A client that has not sent its headers after `requestHeaders` is cut off.",
        DOCUMENT,
        (
            Call(CLIENT, slow, Expect((408,))),
            Call(CLIENT, plain, Expect((408,))),
            # What it is told is HTTP/2, and no status to this client.
            Call(CLIENT, replace(h2, pauses=_PAUSE, timeout=idle + 5), Expect((0,), given_up=True)),
        ),
        cut_off(limit, idle),
        patient=True,
    )


_PAUSE = 0.33
_STATUS_408 = "408"


def cut_off(limit: float, idle: float) -> Judge:
    """The 408 came after `limit`, and so long before `idle` that it was not for idleness."""

    def judge(replies: Sequence[Reply]) -> str | None:
        for reply in replies:
            if _STATUS_408 not in reply.body:
                return f"a client was not told 408: {reply.error or reply.body[:40]!r}"
            # HTTP/1.1 servers say nothing before; of HTTP/2 servers the refusal is one of the things
            # that come.
            told = [at - _PAUSE for at in reply.arrivals[: 1 if reply.status else None]]
            if not any(limit - _EARLY <= at <= limit + (idle - limit) * 0.8 for at in told):
                after = ", ".join(f"{at:.2f}" for at in told)
                return f"a client was cut off after {after} s, {limit:g} s are its limit"
        return None

    return judge


def _streams(facts: Facts) -> Iterator[Contract]:
    limit = facts.settings.edge.http2.max_concurrent_streams
    # Long enough that all are there at once.
    delayed = replace(
        _wire(facts, "streams", protocol="h2"),
        path=f"{_open_path(facts)}?delay=1500ms",
        timeout=9.0,
    )
    yield Contract(
        "connection.streams",
        "One HTTP/2 connection carries no more than `http2.maxConcurrentStreams` requests at once.",
        DOCUMENT,
        (
            Call(CLIENT, replace(delayed, streams=limit), Expect((200,))),
            Call(CLIENT, replace(delayed, streams=limit + _BEYOND), Expect((0, 200))),
        ),
        carried(limit),
        patient=True,
    )


def carried(limit: int) -> Judge:
    """As many as the limit were served, all of them; of more, no more than the limit."""

    def judge(replies: Sequence[Reply]) -> str | None:
        for reply in replies:
            if reply.extra.get(STREAMS) != str(limit):
                return f"the gateway's SETTINGS say {reply.extra.get(STREAMS)}, not {limit}"
        allowed, beyond = (reply.messages.count("200") for reply in replies)
        if allowed != limit:
            return f"of {limit} requests on one connection {allowed} were served"
        if beyond > limit:
            return f"{beyond} requests were served at once on one connection, not {limit}"
        return None

    return judge
