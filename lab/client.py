"""Clients of the lab: `python -m lab.client`, inside the node.

Reads requests from standard input, one JSON object a line: `{"id", "pid", "request"}`, and writes
what came back as `{"id", "reply"}`. Each network namespace gets one process of its own, forked
from this one, so that a batch over many pods costs no start of an interpreter each.
"""

from __future__ import annotations

import asyncio
import ctypes
import dataclasses
import functools
import gzip
import json
import multiprocessing
import os
import socket
import ssl
import sys
import time
import warnings
import zlib
from collections.abc import AsyncIterator, Iterable
from multiprocessing.synchronize import Lock
from typing import Any

import h2.exceptions
import httpcore
import websockets.asyncio.client
from websockets.exceptions import InvalidStatus, WebSocketException

from lab import wire
from lab.exchange import DETAILS, Reply, Request, Tls
from lab.goaway import AnsweredBackend

_NEW_NETWORK = 0x40000000
_AT_ONCE = 64
_KEPT = 262_144
"""Bytes of a body that are handed on."""
_VERSIONS = {
    "1.0": ssl.TLSVersion.TLSv1,
    "1.1": ssl.TLSVersion.TLSv1_1,
    "1.2": ssl.TLSVersion.TLSv1_2,
    "1.3": ssl.TLSVersion.TLSv1_3,
}
_BROKEN = (
    OSError,
    EOFError,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.TimeoutException,
    h2.exceptions.H2Error,
    WebSocketException,
)
"""What is raised where the other side refuses a connection or breaks it off."""
_LARGEST = ("grpc.max_receive_message_length", 64 * 2**20)


def main() -> None:
    """Serve until standard input ends."""
    forking = multiprocessing.get_context("fork")
    lock = forking.Lock()
    children: dict[int, int] = {}
    for line in sys.stdin:
        pid = json.loads(line)["pid"]
        if pid not in children:
            reading, writing = os.pipe()
            if os.fork() == 0:
                os.close(writing)
                for other in children.values():
                    os.close(other)
                _serve(pid, reading, lock)
                os._exit(0)
            os.close(reading)
            children[pid] = writing
        _write_all(children[pid], line.encode())
    for writing in children.values():
        os.close(writing)
    for _ in children:
        os.wait()


def _serve(pid: int, reading: int, lock: Lock) -> None:
    descriptor = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    library = ctypes.CDLL(None, use_errno=True)
    if library.setns(descriptor, _NEW_NETWORK) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    os.close(descriptor)
    asyncio.run(_answer(reading, lock))


async def _answer(reading: int, lock: Lock) -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=2**24)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(reading))
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(item: dict[str, Any]) -> None:
        async with gate:
            reply = await perform(_request(item["request"]))
        line = json.dumps({"id": item["id"], "reply": dataclasses.asdict(reply)}) + "\n"
        with lock:
            _write_all(1, line.encode())

    tasks = set()
    while line := await reader.readline():
        task = asyncio.create_task(one(json.loads(line)))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _request(item: dict[str, Any]) -> Request:
    tls = item.pop("tls")
    given = {key: _frozen(value) for key, value in item.items()}
    return Request(**given, tls=Tls(**{k: _frozen(v) for k, v in tls.items()}) if tls else None)


def _frozen(value: Any) -> Any:
    return tuple(_frozen(one) for one in value) if isinstance(value, list) else value


async def perform(request: Request) -> Reply:
    """Send one request from the network namespace this process is in; errors are replies too."""
    began = time.monotonic()
    how = {
        "http": _http,
        "websocket": _websocket,
        "grpc": _grpc,
        "bytes": _spoken,
        "streams": _multiplexed,
    }[request.kind]
    try:
        async with asyncio.timeout(request.timeout):
            reply = await how(request)
    except TimeoutError:
        reply = Reply(error=f"Timeout: no answer within {request.timeout:g} s")
    except _BROKEN as error:
        reply = Reply(error=_told(error))
    return dataclasses.replace(reply, seconds=round(time.monotonic() - began, 4))


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


