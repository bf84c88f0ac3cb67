"""One request and what came back, as data: what a client of the lab is told and what it tells."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

DETAILS = "details"
"""Key of a reply's `extra`: the text with which a gRPC call ended."""

TlsVersion = Literal["1.0", "1.1", "1.2", "1.3"]


@dataclass(frozen=True)
class Tls:
    """How a client speaks TLS."""

    server_name: str
    alpn: tuple[str, ...] = ("h2", "http/1.1")
    minimum: TlsVersion = "1.2"
    maximum: TlsVersion = "1.3"
    ca: str = ""
    """File with the CA that the server's certificate must come from; empty checks nothing."""
    certificate: str = ""
    """File with the client's key and certificate."""


@dataclass(frozen=True)
class Request:
    """One request; headers and path go out byte for byte."""

    address: str
    """Where the connection goes: `10.0.0.1:443`, or a name from the hosts file."""
    authority: str
    method: str = "GET"
    path: str = "/"
    headers: tuple[tuple[str, str], ...] = ()
    body: str = ""
    body_size: int = 0
    """Bytes of filler to send as body, where `body` is empty."""
    kind: Literal["http", "websocket", "grpc", "bytes", "streams"] = "http"
    """`bytes`: the messages as they are, and nothing else. `streams`: many copies of the request
    over one HTTP/2 connection. Both last until the server ends the connection, `streams` that
    `hangs_up` until all are answered."""
    http2: bool = False
    """HTTP/2 with prior knowledge where there is no TLS; with TLS, ALPN decides."""
    tls: Tls | None = None
    source: str = ""
    """The address the connection comes from; one of the client's own."""
    timeout: float = 10.0
    """Seconds."""
    messages: tuple[str, ...] = ()
    """What is sent one after the other: WebSocket or gRPC messages, or pieces of an HTTP body."""
    pauses: float = 0.0
    """Seconds a client waits before each message."""
    deadline: float = 0.0
    """Seconds that a gRPC call may take, as the client tells the server; 0 tells none."""
    streams: int = 1
    """Copies of the request that a client of kind `streams` sends at once."""
    hangs_up: bool = False
    """A client of kind `streams` ends the connection itself when all copies are answered."""

    def with_headers(self, *more: tuple[str, str]) -> Request:
        """The same request with more headers behind its own."""
        return replace(self, headers=(*self.headers, *more))


@dataclass(frozen=True)
class Reply:
    """What came back."""

    status: int = 0
    """HTTP status; for gRPC the HTTP/2 status 200 and `grpc_status`; 0 if there was no answer, or
    one that was broken off. What came of it is there all the same."""
    headers: tuple[tuple[str, str], ...] = ()
    """Of gRPC the trailers."""
    body: str = ""
    size: int = 0
    """Bytes of the body as they came over the wire."""
    error: str = ""
    """Why there was no answer: class and text of the client's error."""
    protocol: str = ""
    tls_version: str = ""
    seconds: float = 0.0
    grpc_status: str = ""
    messages: tuple[str, ...] = ()
    """What a WebSocket or gRPC client got."""
    arrivals: tuple[float, ...] = ()
    """Seconds after the request at which pieces of the body, or messages, came."""
    extra: dict[str, str] = field(default_factory=dict)

    def header(self, name: str) -> str | None:
        """The first header of that name."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    @cached_property
    def _echoed(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for key, value in _LINE.findall(self.body):
            found.setdefault(key, []).append(value)
        return found

    def echoed(self, name: str) -> str | None:
        """A field of the echo server's answer: Hostname, ServiceVersion, URL, Method, IP, …"""
        return next(iter(self._echoed.get(name, ())), None)

    def each(self, name: str) -> list[str]:
        """A field of every answer there is in the body: one for each copy of the request."""
        return self._echoed.get(name, [])

    @property
    def served_by(self) -> str:
        """The pod that answered, empty where none of the services did."""
        return self.echoed("Hostname") or ""

    def seen(self, header: str) -> list[str]:
        """The values of a request header as the service saw them."""
        wanted = f"{header.lower()}:"
        return [
            line[len(wanted) :]
            for line in self._echoed.get("RequestHeader", ())
            if line.lower().startswith(wanted)
        ]

    def __str__(self) -> str:
        if self.error:
            return self.error
        grpc = f", grpc-status {self.grpc_status}" if self.grpc_status else ""
        by = f" from {self.served_by}" if self.served_by else ""
        return f"{self.status}{grpc}{by}"


_LINE = re.compile(r"^([A-Za-z]+)=(.*)$", re.MULTILINE)
