"""The streaming server and the clients that try it, without a mesh between them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from dataclasses import replace

import pytest

from lab import client, streams
from lab.exchange import DETAILS, Reply, Request

SECONDS = 0.2


def answered(*requests: Request) -> Sequence[Reply]:
    """What the server answers; addresses are `http` or `grpc`."""

    async def run() -> Sequence[Reply]:
        ports = {"http": _free(), "grpc": _free()}
        serving = asyncio.create_task(streams.serve("v7", [ports["http"]], [ports["grpc"]]))
        for port in ports.values():
            await _open(port)
        try:
            return [
                await client.perform(replace(one, address=f"127.0.0.1:{ports[one.address]}"))
                for one in requests
            ]
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)

    return asyncio.run(run())


def _free() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


async def _open(port: int) -> None:
    async with asyncio.timeout(10):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                return


@pytest.mark.parametrize("http2", [False, True])
def test_http(http2: bool) -> None:
    request = Request("http", "streams.example", http2=http2)
    events, sized, unknown, sent = answered(
        replace(request, path=f"/any?events=3&interval={SECONDS}"),
        replace(request, path="/any?size=2000&length=known&type=text/html"),
        replace(request, path="/any?size=2000&length=unknown"),
        replace(
            request, method="POST", path="/up", headers=(("x-mark", "1"),),
            messages=("a" * 1000, "b" * 500), pauses=SECONDS,
        ),
    )  # fmt: skip
    assert events.body == "data: 0\n\ndata: 1\n\ndata: 2\n\n"
    assert events.header("content-type") == "text/event-stream"
    assert [round(at / SECONDS) for at in events.arrivals[:3]] == [0, 1, 2]
    assert (sized.size, sized.header("content-length")) == (2000, "2000")
    assert sized.header("content-type") == "text/html"
    assert (unknown.size, unknown.header("content-length")) == (2000, None)
    assert (sent.echoed("Method"), sent.echoed("URL")) == ("POST", "/up")
    assert (sent.echoed("ServiceVersion"), sent.served_by) == ("v7", socket.gethostname())
    assert sent.seen("x-mark") == ["1"]
    pieces = [line.split("=")[1].split() for line in sent.body.splitlines() if "Piece=" in line]
    assert [(round(float(at) / SECONDS), size) for at, size in pieces] == [(1, "1000"), (2, "500")]


def test_websocket() -> None:
    large = "x" * 2**20
    (reply,) = answered(
        Request(
            "http", "streams.example", path="/ws", kind="websocket",
            messages=(streams.DESCRIBE, "hello", large), pauses=SECONDS,
        )
    )  # fmt: skip
    assert reply.status == 101, reply.error
    assert reply.echoed("URL") == "/ws"
    assert reply.messages[1:] == ("hello", large)


def test_grpc() -> None:
    call = Request("grpc", "streams.example", path="/any.v1.Service/Any", kind="grpc")
    status = "status=NOT_FOUND&detail=no such thing&trailer=x-why:gone"
    both, down, late, told = answered(
        replace(call, messages=("a=1", "b=22", status), pauses=SECONDS),
        replace(call, messages=(f"answers=3&interval={SECONDS}",)),
        replace(call, messages=("answers=9&interval=1&as=late",), deadline=SECONDS * 2),
        replace(call, messages=("ended=late",)),
    )
    assert (both.grpc_status, both.extra[DETAILS]) == ("NOT_FOUND", "no such thing")
    assert both.header("x-why") == "gone"
    assert both.messages[1:] == ("Size=3\n", "Size=4\n", f"Size={len(status)}\n")
    assert [round(at / SECONDS) for at in both.arrivals] == [0, 1, 2, 3]
    assert down.grpc_status == "OK"
    assert down.messages[1:] == ("Size=22\n", "Answer=0\n", "Answer=1\n", "Answer=2\n")
    assert late.grpc_status == "DEADLINE_EXCEEDED"
    assert float(late.echoed("Deadline") or 0) == pytest.approx(SECONDS * 2, abs=SECONDS)
    assert (told.echoed("Ended") or "").split()[0] == "cancelled"


def test_an_answer_that_is_broken_off_is_none() -> None:
    async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
        await writer.drain()
        writer.close()

    async def run() -> Reply:
        server = await asyncio.start_server(half, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            return await client.perform(Request(f"127.0.0.1:{port}", "streams.example"))

    reply = asyncio.run(run())
    assert (reply.status, reply.body) == (0, "half")
    assert reply.error
