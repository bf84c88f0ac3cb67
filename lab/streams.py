"""A service that streams: `python -m lab.streams --version=V --port=N --grpc=N …`.

Istio's echo server answers at once, takes one WebSocket message and no gRPC stream; this one stands
in its place (same arguments, same fields in its answers) where promises about streams are tried.

HTTP/1.1 and HTTP/2 without TLS, by query parameters:

- `events=N&interval=S`: a server-sent event each S seconds, N of them.
- `size=N&length=known|unknown&type=T`: a body of N bytes, with or without a content-length.
- neither: what was seen of the request, and when each piece of its body came.

WebSocket: every message goes back as it came, but `describe`, which is answered with what was seen
of the upgrade. gRPC: every method of every service takes messages and gives messages, each some
`key=value` pairs joined by `&`; see `Calls`.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import socket
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

import grpc
import grpc.aio
import hypercorn.asyncio
import hypercorn.config
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, Scope

DESCRIBE = "describe"
CONNECTION = "Connection"
"""Field of an answer: address and port of the other end of the connection that the request came by."""
PIECE = "Piece"
"""Field of an answer: seconds after the request's headers, a blank, bytes."""
_LARGEST_MESSAGE = 64 * 2**20
_HOUR = 3600.0


@dataclass(frozen=True)
class Seen:
    """What was seen of a request, in the words of Istio's echo server."""

    version: str
    method: str
    path: str
    protocol: str
    headers: Sequence[tuple[str, str]]
    more: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        fields = {
            "ServiceVersion": self.version, "Method": self.method, "URL": self.path,
            "Proto": self.protocol, **self.more, "Hostname": socket.gethostname(),
        }  # fmt: skip
        lines = [f"{key}={value}" for key, value in fields.items()]
        lines += [f"RequestHeader={name.title()}:{value}" for name, value in self.headers]
        return "".join(f"{line}\n" for line in lines)


class Arrivals:
    """When the pieces of something came."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._lines: list[str] = []

    def note(self, size: int) -> None:
        """A piece has come."""
        self._lines.append(f"{PIECE}={time.monotonic() - self._began:.3f} {size}\n")

    def __str__(self) -> str:
        return "".join(self._lines)


# HTTP and WebSocket


class Application:
    """The ASGI application."""

    def __init__(self, version: str) -> None:
        self._version = version

    async def __call__(
        self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable
    ) -> None:
        """Serve one request or connection."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        path = scope["raw_path"].decode("latin-1")
        query = scope["query_string"].decode("latin-1")
        seen = Seen(
            version=self._version,
            method=scope["method"] if scope["type"] == "http" else "GET",
            path=f"{path}?{query}" if query else path,
            protocol=f"HTTP/{scope['http_version']}",
            headers=[(name.decode(), value.decode("latin-1")) for name, value in scope["headers"]],
            more={CONNECTION: ":".join(map(str, scope["client"] or ()))},
        )
        if scope["type"] == "websocket":
            await _websocket(seen, receive, send)
            return
        wanted = dict(parse_qsl(query))
        if "events" in wanted:
            await _events(int(wanted["events"]), float(wanted.get("interval", 1)), send)
        elif "size" in wanted:
            await _sized(wanted, send)
        else:
            await _described(seen, receive, send)


