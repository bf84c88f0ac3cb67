"""What contracts about connections take for right and for wrong, and the clients they use."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import RequestReceived
from h2.settings import SettingCodes, Settings

from lab import wire
from lab.contracts.connections import carried, closed_after, cut_off
from lab.exchange import Reply, Request

CLOSED = {wire.IDLE: "4.0"}


@pytest.mark.parametrize(
    ("silent", "served", "wrong"),
    [
        (Reply(seconds=4.02, extra=CLOSED), Reply(status=200, seconds=10.1, extra=CLOSED), ""),
        (Reply(seconds=4.02, extra=CLOSED), Reply(status=200, seconds=4.1, extra=CLOSED), ""),
        (
            Reply(error="Open: no answer", seconds=19),
            Reply(status=200, seconds=10.1, extra=CLOSED),
            "was not closed",
        ),
        (
            Reply(seconds=0.2, extra=CLOSED),
            Reply(status=200, seconds=10.1, extra=CLOSED),
            "closed after 0.2 s",
        ),
        (
            Reply(seconds=4.0, extra=CLOSED),
            Reply(status=200, seconds=15, extra=CLOSED),
            "closed after 15.0 s",
        ),
        (
            Reply(seconds=8.0, extra=CLOSED),
            Reply(status=200, seconds=10, extra=CLOSED),
            "closed after 8.0 s",
        ),
    ],
)
def test_idle_connections_end_in_time(silent: Reply, served: Reply, wrong: str) -> None:
    said = closed_after(4, silent=slice(0, 1), served=slice(1, 2))([silent, served])
    assert (said is None) if not wrong else (said is not None and wrong in said)


@pytest.mark.parametrize(
    ("reply", "wrong"),
    [
        (Reply(status=408, body="HTTP/1.1 408", arrivals=(1.33,)), ""),
        # An HTTP/2 server's SETTINGS come first.
        (Reply(body="...408...", arrivals=(0.05, 0.4, 1.4, 5.4)), ""),
        (Reply(body="...408...", arrivals=(0.05, 0.4, 3.4, 5.4)), "after -0.28, 0.07, 3.07, 5.07"),
        (Reply(status=408, body="HTTP/1.1 408", arrivals=(3.4,)), "after 3.07 s"),
        (Reply(status=408, body="HTTP/1.1 408", arrivals=(0.8,)), "after 0.47 s"),
        (Reply(status=200, body="HTTP/1.1 200", arrivals=(1.3,)), "not told 408"),
        (Reply(error="Timeout: no answer"), "not told 408: 'Timeout"),
    ],
)
def test_slow_clients_are_cut_off_by_their_own_limit(reply: Reply, wrong: str) -> None:
    said = cut_off(1, 3)([reply])
    assert (said is None) if not wrong else (said is not None and wrong in said)


def _streams(count: int, settings: str = "100") -> Reply:
    return Reply(messages=("200",) * count, extra={wire.STREAMS: settings})


@pytest.mark.parametrize(
    ("allowed", "beyond", "wrong"),
    [
        (_streams(100), _streams(0), ""),
        (_streams(100), _streams(100), ""),
        (_streams(99), _streams(0), "99 were served"),
        (_streams(100), _streams(101), "101 requests were served at once"),
        (_streams(100, "unlimited"), _streams(0), "SETTINGS say unlimited"),
    ],
)
def test_a_connection_carries_its_limit_and_no_more(
    allowed: Reply, beyond: Reply, wrong: str
) -> None:
    said = carried(100)([allowed, beyond])
    assert (said is None) if not wrong else (said is not None and wrong in said)


Server = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def _asked(server: Server, kind: str, **request: object) -> Reply:
    """What a client of `kind` says of a server of our own."""

    async def ask() -> Reply:
        listening = await asyncio.start_server(server, "127.0.0.1", 0)
        port = listening.sockets[0].getsockname()[1]
        wanted = Request(f"127.0.0.1:{port}", "a.example", **request)  # type: ignore[arg-type]
        client = {"bytes": wire.spoken, "streams": wire.multiplexed}[kind]
        async with listening:
            return await asyncio.wait_for(client(wanted, None), 10)

    return asyncio.run(ask())


def test_bytes_go_out_as_they_are_and_the_end_is_noticed() -> None:
    heard = []

    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readexactly(6))
        writer.write(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
        await writer.drain()
        writer.close()

    reply = _asked(server, "bytes", messages=("a\r\n", "b\xff\n"))
    assert heard == [b"a\r\nb\xff\n"]
    assert (reply.status, len(reply.arrivals)) == (408, 1)
    assert wire.IDLE in reply.extra


def test_a_connection_that_is_closed_at_once_is_no_answer() -> None:
    async def server(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    reply = _asked(server, "bytes")
    assert reply.status == 0
    assert reply.error.startswith("Closed")


def test_a_connection_that_stays_open_has_no_end() -> None:
    async def server(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read(1)

    reply = _asked(server, "bytes", timeout=1.2)
    assert reply.error.startswith("Open")
    assert wire.IDLE not in reply.extra


def test_more_streams_are_opened_than_the_server_allows() -> None:
    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        protocol = H2Connection(H2Configuration(client_side=False))
        limit = SettingCodes.MAX_CONCURRENT_STREAMS
        protocol.local_settings = Settings(client=False, initial_values={limit: 3})
        protocol.initiate_connection()
        writer.write(protocol.data_to_send())
        # It has told the client of three, and takes what comes.
        protocol.local_settings[limit] = 100
        protocol.local_settings.acknowledge()
        seen = 0
        while seen < 5 and (piece := await reader.read(65_536)):
            for event in protocol.receive_data(piece):
                if isinstance(event, RequestReceived) and event.stream_id:
                    seen += 1
                    if seen < 5:
                        protocol.send_headers(
                            event.stream_id, [(":status", "200")], end_stream=True
                        )
                    else:
                        protocol.reset_stream(event.stream_id, 7)
            writer.write(protocol.data_to_send())
        protocol.close_connection()
        writer.write(protocol.data_to_send())
        await writer.drain()
        writer.close()

    reply = _asked(server, "streams", streams=5)
    assert reply.extra[wire.STREAMS] == "3"
    assert reply.messages == ("200",) * 4 + ("REFUSED_STREAM",)
    assert (reply.status, reply.extra["goaway"]) == (200, "NO_ERROR")
