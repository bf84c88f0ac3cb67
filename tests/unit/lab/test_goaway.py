"""The client of the contracts takes an answer that comes after the server's GOAWAY, and no other."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import StreamEnded
from hyperframe.frame import GoAwayFrame

from lab.client import perform
from lab.exchange import Reply, Request

GRACEFUL = GoAwayFrame(last_stream_id=2**31 - 1).serialize()
LAST = GoAwayFrame(last_stream_id=1).serialize()
NONE = GoAwayFrame(last_stream_id=0).serialize()
ERROR = GoAwayFrame(last_stream_id=1, error_code=ErrorCodes.ENHANCE_YOUR_CALM).serialize()


class Server:
    """Answers one HTTP/2 request, with bytes of the test's own before, amid and after it."""

    def __init__(self, before: bytes = b"", amid: bytes = b"", pieces: int = 0) -> None:
        self.before, self.amid = before, amid
        self.pieces = pieces
        """Bytes that are written at once; 0 writes all."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        protocol = H2Connection(H2Configuration(client_side=False))
        protocol.initiate_connection()
        asked = False
        with contextlib.closing(writer), contextlib.suppress(OSError):
            while not asked:
                asked = any(
                    isinstance(event, StreamEnded)
                    for event in protocol.receive_data(await reader.read(65536))
                )
                await self._write(writer, protocol.data_to_send())
            protocol.send_headers(1, [(":status", "200")])
            headers = protocol.data_to_send()
            protocol.send_data(1, b"served" * 1000, end_stream=True)
            await self._write(writer, self.before + headers + self.amid + protocol.data_to_send())

    async def _write(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        step = self.pieces or len(data) or 1
        for start in range(0, len(data), step):
            writer.write(data[start : start + step])
            await writer.drain()
            await asyncio.sleep(0)


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def reply(serve: Serve) -> Reply:
    """What the client makes of a server's answer."""

    async def run() -> Reply:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as listening:
            address = f"127.0.0.1:{listening.sockets[0].getsockname()[1]}"
            return await perform(Request(address, "goaway.example", http2=True, timeout=5))

    return asyncio.run(run())


@pytest.mark.parametrize("pieces", [0, 1, 7])
@pytest.mark.parametrize(
    ("before", "amid"),
    [(b"", b""), (GRACEFUL, b""), (b"", GRACEFUL), (GRACEFUL, LAST), (GRACEFUL + LAST, LAST)],
    ids=["none", "before", "amid", "both", "three"],
)
def test_the_answer_is_taken(before: bytes, amid: bytes, pieces: int) -> None:
    got = reply(Server(before, amid, pieces).serve)
    assert (got.error, got.status, got.body) == ("", 200, "served" * 1000)


@pytest.mark.parametrize("goaway", [NONE, ERROR], ids=["no-stream", "error"])
def test_a_server_that_refuses_the_request_or_breaks_off_is_an_error(goaway: bytes) -> None:
    got = reply(Server(before=goaway).serve)
    assert got.status == 0
    assert "Protocol" in got.error or "ConnectionTerminated" in got.error


@pytest.mark.parametrize(
    "spoken", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0\0"], ids=["http1", "cut"]
)
def test_what_is_no_http2_is_an_error_and_not_waited_for(spoken: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(spoken)
        writer.write_eof()
        await reader.read()
        writer.close()

    got = reply(serve)
    assert got.status == 0
    assert "Protocol" in got.error
    assert got.seconds < 4