async def _lifespan(receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
    while (await receive())["type"] == "lifespan.startup":
        await send({"type": "lifespan.startup.complete"})
    await send({"type": "lifespan.shutdown.complete"})


async def _websocket(seen: Seen, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
    await receive()
    await send({"type": "websocket.accept", "subprotocol": None, "headers": []})
    while (event := await receive())["type"] == "websocket.receive":
        text = event.get("text")
        if text == DESCRIBE:
            text = str(seen)
        data = None if text is not None else event.get("bytes")
        await send({"type": "websocket.send", "bytes": data, "text": text})


async def _events(number: int, interval: float, send: ASGISendCallable) -> None:
    await _start(send, "text/event-stream", (b"cache-control", b"no-store"))
    for index in range(number):
        await asyncio.sleep(interval if index else 0)
        await _piece(send, f"data: {index}\n\n".encode())
    await _piece(send, b"", more=False)


async def _sized(wanted: Mapping[str, str], send: ASGISendCallable) -> None:
    size = int(wanted["size"])
    known = [(b"content-length", str(size).encode())] if wanted.get("length") == "known" else []
    await _start(send, wanted.get("type", "text/plain"), *known)
    await _piece(send, b"a" * size, more=False)


async def _described(seen: Seen, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
    arrivals, more = Arrivals(), True
    while more:
        event = await receive()
        if event["type"] != "http.request":
            return
        if event["body"]:
            arrivals.note(len(event["body"]))
        more = event["more_body"]
    await _start(send, "text/plain")
    await _piece(send, f"{seen}{arrivals}".encode(), more=False)


async def _start(send: ASGISendCallable, kind: str, *headers: tuple[bytes, bytes]) -> None:
    await send(
        {
            "type": "http.response.start",
            "status": 200,
            "headers": [(b"content-type", kind.encode()), *headers],
            "trailers": False,
        }
    )


async def _piece(send: ASGISendCallable, body: bytes, *, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": more})


# gRPC


class Calls(grpc.GenericRpcHandler):
    """Every gRPC method there is.

    Each message is answered when it comes, with its size and what it asks for:

    - `answers=N&interval=S`: N answers, one each S seconds.
    - `status=NAME&detail=TEXT&trailer=NAME:VALUE`: how the call ends after the last message.
    - `as=NAME`: the name under which the call's end is remembered.
    - `ended=NAME`: how the call of that name ended.
    """

    def __init__(self, version: str) -> None:
        self._version = version
        self._ends: dict[str, str] = {}

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[Any, Any]:
        """The same handler for all."""
        method = handler_call_details.method

        async def serve(
            messages: AsyncIterator[bytes], context: grpc.aio.ServicerContext[bytes, bytes]
        ) -> AsyncIterator[bytes]:
            async for answer in self._serve(str(method), messages, context):
                yield answer

        return grpc.stream_stream_rpc_method_handler(serve)

    async def _serve(
        self,
        method: str,
        messages: AsyncIterator[bytes],
        context: grpc.aio.ServicerContext[bytes, bytes],
    ) -> AsyncIterator[bytes]:
        began, name, end = time.monotonic(), "", "cancelled"
        wanted: dict[str, str] = {}
        try:
            yield self._seen(method, context).encode()
            async for message in messages:
                wanted |= dict(parse_qsl(message.decode("latin-1")[:1000]))
                name = wanted.pop("as", name)
                yield f"Size={len(message)}\n".encode()
                if ended := wanted.pop("ended", ""):
                    yield f"Ended={self._ends.get(ended, 'never')}\n".encode()
                for index in range(int(wanted.pop("answers", "0"))):
                    await asyncio.sleep(float(wanted.get("interval", "1")))
                    yield f"Answer={index}\n".encode()
            _end(wanted, context)
            end = "finished"
        finally:
            if name:
                self._ends[name] = f"{end} {time.monotonic() - began:.2f}"

    def _seen(self, method: str, context: grpc.aio.ServicerContext[bytes, bytes]) -> str:
        headers = [
            (name, value.decode("latin-1") if isinstance(value, bytes) else value)
            for name, value in context.invocation_metadata() or ()
        ]
        left = context.time_remaining()
        told = {} if left is None or left > _HOUR else {"Deadline": f"{left:.2f}"}
        return str(Seen(self._version, "POST", method, "HTTP/2", headers, told))


def _end(wanted: Mapping[str, str], context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
    name, _, value = wanted.get("trailer", "").partition(":")
    if name:
        context.set_trailing_metadata(((name, value),))
    context.set_code(grpc.StatusCode[wanted.get("status", "OK")])
    context.set_details(wanted.get("detail", ""))


# The server


async def serve(version: str, ports: Sequence[int], grpc_ports: Sequence[int]) -> None:
    """Serve until told to end."""
    ending = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ending.set)
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", _LARGEST_MESSAGE)])
    server.add_generic_rpc_handlers((Calls(version),))
    for port in grpc_ports:
        server.add_insecure_port(f"0.0.0.0:{port}")
    await server.start()
    config = hypercorn.config.Config()
    config.bind = [f"0.0.0.0:{port}" for port in ports]
    config.websocket_max_message_size = _LARGEST_MESSAGE
    # It is proxies that end connections here.
    config.keep_alive_timeout = _HOUR
    config.graceful_timeout = 1.0
    try:
        await hypercorn.asyncio.serve(Application(version), config, shutdown_trigger=ending.wait)
    finally:
        await server.stop(1.0)


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--version", default="v1")
    for flag in ("--port", "--grpc", "--metrics", "--tcp"):
        parser.add_argument(flag, type=int, action="append", default=[])
    given = parser.parse_args()
    asyncio.run(serve(given.version, [*given.port, *given.metrics], given.grpc))


if __name__ == "__main__":
    main()
