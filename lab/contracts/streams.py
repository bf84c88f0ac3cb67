"""Streams: events, uploads, WebSockets and gRPC calls that go on for a while.

The services that stream run `lab.streams` meanwhile, for the echo server answers at once. The
bounds of an hour are tried with a service for which the environment says some seconds
(`services.NAME.streamTimeout`): the same fields of the same objects, with another number.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from components.gateway_workload import GATEWAY as GATEWAY_APP
from lab.contracts.access import headers
from lab.contracts.arrangements import instead, until_known
from lab.contracts.contract import CLIENT, Call, Contract, Expect, Judge
from lab.contracts.contract import service as through
from lab.contracts.facts import Facts
from lab.data_plane import DataPlane
from lab.exchange import DETAILS, Reply, Request
from lab.streams import DESCRIBE, PIECE
from model.access import Catalogue
from model.service import Route, Service
from model.values import seconds

EDGE, TRAFFIC = "edge.md", "traffic.md"
_GZIP = ("accept-encoding", "gzip")
_EVENT_STREAM = ("accept", "text/event-stream")
_LONGEST = 20
"""Seconds of the longest limit that a contract waits for."""
_LATE = 1.5
"""Seconds that a busy machine may be late."""
_PAUSE = 0.5
_MEBIBYTE = 2**20
_SERVED = Expect((200,))


def contracts(facts: Facts) -> Iterator[Contract]:
    """The family `stream`, and what of `compression` and `grpc` needs a service that streams."""
    yield from _silent_clients(facts)
    yield from _late_answers(facts)
    for contract in (
        *_arriving(facts),
        *_lasting(facts),
        *_unlimited(facts),
        *_compressed(facts),
        *_calls(facts),
    ):
        yield replace(contract, arrangement=streaming)


# The services that stream


def short_lived(catalogue: Catalogue) -> Service:
    """One with a streaming route for any method and a WebSocket; of several the first whose
    streams may last the shortest."""
    return min(
        (one for one in catalogue.services if one.websocket and _route(one)),
        key=lambda one: seconds(one.websockets[0].timeout),
    )


def calling(catalogue: Catalogue) -> Service:
    """One with gRPC on a port of its own, a public route, and no subsets."""
    return next(
        one
        for one in catalogue.services
        if one.grpc
        and not one.subsets
        and one.port(one.grpc[0].port).protocol == "grpc"
        and any(route.access == "public" for route in one.routes)
    )


def _route(one: Service) -> Route | None:
    return next((route for route in one.routes if route.streaming and not route.methods), None)


def _streaming_route(one: Service) -> Route:
    route = _route(one)
    assert route is not None
    return route


@contextmanager
def streaming(data_plane: DataPlane) -> Iterator[None]:
    """`lab.streams` in the place of the echo server, in two services."""
    namespace = data_plane.settings.namespaces.apps
    chosen = sorted({short_lived(data_plane.catalogue).name, calling(data_plane.catalogue).name})

    def known() -> None:
        for name in chosen:
            until_known(data_plane, GATEWAY_APP, name)

    with instead(data_plane, namespace, [f"{name}-v1" for name in chosen], "lab.streams"):
        known()
        yield
    known()


# Requests


def _events(
    facts: Facts, number: int, interval: float, *more: tuple[str, str], method: str = "GET"
) -> Request:
    """A streamed answer of a service whose streams are short-lived."""
    path = _streaming_route(short_lived(facts.catalogue)).path
    return facts.api(
        f"{path}/1?events={number}&interval={interval:g}",
        *facts.bearer(), _EVENT_STREAM, *more,
        method=method, timeout=number * interval + 15,
    )  # fmt: skip


def _upload(facts: Facts, path: str, pieces: Sequence[str], pause: float) -> Request:
    return facts.api(
        f"{path}/1", *facts.bearer(),
        method="POST", messages=tuple(pieces), pauses=pause, timeout=len(pieces) * pause + 15,
    )  # fmt: skip


def _spoken(facts: Facts, path: str, pieces: int, pause: float) -> Request:
    """The same over HTTP/1.1, by a client that hears an answer while it is still sending."""
    head = [
        f"POST {path}/1 HTTP/1.1", f"Host: {facts.settings.api_host}",
        *(f"{name}: {value}" for name, value in facts.bearer()), "Transfer-Encoding: chunked",
    ]  # fmt: skip
    request = facts.api(
        path, kind="bytes", messages=("".join(f"{line}\r\n" for line in (*head, "")),)
        + ("1\r\na\r\n",) * pieces + ("0\r\n\r\n",) * (pieces > 1),
        pauses=pause, timeout=pieces * pause + 30,
    )  # fmt: skip
    return _http1(facts, request)


def _http1(facts: Facts, request: Request) -> Request:
    pieces = request.kind == "http" and request.messages
    chunked = (("transfer-encoding", "chunked"),) if pieces else ()
    return replace(
        request,
        tls=replace(facts.tls(request.authority), alpn=("http/1.1",)),
        headers=(*request.headers, *chunked),
    )


def _socket(facts: Facts, messages: Sequence[str], pause: float = 0.0) -> Request:
    path = short_lived(facts.catalogue).websockets[0].path
    return facts.websocket(
        path, *facts.bearer(),
        messages=tuple(messages), pauses=pause, timeout=len(messages) * pause + 30,
    )  # fmt: skip


def open_requests(facts: Facts, pieces: int, interval: float) -> tuple[Request, Request]:
    """A WebSocket and an event stream that say something so often, so many times.

    Both are answered by `lab.streams`, which the arrangement `streaming` brings about.
    """
    socket = _socket(facts, ("hello",) * pieces, interval)
    return socket, _events(facts, pieces, interval)


def _method(facts: Facts) -> str:
    return f"/{calling(facts.catalogue).grpc[0].name}/Stream"


def _call(facts: Facts, *messages: str, pause: float = 0.0, deadline: float = 0.0) -> Request:
    """A gRPC call through the gateway."""
    return facts.grpc(
        _method(facts), *facts.bearer(),
        messages=messages, pauses=pause, deadline=deadline, timeout=30.0,
    )  # fmt: skip


def _inside(facts: Facts, request: Request) -> Call:
    """The same call by another service, through both proxies."""
    callee = calling(facts.catalogue)
    port = callee.port(callee.grpc[0].port).number
    return Call(
        through(facts.catalogue.callers(callee)[0]),
        replace(
            request,
            address=f"service:{callee.name}:{port}", authority=f"{callee.name}:{port}",
            tls=None, headers=headers(facts),
        ),
        _SERVED,
    )  # fmt: skip


# Piece by piece


def _arriving(facts: Facts) -> Iterator[Contract]:
    path = _streaming_route(short_lived(facts.catalogue)).path
    small = _upload(facts, path, ["a" * 100] * 4, _PAUSE)
    socket = _socket(facts, ["a" * 100] * 4, _PAUSE)
    call = _call(facts, *["a" * 100] * 4, pause=_PAUSE)
    yield Contract(
        "stream.requests",
        "Streaming routes, WebSockets and gRPC are never buffered: what a client has sent arrives"
        " while it is still sending.",
        EDGE,
        (
            Call(CLIENT, small, _SERVED),
            Call(CLIENT, _http1(facts, small), _SERVED),
            Call(CLIENT, socket, Expect((101,))),
            Call(CLIENT, call, Expect((200,), grpc="OK")),
        ),
        both(arrived_while_sending(4, _PAUSE, slice(0, 2)), answered_in_turn(4, _PAUSE, 2)),
    )
    events = _events(facts, 6, _PAUSE, _GZIP)
    answers = _call(facts, f"answers=6&interval={_PAUSE:g}")
    yield Contract(
        "stream.answers",
        "An answer on a streaming route, a WebSocket or gRPC reaches the client piece by piece, as"
        " the service sends it.",
        EDGE,
        (
            Call(CLIENT, events, Expect((200,), headers=(("content-encoding", None),))),
            Call(CLIENT, _http1(facts, events), _SERVED),
            Call(CLIENT, replace(events, method="POST"), _SERVED),
            Call(CLIENT, answers, Expect((200,), grpc="OK")),
        ),
        sent_in_turn(6, _PAUSE),
    )


def both(*judges: Judge) -> Judge:
    """What is wrong for any of several judges."""

    def judge(replies: Sequence[Reply]) -> str | None:
        return next((wrong for one in judges if (wrong := one(replies))), None)

    return judge


def pieces(reply: Reply) -> list[float]:
    """Seconds at which the service got the pieces of a body."""
    return [
        float(line.partition("=")[2].split()[0])
        for line in reply.body.splitlines()
        if line.startswith(f"{PIECE}=")
    ]


def arrived_while_sending(number: int, pause: float, which: slice) -> Judge:
    """The service got each piece when it was sent, not all at the end."""

    def judge(replies: Sequence[Reply]) -> str | None:
        for reply in replies[which]:
            found = pieces(reply)
            if len(found) != number:
                return f"{number} pieces were sent, {len(found)} arrived"
            # Apart from each other as they were sent; what is late is less late than a pause.
            spread, sent = found[-1] - found[0], (number - 1) * pause
            if spread < sent * 0.7:
                return f"pieces sent over {sent:g} s arrived within {spread:.2f} s"
        return None

    return judge


def answered_in_turn(number: int, pause: float, first: int) -> Judge:
    """Each message was answered before the next one was sent."""

    def judge(replies: Sequence[Reply]) -> str | None:
        for reply in replies[first:]:
            # gRPC: before all, the service tells what it saw of the call.
            found = reply.arrivals[-number:]
            if len(reply.arrivals) < number:
                return f"{number} messages were sent, {len(found)} answers came"
            spread, sent = found[-1] - found[0], (number - 1) * pause
            if spread < sent * 0.7:
                return f"answers to messages sent over {sent:g} s came within {spread:.2f} s"
        return None

    return judge


def sent_in_turn(number: int, interval: float) -> Judge:
    """Each piece came when the service sent it: the first at once, the last at the end."""

    def judge(replies: Sequence[Reply]) -> str | None:
        for reply in replies:
            found, whole = reply.arrivals, (number - 1) * interval
            if len(found) < number:
                return f"{number} pieces were sent apart, they came in {len(found)}"
            spread = found[-1] - found[0]
            if spread < whole * 0.8:
                return f"pieces sent over {whole:g} s came within {spread:.2f} s"
            if found[0] > whole * 0.6:
                return f"the first piece came after {found[0]:.2f} s"
        return None

    return judge


# How long


def _lasting(facts: Facts) -> Iterator[Contract]:
    one = short_lived(facts.catalogue)
    route, socket = _streaming_route(one), one.websockets[0]
    timeout, longest = float(seconds(one.timeout)), float(seconds(route.stream_timeout))
    idle = float(seconds(facts.settings.edge.stream_idle))
    if longest > _LONGEST or longest < timeout + _LATE * 2:
        return
    within = int((timeout + longest) / 2)
    yield Contract(
        "stream.not-cut",
        "A streamed answer is not cut by the service's timeout: a request that accepts"
        " `text/event-stream` on a streaming route may take as long as the route's"
        " `stream_timeout`, an hour if the catalogue says nothing else.",
        TRAFFIC,
        tuple(
            Call(CLIENT, _events(facts, within * 2, 0.5, method=method), _SERVED)
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
            Call(CLIENT, _events(facts, beyond, 1), Expect((0,))),
            # The client still sends: the service's answer, and so its timeout, has not begun.
            Call(CLIENT, _spoken(facts, route.path, beyond, 1), Expect((408,))),
            Call(CLIENT, _socket(facts, ["a"] * beyond, 1), Expect((0,))),
        ),
        ended_after(
            [longest, longest + 1, float(seconds(socket.timeout))],
        ),
        patient=True,
    )
    silence = idle + 2
    yield Contract(
        "stream.silent",
        "A WebSocket, or a request on a streaming route, may be silent as long as it lasts.",
        EDGE,
        (
            Call(CLIENT, _events(facts, 2, silence), _SERVED),
            Call(CLIENT, _upload(facts, route.path, ["a", "b"], silence), _SERVED),
            Call(CLIENT, _socket(facts, ["hello", "again"], silence), Expect((101,))),
        ),
        patient=True,
    )


def whole(events: int) -> Judge:
    """Every event of each stream came, in order."""
    wanted = "".join(f"data: {index}\n\n" for index in range(events))

    def judge(replies: Sequence[Reply]) -> str | None:
        for reply in replies:
            if reply.body != wanted:
                return f"{events} events were sent, {reply.body.count('data: ')} came"
        return None

    return judge


def ended_after(limits: Sequence[float]) -> Judge:
    """Each exchange was ended when its time was over, and passed data until then."""

    def judge(replies: Sequence[Reply]) -> str | None:
        for reply, limit in zip(replies, limits, strict=True):
            if not limit - 0.3 <= reply.seconds <= limit + _LATE * 2:
                return (
                    f"an exchange ended after {reply.seconds:.1f} s ({reply}), {limit:g} s is right"
                )
        return None

    return judge


def _silent_clients(facts: Facts) -> Iterator[Contract]:
    idle = float(seconds(facts.settings.edge.stream_idle))
    path = next(
        route.path
        for _, route in facts.catalogue.exposures
        if not route.streaming and not route.methods and route.access == "token"
        and not any("POST" in rule.methods or not rule.methods for rule in route.restricted)
    )  # fmt: skip
    silent = _upload(facts, path, ["a", "b"], idle + 2)
    slow = _upload(facts, path, ["a"] * int(idle + 3), 1)
    yield Contract(
        "idle.client-silent",
        "A unary request in which nothing moves for `streamIdle` is ended: 408 while the client is"
        " sending, 504 while the service is silent.",
        EDGE,
        (
            Call(CLIENT, _spoken(facts, path, 1, _PAUSE), Expect((408,))),
            Call(CLIENT, silent, Expect((408,))),
            Call(CLIENT, slow, _SERVED),
            Call(CLIENT, _http1(facts, slow), _SERVED),
        ),
        told_after(idle + 2 * _PAUSE),
        patient=True,
    )


def _late_answers(facts: Facts) -> Iterator[Contract]:
    one = short_lived(facts.catalogue)
    route, timeout = _streaming_route(one), float(seconds(one.timeout))
    if timeout + 3 > seconds(route.stream_timeout) or timeout > _LONGEST:
        return
    late = facts.api(f"{route.path}/1?delay={timeout + 3:g}s", *facts.bearer(), timeout=30.0)
    yield Contract(
        "timeout.streaming-route",
        "On a streaming route, an answer that was not asked for as an event stream begins within"
        " the service's timeout, or is 504.",
        TRAFFIC,
        tuple(
            Call(CLIENT, replace(late, method=method), Expect((504,), within=timeout + _LATE))
            for method in ("GET", "POST")
        ),
        patient=True,
    )


def told_after(seconds: float) -> Judge:
    """The first answer came then; later ones are of clients that do not listen while they send."""

    def judge(replies: Sequence[Reply]) -> str | None:
        at = replies[0].arrivals[0]
        if not seconds - 0.3 <= at <= seconds + _LATE:
            return f"the client was told after {at:.2f} s, {seconds:g} s is right"
        return None

    return judge


# How much


def _unlimited(facts: Facts) -> Iterator[Contract]:
    path = _streaming_route(short_lived(facts.catalogue)).path
    large = facts.settings.edge.bodies.upload_limit + _MEBIBYTE
    message = "m" * _MEBIBYTE
    yield Contract(
        "stream.unlimited",
        "Streaming routes, WebSockets and gRPC have no body limit: messages of a mebibyte pass, and"
        " any number of them.",
        EDGE,
        (
            Call(CLIENT, replace(_upload(facts, path, (), 0), body_size=large), _SERVED),
            Call(CLIENT, _socket(facts, [DESCRIBE, message, "small", message]), Expect((101,))),
            Call(CLIENT, _socket(facts, [DESCRIBE, *map(str, range(500))]), Expect((101,))),
            Call(CLIENT, _call(facts, message, "small", message), Expect((200,), grpc="OK")),
            Call(CLIENT, _call(facts, *map(str, range(500))), Expect((200,), grpc="OK")),
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
        return facts.api(f"{path}?size={size}&length={length}&type={kind}", _GZIP)

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
    )
    stream = _streaming_route(short_lived(facts.catalogue)).path
    yield Contract(
        "compression.events",
        "Event streams, gRPC, WebSockets and everything else on streaming routes are never"
        " compressed.",
        EDGE,
        (
            Call(CLIENT, _events(facts, 40, 0.01, _GZIP), plain),
            # An event stream on a route that was not declared for it, then text on one that was.
            Call(CLIENT, facts.api(f"{path}?events=40&interval=0.01", _GZIP), plain),
            *(
                Call(
                    CLIENT,
                    facts.api(
                        f"{stream}/1?size={smallest * 4}&length={length}&type={kind}",
                        *facts.bearer(),
                        _GZIP,
                    ),
                    plain,
                )
                for length in ("known", "unknown")
                for kind in ("text/plain", "application/json", "application/x-ndjson")
            ),
        ),
    )


# gRPC


def _calls(facts: Facts) -> Iterator[Contract]:
    kinds = (
        _call(facts, "one=1"),
        _call(facts, f"answers=4&interval={_PAUSE:g}"),
        _call(facts, *["one=1"] * 4, pause=_PAUSE),
    )
    yield Contract(
        "grpc.kinds",
        "A gRPC call of any kind, with one or many messages either way, passes message by message.",
        TRAFFIC,
        (
            *(Call(CLIENT, request, Expect((200,), grpc="OK")) for request in kinds),
            *(
                replace(_inside(facts, request), expect=Expect((200,), grpc="OK"))
                for request in kinds
            ),
        ),
        _message_by_message,
    )
    ends = [
        (name, f"status={name}&detail=told by the service&trailer=x-told:yes") for name in _ENDS
    ]
    yield Contract(
        "grpc.status",
        "A gRPC call ends with the status, the message and the trailers that the service gives it.",
        TRAFFIC,
        tuple(
            Call(CLIENT, _call(facts, *first, text), Expect((200,), grpc=name))
            for name, text in ends
            for first in ((), ("answers=2&interval=0.1",))
        )
        + tuple(
            replace(_inside(facts, _call(facts, text)), expect=Expect((200,), grpc=name))
            for name, text in ends
        ),
        _ended_as_told,
    )
    idle = float(seconds(facts.settings.edge.stream_idle))
    ended = Expect((200,), grpc="UNKNOWN|INTERNAL|UNAVAILABLE|CANCELLED|DEADLINE_EXCEEDED")
    yield Contract(
        "grpc.silent",
        "A gRPC call in which nothing moves for `streamIdle` is ended, too.",
        EDGE,
        (
            Call(CLIENT, _call(facts, f"answers=1&interval={idle + 3:g}"), ended),
            Call(CLIENT, _call(facts, "a", "b", pause=idle + 3), ended),
        ),
        ended_after([idle, idle]),
        patient=True,
    )
    number = facts.run
    yield Contract(
        "grpc.deadline",
        "The deadline of a gRPC client reaches the service; when it has passed, the service's call"
        " is cancelled.",
        TRAFFIC,
        tuple(
            call
            for outside in (True, False)
            for call in _overdue(facts, f"overdue-{number}-{outside}", outside=outside)
        ),
        _cancelled_in_time,
        at_once=False,
    )


_ENDS = ("NOT_FOUND", "INVALID_ARGUMENT", "RESOURCE_EXHAUSTED", "INTERNAL", "UNAVAILABLE")
_DEADLINE = 2.0
_OVERDUE = "DEADLINE_EXCEEDED|INTERNAL"
"""What a client is told: by itself, or by a proxy, which resets the call at the same moment."""


def _overdue(facts: Facts, name: str, *, outside: bool) -> Iterator[Call]:
    """A call that would take longer than its deadline, and one that asks how it ended."""
    for request, status in (
        (_call(facts, f"as={name}&answers=50&interval=0.2", deadline=_DEADLINE), _OVERDUE),
        (_call(facts, f"ended={name}", pause=0.5), "OK"),
    ):
        expect = Expect((200,), grpc=status)
        if outside:
            yield Call(CLIENT, request, expect)
        else:
            yield replace(_inside(facts, request), expect=expect)


def _cancelled_in_time(replies: Sequence[Reply]) -> str | None:
    for overdue, told in zip(replies[::2], replies[1::2], strict=True):
        seen = float(overdue.echoed("Deadline") or 0)
        if not 0 < seen <= _DEADLINE:
            return f"the service saw a deadline of {seen:g} s, the client's is {_DEADLINE:g} s"
        how, _, after = (told.echoed("Ended") or "never").partition(" ")
        if how != "cancelled" or float(after) > _DEADLINE + _LATE:
            return f"the service's call was {how} after {after} s, not cancelled by the deadline"
    return None


def _message_by_message(replies: Sequence[Reply]) -> str | None:
    for one, down, up in (replies[:3], replies[3:]):
        if one.messages[1:] != ("Size=5\n",):
            return f"one message was sent, {one.messages[1:]} came back"
        if wrong := sent_in_turn(4, _PAUSE)([down]) or answered_in_turn(4, _PAUSE, 0)([up]):
            return wrong
    return None


def _ended_as_told(replies: Sequence[Reply]) -> str | None:
    for reply in replies:
        if reply.extra.get(DETAILS) != "told by the service":
            return f"{reply.grpc_status} came with the message {reply.extra.get(DETAILS)!r}"
        if reply.header("x-told") != "yes":
            return f"{reply.grpc_status} came without the service's trailer"
    return None