@functools.cache
def context(tls: Tls) -> ssl.SSLContext:
    """A client's TLS settings; connections with the same share them, never a session."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        if tls.minimum < "1.2":
            # Ciphers of the old versions, so that it is the server who refuses.
            made.set_ciphers("ALL:@SECLEVEL=0")
        made.minimum_version = _VERSIONS[tls.minimum]
        made.maximum_version = _VERSIONS[tls.maximum]
    made.set_alpn_protocols(list(tls.alpn))
    made.check_hostname = bool(tls.ca)
    made.verify_mode = ssl.CERT_REQUIRED if tls.ca else ssl.CERT_NONE
    if tls.ca:
        made.load_verify_locations(tls.ca)
    if tls.certificate:
        made.load_cert_chain(tls.certificate)
    return made


async def _http(request: Request) -> Reply:
    host, _, port = request.address.rpartition(":")
    scheme = "https" if request.tls else "http"
    names = {name.lower() for name, _ in request.headers}
    headers = [(b"host", request.authority.encode())]
    headers += [(name.encode(), value.encode()) for name, value in request.headers]
    length = len(request.body.encode()) or request.body_size or len(request.messages)
    if length and not request.messages and not names & {"content-length", "transfer-encoding"}:
        headers.append((b"content-length", str(length).encode()))
    extensions: dict[str, Any] = {"timeout": {"connect": request.timeout}}
    if request.tls:
        extensions["sni_hostname"] = request.tls.server_name
    http2 = "h2" in request.tls.alpn if request.tls else request.http2
    pool = httpcore.AsyncConnectionPool(
        ssl_context=context(request.tls) if request.tls else None,
        http1=not http2 or (request.tls is not None and "http/1.1" in request.tls.alpn),
        http2=http2,
        local_address=request.source or None,
        network_backend=AnsweredBackend(http2=request.http2),
    )
    url = httpcore.URL(
        scheme=scheme.encode(), host=host.encode(), port=int(port), target=request.path.encode()
    )
    began = time.monotonic()
    async with (
        pool,
        pool.stream(
            request.method.encode(),
            url,
            headers=headers,
            content=_body(request) if length else None,
            extensions=extensions,
        ) as response,
    ):
        pieces, arrivals, size, broken = [], [], 0, ""
        try:
            async for piece in response.aiter_stream():
                arrivals.append(round(time.monotonic() - began, 3))
                if size < _KEPT:
                    pieces.append(piece)
                size += len(piece)
        except _BROKEN as error:
            broken = _told(error)
        stream = response.extensions.get("network_stream")
        tls = stream.get_extra_info("ssl_object") if stream and request.tls else None
        body = b"".join(pieces)
        if not broken and (b"content-encoding", b"gzip") in _lowered(response.headers):
            body, broken = _unzipped(body)
        return Reply(
            status=0 if broken else response.status,
            error=broken,
            headers=tuple((k.decode(), v.decode("latin-1")) for k, v in response.headers),
            body=body.decode("utf-8", "replace"),
            size=size,
            protocol=response.extensions.get("http_version", b"").decode(),
            tls_version=(tls.version() or "") if tls else "",
            arrivals=tuple(arrivals[:200]),
        )


def _lowered(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    return [(name.lower(), value) for name, value in headers]


def _unzipped(body: bytes) -> tuple[bytes, str]:
    """What a client makes of a body that is gzip, and what is wrong with it."""
    try:
        return gzip.decompress(body) if body else body, ""
    except (OSError, EOFError, zlib.error) as error:
        return b"", _told(error)


async def _spoken(request: Request) -> Reply:
    return await wire.spoken(request, context(request.tls) if request.tls else None)


async def _multiplexed(request: Request) -> Reply:
    return await wire.multiplexed(request, context(request.tls) if request.tls else None)


async def _body(request: Request) -> AsyncIterator[bytes]:
    if request.body:
        yield request.body.encode()
        return
    for message in request.messages:
        await asyncio.sleep(request.pauses)
        yield message.encode("latin-1")
    left = request.body_size
    while left > 0:
        piece = b"x" * min(left, 16384)
        left -= len(piece)
        yield piece


async def _websocket(request: Request) -> Reply:
    host, _, port = request.address.rpartition(":")
    tls = context(dataclasses.replace(request.tls, alpn=("http/1.1",))) if request.tls else None
    scheme = "wss" if tls else "ws"
    connection = socket.socket()
    connection.setblocking(False)
    if request.source:
        connection.bind((request.source, 0))
    await asyncio.get_running_loop().sock_connect(connection, (host, int(port)))
    got: list[str] = []
    arrivals: list[float] = []
    broken, began = "", time.monotonic()
    try:
        async with websockets.asyncio.client.connect(
            f"{scheme}://{request.authority}{request.path}",
            sock=connection,
            ssl=tls,
            server_hostname=request.tls.server_name if request.tls else None,
            additional_headers=list(request.headers),
            user_agent_header=None,
            compression=None,
            max_size=None,
            ping_interval=None,
            open_timeout=request.timeout,
            proxy=None,
        ) as client:
            try:
                for message in request.messages:
                    await asyncio.sleep(request.pauses)
                    await client.send(message)
                    answer = await client.recv()
                    arrivals.append(round(time.monotonic() - began, 3))
                    got.append(answer if isinstance(answer, str) else answer.decode())
            except _BROKEN as error:
                broken = _told(error)
            response = client.response
            return Reply(
                status=0 if broken else 101,
                error=broken,
                headers=tuple(response.headers.raw_items()) if response else (),
                messages=tuple(got),
                body="".join(got)[:_KEPT],
                arrivals=tuple(arrivals[:200]),
            )
    except InvalidStatus as refused:
        response = refused.response
        return Reply(
            status=response.status_code,
            headers=tuple(response.headers.raw_items()),
            body=(response.body or b"").decode("utf-8", "replace"),
        )


async def _grpc(request: Request) -> Reply:
    # Imported here: gRPC must not have started anything before a fork.
    import grpc
    import grpc.aio

    host, _, port = request.address.rpartition(":")
    # gRPC's own resolver asks DNS servers before it looks into the hosts file.
    found = await asyncio.get_running_loop().getaddrinfo(host, int(port), type=socket.SOCK_STREAM)
    address = f"{found[0][4][0]}:{port}"
    options = [
        ("grpc.default_authority", request.authority),
        ("grpc.enable_retries", 0),
        ("grpc.ssl_target_name_override", request.tls.server_name if request.tls else ""),
        ("grpc.enable_http_proxy", 0),
        # The header is gRPC's own to write; what is given here stands first in it.
        ("grpc.primary_user_agent", dict(request.headers).get("user-agent", "")),
        _LARGEST,
    ]
    if request.tls:
        with open(request.tls.ca, "rb") as file:  # noqa: PTH123 - small and local
            credentials = grpc.ssl_channel_credentials(file.read())
        channel = grpc.aio.secure_channel(address, credentials, options=options)
    else:
        channel = grpc.aio.insecure_channel(address, options=options)
    async with channel:
        metadata = tuple((name.lower(), value) for name, value in request.headers)
        # The same on the wire for every kind of call: messages, the end, messages, the status. But
        # a stream that is refused while its message is being sent forgets the refusal's status.
        call: Any = channel.stream_stream if request.messages else channel.unary_stream
        stream = call(request.path)(
            _messages(request) if request.messages else request.body.encode("latin-1"),
            metadata=metadata,
            timeout=request.deadline or request.timeout,
        )
        answers: list[bytes] = []
        arrivals: list[float] = []
        began = time.monotonic()
        try:
            async for answer in stream:
                arrivals.append(round(time.monotonic() - began, 3))
                answers.append(bytes(answer))
        except grpc.aio.AioRpcError as error:
            code, details = error.code(), error.details() or ""
        else:
            code, details = await stream.code(), await stream.details() or ""
        trailers = tuple(
            (str(name), str(value)) for name, value in await stream.trailing_metadata()
        )
    texts = tuple(answer.decode("utf-8", "replace") for answer in answers)
    return Reply(
        status=200,
        headers=trailers,
        grpc_status=code.name,
        body="".join(texts) or details,
        messages=texts,
        protocol="HTTP/2",
        arrivals=tuple(arrivals[:200]),
        extra={DETAILS: details},
    )


async def _messages(request: Request) -> AsyncIterator[bytes]:
    for message in request.messages:
        await asyncio.sleep(request.pauses)
        yield message.encode("latin-1")


if __name__ == "__main__":
    main()
