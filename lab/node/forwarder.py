"""Forward connections from the host into the node: `python -m lab.node.forwarder NAME=HOST:PORT …`.

It runs inside the node. Its listening TCP sockets were bound on the host's loopback and handed to
it by whoever started it (descriptors in VOICEMESH_SOCKETS, as NAME=FD); names without a
descriptor get a Unix socket in the lab's directory instead, usable by the lab's owner only.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import socket
import sys
from pathlib import Path

SOCKETS = "VOICEMESH_SOCKETS"
UNIX = "unix:"
"""Prefix of the source of a forward that listens on a Unix socket: `unix:PATH=HOST:PORT`."""


async def forward(
    source: asyncio.StreamReader, sink: asyncio.StreamWriter, host: str, port: int
) -> None:
    """Relay one connection until both directions are closed."""
    try:
        back_source, back_sink = await asyncio.open_connection(host, port)
    except OSError:
        sink.transport.abort()
        return
    await asyncio.gather(_relay(source, back_sink), _relay(back_source, sink))
    for writer in (sink, back_sink):
        writer.close()


async def _relay(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
        sink.write_eof()
    except OSError:
        # The other side learns of a reset by a reset.
        sink.transport.abort()


async def serve(forwards: list[str], descriptors: dict[str, int]) -> None:
    """Listen for all forwards, for ever."""
    async with contextlib.AsyncExitStack() as servers:
        for item in forwards:
            name, _, target = item.rpartition("=")
            host, _, port = target.rpartition(":")
            connected = functools.partial(forward, host=host, port=int(port))
            server: asyncio.Server
            if name.startswith(UNIX):
                path = Path(name.removeprefix(UNIX))
                path.unlink(missing_ok=True)
                server = await asyncio.start_unix_server(connected, path)
            else:
                listening = socket.socket(fileno=descriptors[name])
                server = await asyncio.start_server(connected, sock=listening)
            await servers.enter_async_context(server)
        await asyncio.get_running_loop().create_future()


def main() -> None:
    """Run until killed."""
    os.umask(0o177)
    given = [item.split("=") for item in os.environ.get(SOCKETS, "").split(",") if item]
    asyncio.run(serve(sys.argv[1:], {name: int(number) for name, number in given}))


if __name__ == "__main__":
    main()
