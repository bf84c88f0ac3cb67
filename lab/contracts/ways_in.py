"""The ways for a client to a service that needs a token, beside plain requests: WebSockets, gRPC.

What the documents promise of tokens, tenants, addresses and headers they promise of every way in.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from lab.contracts.contract import DENIED, UNAUTHENTICATED, Expect
from lab.contracts.facts import Facts
from lab.exchange import Request
from model.service import Service

OVER_GRPC = (("content-type", "application/grpc"), ("te", "trailers"))
"""Headers by which proxies know a gRPC request."""


class Ask(Protocol):
    """Makes the request for this way in, with the headers given."""

    def __call__(self, *headers: tuple[str, str], timeout: float = ...) -> Request:
        """The request; `timeout` in seconds."""
        ...


@dataclass(frozen=True)
class WayIn:
    """One WebSocket or gRPC method, and what each kind of answer looks like there."""

    service: Service
    ask: Ask
    served: Expect
    """The service answered."""
    denied: Expect = DENIED
    """Refused by a policy: 403."""
    unauthenticated: Expect = UNAUTHENTICATED
    """The token is not believed."""


def sockets(facts: Facts) -> Iterator[WayIn]:
    """Every WebSocket of the catalogue; what the service saw is in the answer."""
    for one in facts.catalogue.services:
        for socket in one.websockets:
            yield WayIn(
                one, partial(facts.websocket, socket.path), Expect((101,), served_by=one.name)
            )


def methods(facts: Facts) -> Iterator[WayIn]:
    """A method of every gRPC service of the catalogue that has a port of its own.

    The echo server has no such service and says so itself: that is how we know that it was reached.
    """
    for one in facts.catalogue.services:
        for grpc in one.grpc:
            if one.port(grpc.port).protocol == "grpc":
                yield WayIn(
                    one,
                    partial(facts.grpc, f"/{grpc.name}/Get"),
                    Expect((200,), grpc="UNIMPLEMENTED"),
                    Expect((200,), grpc="PERMISSION_DENIED"),
                    Expect((200,), grpc="UNAUTHENTICATED"),
                )


def shared(facts: Facts) -> Iterator[WayIn]:
    """A method of every gRPC service on a port that serves plain requests too.

    The echo server takes it for a plain request there and answers with what it saw.
    """
    host = facts.settings.grpc_host
    for one in facts.catalogue.services:
        for grpc in one.grpc:
            if one.port(grpc.port).protocol != "grpc":

                def ask(
                    *headers: tuple[str, str], timeout: float = 10.0, name: str = grpc.name
                ) -> Request:
                    asked = facts.api(
                        f"/{name}/Get", *OVER_GRPC, *headers, method="POST", timeout=timeout
                    )
                    return replace(asked, authority=host, tls=facts.tls(host))

                yield WayIn(
                    one,
                    ask,
                    Expect((200,), served_by=one.name, path=f"/{grpc.name}/Get"),
                    Expect((200,), headers=(("grpc-status", "7"),)),
                    Expect((200,), headers=(("grpc-status", "16"),)),
                )


def others(facts: Facts) -> list[WayIn]:
    """Every way in that is no plain request."""
    return [*sockets(facts), *methods(facts), *shared(facts)]
