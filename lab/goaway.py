"""Connections of one HTTP/2 request each that a server may close while it still answers.

A server that closes a connection says in a GOAWAY frame which streams it still answers (RFC 9113,
section 6.8). The `h2` library takes every frame after a GOAWAY for an error, so the answer to a
request that crossed one would be lost. Frames that say that this answer comes are kept from it.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from typing import Any

import httpcore
from h2.errors import ErrorCodes
from hyperframe.frame import Frame, GoAwayFrame

_HEADER = 9
"""Bytes of a frame's header: three of its length, the type, flags, four of the stream."""
_TYPE = 3
_LONGEST = 16_384
"""Bytes of a frame's body, which a client may raise and this one does not."""
_FIRST = 1
"""The stream of a connection's first request."""


class AnsweredBackend(httpcore.AsyncNetworkBackend):
    """Opens connections on which the answer to the first request is taken though a GOAWAY came.

    `http2`: whether connections without TLS are HTTP/2; with TLS, ALPN decides.
    """

    def __init__(self, *, http2: bool) -> None:
        self._opens = httpcore.AnyIOBackend()
        self._http2 = http2

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect; raises what httpcore's own backend raises."""
        stream = await self._opens.connect_tcp(host, port, timeout, local_address, socket_options)
        return _Stream(stream, framed=self._http2)


class _Stream(httpcore.AsyncNetworkStream):
    def __init__(self, stream: httpcore.AsyncNetworkStream, *, framed: bool) -> None:
        self._stream = stream
        self._framed = framed
        self._held = b""

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        while piece := await self._stream.read(max_bytes, timeout):
            kept = self._kept(piece) if self._framed else piece
            if kept:
                return kept
        held, self._held = self._held, b""
        return held

    def _kept(self, piece: bytes) -> bytes:
        """The whole frames that there are now, but for a GOAWAY that promises the answer."""
        data, kept = self._held + piece, b""
        while len(data) >= _HEADER:
            end = _HEADER + int.from_bytes(data[:3], "big")
            if end > _HEADER + _LONGEST:
                # No HTTP/2: for the library to refuse.
                self._held, self._framed = b"", False
                return kept + data
            if len(data) < end:
                break
            if not _promises(data[:end]):
                kept += data[:end]
            data = data[end:]
        self._held = data
        return kept

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.AsyncNetworkStream:
        secured = await self._stream.start_tls(ssl_context, server_hostname, timeout)
        chosen = secured.get_extra_info("ssl_object").selected_alpn_protocol()
        return _Stream(secured, framed=chosen == "h2")

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _promises(frame: bytes) -> bool:
    """Whether it is a GOAWAY without an error that leaves the first stream its answer."""
    if frame[_TYPE] != GoAwayFrame.type:
        return False
    goaway, _ = Frame.parse_frame_header(memoryview(frame[:_HEADER]))
    goaway.parse_body(memoryview(frame[_HEADER:]))
    return (
        isinstance(goaway, GoAwayFrame)
        and goaway.error_code == ErrorCodes.NO_ERROR
        and goaway.last_stream_id >= _FIRST
    )
