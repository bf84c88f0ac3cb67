"""Clients that speak on the connection itself, for promises about connections.

`spoken` sends bytes as they are given; `multiplexed` sends many requests over one HTTP/2
connection, also more than the server allows. Both listen until the server ends the connection, or
until a second before the request's time is over.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
import time

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    RemoteSettingsChanged,
    ResponseReceived,
    StreamEnded,
    StreamReset,
)
from h2.settings import SettingCodes

from lab.exchange import Reply, Request

IDLE, STREAMS = "idle", "max-concurrent-streams"
"""Keys of a reply's `extra`: seconds between the last byte and the end of the connection, if it has
ended, and what the server's SETTINGS say."""
_MARGIN = 1.0
_CLOSED = "Closed: the server ended the connection and answered nothing"
_OPEN = "Open: the server neither answered nor ended the connection"
_PIECE = 65_536
_NO_LIMIT = 2**31 - 1


async def spoken(request: Request, tls: ssl.SSLContext | None) -> Reply:
    """Send the messages, each byte a Latin-1 letter, and listen until the server hangs up."""
    wire = await _Wire.opened(request, tls)
    got = b""
    arrivals: list[float] = []
    sending = asyncio.create_task(_say(request, wire))
    try:
        while piece := await wire.read():
            arrivals.append(wire.age)
            got += piece
    finally:
        sending.cancel()
    status = re.match(rb"HTTP/1\.1 (\d{3}) ", got)
    return Reply(
        status=int(status[1]) if status else 0,
        error="" if status else wire.why,
        body=got.decode("latin-1"),
        size=len(got),
        arrivals=tuple(arrivals[:200]),
        extra=wire.end,
    )


async def _say(request: Request, wire: _Wire) -> None:
    # Of a server that has hung up the reader hears.
    with contextlib.suppress(OSError):
        for message in request.messages:
            await asyncio.sleep(request.pauses)
            await wire.write(message.encode("latin-1"))


async def multiplexed(request: Request, tls: ssl.SSLContext | None) -> Reply:
    """Send `streams` copies of a request at once and listen until the server hangs up.

    The reply's messages say for each copy its status, the name of the error that its stream was
    reset with, or `unanswered`; its body is that of all answers, one after the other.
    """
    wire = await _Wire.opened(request, tls)
    protocol = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
    protocol.initiate_connection()
    answers: dict[int, str] = {}
    bodies: dict[int, bytes] = {}
    done: set[int] = set()
    allowed = ended = ""
    await wire.write(protocol.data_to_send())
    while piece := await wire.read():
        for event in protocol.receive_data(piece):
            if isinstance(event, DataReceived):
                number = event.stream_id or 0
                bodies[number] = bodies.get(number, b"") + (event.data or b"")
            elif isinstance(event, StreamEnded | StreamReset):
                done.add(event.stream_id or 0)
            if isinstance(event, RemoteSettingsChanged) and not answers:
                changed = event.changed_settings.get(SettingCodes.MAX_CONCURRENT_STREAMS)
                allowed = str(changed.new_value) if changed else "unlimited"
                answers = dict.fromkeys(_ask(protocol, request), "unanswered")
            elif isinstance(event, ConnectionTerminated):
                ended = ErrorCodes(event.error_code or 0).name
            else:
                _note(protocol, event, answers)
        await wire.write(protocol.data_to_send())
        if request.hangs_up and answers and answers.keys() <= done:
            wire.hang_up()
    statuses = [int(answer) for answer in answers.values() if answer.isdigit()]
    return Reply(
        status=max(statuses, default=0),
        error="" if statuses else wire.why,
        messages=tuple(answers.values()),
        body=b"".join(bodies.values()).decode("utf-8", "replace"),
        protocol="HTTP/2",
        extra={**wire.end, STREAMS: allowed, "goaway": ended},
    )


def _ask(protocol: H2Connection, request: Request) -> list[int]:
    """Open the streams; the library's own obedience to the server's limit is taken from it."""
    protocol.remote_settings[SettingCodes.MAX_CONCURRENT_STREAMS] = _NO_LIMIT
    protocol.remote_settings.acknowledge()
    opened = []
    for _ in range(request.streams):
        number = protocol.get_next_available_stream_id()
        pseudo = [
            (":method", request.method), (":scheme", "https" if request.tls else "http"),
            (":authority", request.authority), (":path", request.path),
        ]  # fmt: skip
        protocol.send_headers(number, [*pseudo, *request.headers], end_stream=True)
        opened.append(number)
    return opened


def _note(protocol: H2Connection, event: Event, answers: dict[int, str]) -> None:
    if isinstance(event, ResponseReceived) and event.stream_id:
        headers = {str(name): str(value) for name, value in event.headers or ()}
        answers[event.stream_id] = headers[":status"]
    elif isinstance(event, StreamReset) and event.stream_id:
        if not answers[event.stream_id].isdigit():
            answers[event.stream_id] = ErrorCodes(event.error_code or 0).name
    elif isinstance(event, DataReceived):
        protocol.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id or 0)


class _Wire:
    """One connection and when something last moved on it."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, until: float
    ) -> None:
        self._reader, self._writer, self._until = reader, writer, until
        self._opened = self._moved = time.monotonic()
        self.end: dict[str, str] = {}
        """What `extra` says of the connection's end; nothing while it is open."""

    @property
    def why(self) -> str:
        """Why there is no answer."""
        return _CLOSED if self.end else _OPEN

    @classmethod
    async def opened(cls, request: Request, tls: ssl.SSLContext | None) -> _Wire:
        host, _, port = request.address.rpartition(":")
        name = request.tls.server_name if request.tls else None
        until = time.monotonic() + request.timeout - _MARGIN
        reader, writer = await asyncio.open_connection(
            host, int(port), ssl=tls, server_hostname=name,
            local_addr=(request.source, 0) if request.source else None,
        )  # fmt: skip
        return cls(reader, writer, until)

    @property
    def age(self) -> float:
        return round(time.monotonic() - self._opened, 3)

    async def read(self) -> bytes:
        """What comes next; nothing when the server has ended the connection, however it did, and
        when there is no time to wait for that."""
        if not self._until:
            return b""
        try:
            async with asyncio.timeout(self._until - time.monotonic()):
                piece = await self._reader.read(_PIECE)
        except TimeoutError:
            self._writer.close()
            return b""
        except (ConnectionError, ssl.SSLError):
            piece = b""
        now = time.monotonic()
        if piece:
            self._moved = now
        else:
            self.end = {IDLE: f"{now - self._moved:.3f}"}
            self._writer.close()
        return piece

    def hang_up(self) -> None:
        """End the connection; what was to come is not read."""
        self._writer.close()
        self._until = 0.0

    async def write(self, data: bytes) -> None:
        if data and not self._writer.is_closing():
            self._writer.write(data)
            await self._writer.drain()
            self._moved = time.monotonic()
