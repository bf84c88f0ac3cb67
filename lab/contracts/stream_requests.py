"""What contracts about streams ask, and of whom: the services that stream, and requests to them.

The services run `lab.streams` meanwhile, for the echo server answers at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from components.gateway_workload import GATEWAY as GATEWAY_APP
from lab.contracts.access import headers
from lab.contracts.arrangements import instead, until_known
from lab.contracts.contract import Call, Expect
from lab.contracts.contract import service as through
from lab.contracts.facts import Facts
from lab.data_plane import DataPlane
from lab.exchange import Request
from model.access import Catalogue
from model.service import Route, Service
from model.values import seconds

GZIP = ("accept-encoding", "gzip")
EVENT_STREAM = ("accept", "text/event-stream")
SERVED = Expect((200,))
CALLED = Expect((200,), grpc="OK")
PAUSE = 0.5
"""Seconds between pieces that must not come together."""


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


def streaming_routes(catalogue: Catalogue) -> list[tuple[Service, Route]]:
    """Every route that may be asked for an event stream."""
    return [(one, route) for one, route in catalogue.exposures if route.streaming]


def _route(one: Service) -> Route | None:
    return next((route for route in one.routes if route.streaming and not route.methods), None)


def streaming_route(one: Service) -> Route:
    """A service's streaming route for any method; there must be one."""
    route = _route(one)
    assert route is not None
    return route


@contextmanager
def streaming(data_plane: DataPlane) -> Iterator[None]:
    """`lab.streams` in the place of the echo server, in every service that streams."""
    namespace = data_plane.settings.namespaces.apps
    chosen = sorted(
        {calling(data_plane.catalogue).name}
        | {one.name for one, _ in streaming_routes(data_plane.catalogue)}
    )

    def known() -> None:
        for name in chosen:
            until_known(data_plane, GATEWAY_APP, name)

    with instead(data_plane, namespace, [f"{name}-v1" for name in chosen], "lab.streams"):
        known()
        yield
    known()


# Requests


def event_stream(
    facts: Facts,
    number: int,
    interval: float,
    *more: tuple[str, str],
    method: str = "GET",
    path: str = "",
) -> Request:
    """A streamed answer; where no path is given, of a service whose streams are short-lived."""
    path = path or streaming_route(short_lived(facts.catalogue)).path
    return facts.api(
        f"{path}/1?events={number}&interval={interval:g}",
        *facts.bearer(), EVENT_STREAM, *more,
        method=method, timeout=number * interval + 15,
    )  # fmt: skip


def upload(facts: Facts, path: str, pieces: Sequence[str], pause: float) -> Request:
    """A POST whose body comes in pieces, `pause` seconds apart."""
    return facts.api(
        f"{path}/1", *facts.bearer(),
        method="POST", messages=tuple(pieces), pauses=pause, timeout=len(pieces) * pause + 15,
    )  # fmt: skip


def spoken_upload(facts: Facts, path: str, pieces: int, pause: float) -> Request:
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
    return over_http1(facts, request)


def over_http1(facts: Facts, request: Request) -> Request:
    """The same request over HTTP/1.1."""
    pieces = request.kind == "http" and request.messages
    chunked = (("transfer-encoding", "chunked"),) if pieces else ()
    return replace(
        request,
        tls=replace(facts.tls(request.authority), alpn=("http/1.1",)),
        headers=(*request.headers, *chunked),
    )


def websocket(facts: Facts, messages: Sequence[str], pause: float = 0.0) -> Request:
    """Messages over the WebSocket of the service whose streams are short-lived."""
    path = short_lived(facts.catalogue).websockets[0].path
    return facts.websocket(
        path, *facts.bearer(),
        messages=tuple(messages), pauses=pause, timeout=len(messages) * pause + 30,
    )  # fmt: skip


def open_requests(facts: Facts, pieces: int, interval: float) -> tuple[Request, Request]:
    """A WebSocket and an event stream that say something so often, so many times.

    Both are answered by `lab.streams`, which the arrangement `streaming` brings about.
    """
    socket = websocket(facts, ("hello",) * pieces, interval)
    return socket, event_stream(facts, pieces, interval)


def _method(facts: Facts) -> str:
    return f"/{calling(facts.catalogue).grpc[0].name}/Stream"


def grpc_call(facts: Facts, *messages: str, pause: float = 0.0, deadline: float = 0.0) -> Request:
    """A gRPC call through the gateway."""
    return facts.grpc(
        _method(facts), *facts.bearer(),
        messages=messages, pauses=pause, deadline=deadline, timeout=30.0,
    )  # fmt: skip


def between_services(facts: Facts, request: Request) -> Call:
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
        SERVED,
    )  # fmt: skip
