"""Compression: which answers of the gateway are gzip, and which never are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lab.contracts.contract import CLIENT, Call, Contract, Expect
from lab.contracts.facts import Facts
from lab.exchange import Reply, Request

DOCUMENT = "edge.md"
_ACCEPTED = ("accept-encoding", "gzip")
_GZIP = Expect((200,), headers=(("content-encoding", "gzip"),))
"""A client unpacks it: what it is judged by is what was compressed."""
_PLAIN = Expect((200,), headers=(("content-encoding", None),))


def contracts(facts: Facts) -> Iterator[Contract]:
    """The family `compression`."""
    yield Contract(
        "compression.text",
        "An answer from `compressionFrom` bytes up, or of unknown length, is compressed with gzip"
        " if its type is text and the client accepts it.",
        DOCUMENT,
        (
            *(Call(CLIENT, _large(facts, kind, _ACCEPTED), _GZIP) for kind in _TEXT),
            *(Call(CLIENT, _large(facts, kind, _ACCEPTED), _PLAIN) for kind in _OTHER),
            *(Call(CLIENT, _large(facts, kind), _PLAIN) for kind in _TEXT),
            Call(CLIENT, _large(facts, "text/plain", ("accept-encoding", "br")), _PLAIN),
            Call(CLIENT, _large(facts, "text/plain", ("accept-encoding", "gzip;q=0")), _PLAIN),
            Call(CLIENT, facts.api("/api/v1/users/1", _ACCEPTED), _REFUSED_SMALL),
        ),
        unpacked,
    )
    streaming = [
        (route, method)
        for _, route in facts.catalogue.exposures
        if route.streaming and route.access == "token"
        for method in (route.methods or ("GET", "POST"))[:1]
    ]
    yield Contract(
        "compression.streams",
        "Event streams, gRPC, WebSockets and everything else on streaming routes are never"
        " compressed.",
        DOCUMENT,
        (
            Call(CLIENT, _large(facts, "text/event-stream", _ACCEPTED), _PLAIN),
            *(
                Call(
                    CLIENT,
                    facts.api(
                        f"{route.path}/1?{_typed(kind)}",
                        *facts.bearer(),
                        _ACCEPTED,
                        ("x-filler", _FILLER),
                        method=method,
                    ),
                    _PLAIN,
                )
                for route, method in streaming
                for kind in ("text/event-stream", *_TEXT)
            ),
            *(
                Call(
                    CLIENT,
                    facts.websocket(socket.path, *facts.bearer(), _ACCEPTED),
                    Expect((101,), headers=(("content-encoding", None),)),
                )
                for one in facts.catalogue.services
                for socket in one.websockets
            ),
        ),
    )


_TEXT = ("text/plain", "text/html", "application/json")
_OTHER = ("image/png", "application/octet-stream")
_FILLER = "a" * 4096
"""Comes back in the echo server's answer, which thereby is large enough."""
_REFUSED_SMALL = Expect((403,), headers=(("content-encoding", None),))
"""The gateway's own refusal is text, and far smaller than any answer worth compressing."""


def unpacked(replies: Sequence[Reply]) -> str | None:
    """What was gzip is the service's whole answer once it is unpacked, and was smaller."""
    packed = [reply for reply in replies if reply.header("content-encoding") == "gzip"]
    if not packed:
        return "no answer was compressed"
    for reply in packed:
        if not reply.served_by or reply.seen("x-filler") != [_FILLER]:
            return f"what was compressed is not the service's answer: {reply.body[:80]!r}"
        if reply.size >= len(reply.body):
            return f"{len(reply.body)} bytes became {reply.size} by being compressed"
    return None


def _typed(kind: str) -> str:
    """Has the echo server answer with that type.

    It sets `Content-Type: application/text` itself after all else. A name in capitals is another
    name to it and goes out first; the proxy joins the two, and a media type ends at its semicolon.
    """
    return f"headers=CONTENT-TYPE:{kind}%3B"


def _large(facts: Facts, kind: str, *headers: tuple[str, str]) -> Request:
    """A request whose answer is large and of that type."""
    return facts.api(
        f"/api/v1/users/1?{_typed(kind)}",
        *facts.bearer(),
        *headers,
        ("x-filler", _FILLER),
    )
