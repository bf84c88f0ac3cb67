"""Streams: events, uploads, WebSockets and gRPC calls that go on for a while.

The bounds of an hour are tried with a service for which the environment says some seconds
(`services.NAME.streamTimeout`): the same fields of the same objects, with another number.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from lab.contracts.access import headers, http_port
from lab.contracts.contract import CLIENT, Call, Contract, Expect, Judge, both
from lab.contracts.contract import service as through
from lab.contracts.facts import Facts
from lab.contracts.stream_judges import (
    LATE,
    answered_in_turn,
    arrived_while_sending,
    ended_after,
    of_size,
    sent_in_turn,
    told_after,
    whole,
)
from lab.contracts.stream_requests import (
    CALLED,
    EVENT_STREAM,
    GZIP,
    PAUSE,
    SERVED,
    calling,
    event_stream,
    grpc_call,
    over_http1,
    short_lived,
    spoken_upload,
    streaming,
    streaming_route,
    streaming_routes,
    upload,
    websocket,
)
from lab.exchange import Reply, Request
from lab.streams import DESCRIBE, PIECE
from model.values import seconds

EDGE, TRAFFIC = "edge.md", "traffic.md"
_LONGEST = 20
"""Seconds of the longest limit that a contract waits for."""
_MEBIBYTE = 2**20


def contracts(facts: Facts) -> Iterator[Contract]:
    """The family `stream`, and what of `compression` needs a service that streams."""
    yield from _silent_clients(facts)
    yield from _late_answers(facts)
    for contract in (
        *_arriving(facts),
        *_lasting(facts),
        *_unlimited(facts),
        *_compressed(facts),
    ):
        yield replace(contract, arrangement=streaming)


# Piece by piece


def _arriving(facts: Facts) -> Iterator[Contract]:
    path = streaming_route(short_lived(facts.catalogue)).path
    small = upload(facts, path, ["a" * 100] * 4, PAUSE)
    socket = websocket(facts, ["a" * 100] * 4, PAUSE)
    call = grpc_call(facts, *["a" * 100] * 4, pause=PAUSE)
    yield Contract(
        "stream.requests",
        "Streaming routes, WebSockets and gRPC are never buffered: what a client has sent arrives"
        " while it is still sending.",
        EDGE,
        (
            Call(CLIENT, small, SERVED),
            Call(CLIENT, over_http1(facts, small), SERVED),
            Call(CLIENT, socket, Expect((101,))),
            Call(CLIENT, call, CALLED),
        ),
        both(arrived_while_sending(4, PAUSE, slice(0, 2)), answered_in_turn(4, PAUSE, 2)),
    )
    events = event_stream(facts, 6, PAUSE, GZIP)
    answers = grpc_call(facts, f"answers=6&interval={PAUSE:g}")
    yield Contract(
        "stream.answers",
        "An answer on a streaming route, a WebSocket or gRPC reaches the client piece by piece, as"
        " the service sends it.",
        EDGE,
        (
            Call(CLIENT, over_http1(facts, events), SERVED),
            *(
                Call(
                    CLIENT,
                    event_stream(facts, 6, PAUSE, GZIP, method=method, path=route.path),
                    Expect((200,), headers=(("content-encoding", None),)),
                )
                for _, route in streaming_routes(facts.catalogue)
                for method in route.methods or ("GET", "POST")
            ),
            Call(CLIENT, answers, CALLED),
        ),
        sent_in_turn(6, PAUSE),
    )


# How long


def _lasting(facts: Facts) -> Iterator[Contract]:
    one = short_lived(facts.catalogue)
    route, socket = streaming_route(one), one.websockets[0]
    timeout, longest = float(seconds(one.timeout)), float(seconds(route.stream_timeout))
    idle = float(seconds(facts.settings.edge.stream_idle))
    if longest > _LONGEST or longest < timeout + LATE * 2:
        return
    within = int((timeout + longest) / 2)
    yield Contract(
        "stream.not-cut",
        "A streamed answer is not cut by the service's timeout: a request that accepts"
        " `text/event-stream` on a streaming route may take as long as the route's"
        " `stream_timeout`, an hour if the catalogue says nothing else.",
        TRAFFIC,
        tuple(
            Call(CLIENT, event_stream(facts, within * 2, 0.5, method=method), SERVED)
            for method in ("GET", "POST")
        ),
        whole(within * 2),
        patient=True,
    )
    beyond = int(longest + 6)
    yield Contract(
        "stream.longest",
        "A WebSocket lasts no longer than the catalogue's timeout for it, a request on a streaming"
        " route no longer than the route's `stream_timeout`: an hour if the catalogue says nothing"
        " else.",
        EDGE,
        (
            Call(CLIENT, event_stream(facts, beyond, 1), Expect((0,))),
            # The client still sends: the service's answer, and so its timeout, has not begun.
            Call(CLIENT, spoken_upload(facts, route.path, beyond, 1), Expect((408,))),
            Call(CLIENT, websocket(facts, ["a"] * beyond, 1), Expect((0,))),
        ),
        ended_after(
            [longest, longest + 1, float(seconds(socket.timeout))],
        ),
        patient=True,
    )
    inside = replace(
        event_stream(facts, within * 2, 0.5), tls=None, headers=(*headers(facts), EVENT_STREAM),
        address=f"service:{one.name}:{http_port(one).number}", authority=one.name,
    )  # fmt: skip
    yield Contract(
        "stream.inside",
        "Between services a stream lasts no longer than the service's timeout.",
        TRAFFIC,
        (Call(through(facts.catalogue.callers(one)[0]), inside, Expect((0,))),),
        ended_after([timeout]),
        patient=True,
    )
    silence = idle + 2
    yield Contract(
        "stream.silent",
        "A WebSocket, or a request on a streaming route, may be silent as long as it lasts.",
        EDGE,
        (
            Call(CLIENT, event_stream(facts, 2, silence), SERVED),
            Call(CLIENT, upload(facts, route.path, ["a", "b"], silence), SERVED),
            Call(CLIENT, websocket(facts, ["hello", "again"], silence), Expect((101,))),
        ),
        patient=True,
    )


def _silent_clients(facts: Facts) -> Iterator[Contract]:
    idle = float(seconds(facts.settings.edge.stream_idle))
    path = next(
        route.path
        for _, route in facts.catalogue.exposures
        if not route.streaming and not route.methods and route.access == "token"
        and not any("POST" in rule.methods or not rule.methods for rule in route.restricted)
    )  # fmt: skip
    silent = upload(facts, path, ["a", "b"], idle + 2)
    slow = upload(facts, path, ["a"] * int(idle + 3), 1)
    yield Contract(
        "idle.client-silent",
        "A unary request in which nothing moves for `streamIdle` is ended: 408 while the client is"
        " sending, 504 while the service is silent.",
        EDGE,
        (
            Call(CLIENT, spoken_upload(facts, path, 1, PAUSE), Expect((408,))),
            Call(CLIENT, silent, Expect((408,))),
            Call(CLIENT, slow, SERVED),
            Call(CLIENT, over_http1(facts, slow), SERVED),
        ),
        told_after(idle + 2 * PAUSE),
        patient=True,
    )


def _late_answers(facts: Facts) -> Iterator[Contract]:
    one = short_lived(facts.catalogue)
    route, timeout = streaming_route(one), float(seconds(one.timeout))
    if timeout + 3 > seconds(route.stream_timeout) or timeout > _LONGEST:
        return
    late = facts.api(f"{route.path}/1?delay={timeout + 3:g}s", *facts.bearer(), timeout=30.0)
    yield Contract(
        "timeout.streaming-route",
        "On a streaming route, an answer that was not asked for as an event stream begins within"
        " the service's timeout, or is 504.",
        TRAFFIC,
        tuple(
            Call(CLIENT, replace(late, method=method), Expect((504,), within=timeout + LATE))
            for method in ("GET", "POST")
        ),
        patient=True,
    )


# How much


def _unlimited(facts: Facts) -> Iterator[Contract]:
    path = streaming_route(short_lived(facts.catalogue)).path
    large = facts.settings.edge.bodies.upload_limit + _MEBIBYTE
    message = "m" * _MEBIBYTE
    yield Contract(
        "stream.unlimited",
        "Streaming routes, WebSockets and gRPC have no body limit: messages of a mebibyte pass, and"
        " any number of them.",
        EDGE,
        (
            Call(CLIENT, replace(upload(facts, path, (), 0), body_size=large), SERVED),
            Call(CLIENT, websocket(facts, [DESCRIBE, message, "small", message]), Expect((101,))),
            Call(CLIENT, websocket(facts, [DESCRIBE, *map(str, range(500))]), Expect((101,))),
            Call(CLIENT, grpc_call(facts, message, "small", message), CALLED),
            Call(CLIENT, grpc_call(facts, *map(str, range(500))), CALLED),
        ),
        _as_sent(large, message),
    )


def _as_sent(large: int, message: str) -> Judge:
    numbers = tuple(map(str, range(500)))

    def judge(replies: Sequence[Reply]) -> str | None:
        upload, few, many, sizes, calls = replies
        got = sum(
            int(line.split()[-1])
            for line in upload.body.splitlines()
            if line.startswith(f"{PIECE}=")
        )
        if got != large:
            return f"of {large} bytes sent the service got {got}"
        if few.messages[1:] != (message, "small", message) or many.messages[1:] != numbers:
            return "messages of a WebSocket did not come back as they were sent"
        if sizes.messages[1:] != tuple(f"Size={n}\n" for n in (len(message), 5, len(message))):
            return f"the service got other gRPC messages: {sizes.messages[1:]}"
        if calls.messages[1:] != tuple(f"Size={len(one)}\n" for one in numbers):
            return f"of 500 gRPC messages the service answered {len(calls.messages) - 1}"
        return None

    return judge


# Compressed or not


def _compressed(facts: Facts) -> Iterator[Contract]:
    one = calling(facts.catalogue)
    path = next(route.path for route in one.routes if route.access == "public")
    smallest = facts.settings.edge.compression_from

    def sized(size: int, length: str, kind: str = "text/plain") -> Request:
        return facts.api(f"{path}?size={size}&length={length}&type={kind}", GZIP)

    gzip = Expect((200,), headers=(("content-encoding", "gzip"),))
    plain = Expect((200,), headers=(("content-encoding", None),))
    yield Contract(
        "compression.length",
        "An answer from `compressionFrom` bytes up, or of unknown length, is compressed with gzip"
        " if its type is text and the client accepts it.",
        EDGE,
        (
            Call(CLIENT, sized(smallest, "known"), gzip),
            Call(CLIENT, sized(smallest - 1, "known"), plain),
            Call(CLIENT, sized(smallest, "known", "application/json"), gzip),
            Call(CLIENT, sized(smallest, "known", "image/png"), plain),
            Call(CLIENT, sized(100, "unknown"), gzip),
            Call(CLIENT, sized(smallest * 20, "unknown"), gzip),
            Call(CLIENT, replace(sized(smallest, "known"), headers=()), plain),
        ),
        of_size([smallest, smallest - 1, smallest, smallest, 100, smallest * 20, smallest]),
    )
    stream = streaming_route(short_lived(facts.catalogue)).path
    yield Contract(
        "compression.events",
        "Event streams, gRPC, WebSockets and everything else on streaming routes are never"
        " compressed.",
        EDGE,
        (
            Call(CLIENT, event_stream(facts, 40, 0.01, GZIP), plain),
            # An event stream on a route that was not declared for it, then text on one that was.
            Call(CLIENT, facts.api(f"{path}?events=40&interval=0.01", GZIP), plain),
            # A gRPC client could not read what is gzip.
            Call(CLIENT, grpc_call(facts, "answers=40&interval=0.01").with_headers(GZIP), CALLED),
            *(
                Call(
                    CLIENT,
                    facts.api(
                        f"{stream}/1?size={smallest * 4}&length={length}&type={kind}",
                        *facts.bearer(),
                        GZIP,
                    ),
                    plain,
                )
                for length in ("known", "unknown")
                for kind in ("text/plain", "application/json", "application/x-ndjson")
            ),
        ),
    )
