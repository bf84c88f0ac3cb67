"""Routing: each declared route reaches its service, and nothing else reaches anything."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from lab.contracts.addresses import from_administration
from lab.contracts.contract import CLIENT, Call, Contract, Expect, Judge
from lab.contracts.facts import Facts
from lab.contracts.reached import refused_at_gateway
from lab.contracts.ways_in import methods, sockets
from lab.exchange import Reply
from model.service import Route

DOCUMENT = "traffic.md"


def contracts(facts: Facts) -> Iterator[Contract]:
    """The family `route`."""
    settings = facts.settings
    for one in facts.catalogue.services:
        if not one.routes:
            continue
        calls = []
        for route in one.routes:
            port = str(one.port(route.port).number)
            for method in (route.methods or ("GET", "POST"))[:2]:
                sent = rights(facts, route, method)
                path = route.path if route.access == "public" else f"{route.path}/a/b?q=1%20x"
                calls.append(
                    Call(
                        CLIENT,
                        facts.api(path, *sent, method=method),
                        Expect((200,), served_by=one.name, path=path),
                    )
                )
        yield Contract(
            f"route.{one.name}",
            "Every route of the catalogue reaches its service, on the port it names, with the path"
            " unchanged.",
            DOCUMENT,
            tuple(calls),
            _on_port(port),
        )
    yield Contract(
        "route.unknown",
        "An unknown host or path is answered by the gateway and reaches no service.",
        DOCUMENT,
        tuple(
            Call(CLIENT, facts.api(path, *facts.bearer()), Expect((403, 404)))
            for path in ("/", "/api", "/api/v1", "/api/v1/unknown", "/api/v2/users", "/admin")
        )
        + tuple(
            Call(
                CLIENT,
                replace(facts.api("/api/v1/users", *facts.bearer()), authority=host),
                Expect((403, 404, 421)),
            )
            for host in (
                settings.domain,
                f"admin.{settings.domain}",
                "localhost",
                "identity-service",
            )
        ),
        watch=refused_at_gateway,
    )
    yield Contract(
        "route.grpc",
        "A gRPC service is reached by its full name on the gRPC host.",
        DOCUMENT,
        tuple(Call(CLIENT, way.ask(*facts.bearer()), way.served) for way in methods(facts)),
        _said_by_server,
    )
    yield Contract(
        "route.grpc-unknown",
        "A gRPC service is reached by its full name on the gRPC host.",
        DOCUMENT,
        tuple(
            Call(
                CLIENT,
                facts.grpc(path, *facts.bearer()),
                Expect((200,), grpc="UNIMPLEMENTED|PERMISSION_DENIED"),
            )
            for path in ("/unknown.v1.Service/Get", "/proto.EchoTestService/Echo")
        ),
        _said_by_gateway,
    )
    elsewhere = (settings.api_host, settings.grpc_host)
    yield Contract(
        "route.websocket",
        "A WebSocket path is upgraded on the WebSocket host and nowhere else.",
        DOCUMENT,
        tuple(Call(CLIENT, way.ask(*facts.bearer()), way.served) for way in sockets(facts))
        + tuple(
            Call(
                CLIENT,
                replace(way.ask(*facts.bearer()), authority=host, tls=facts.tls(host)),
                Expect((403, 404)),
            )
            for way in sockets(facts)
            for host in elsewhere
        ),
        watch=refused_at_gateway,
    )


def rights(facts: Facts, route: Route, method: str) -> tuple[tuple[str, str], ...]:
    """A token, and where the operation is restricted a role and an address that may."""
    claim = facts.settings.authentication.role.claim
    for rule in route.restricted:
        if not rule.methods or method in rule.methods:
            address = from_administration(facts)
            return (*facts.bearer(**{claim: rule.roles[-1]}), *((address,) if address else ()))
    return facts.bearer()


def _on_port(port: str) -> Judge:
    def judge(replies: Sequence[Reply]) -> str | None:
        found = {reply.echoed("ServicePort") for reply in replies}
        return None if found == {port} else f"expected port {port}, the service saw {found}"

    return judge


def _said_by_server(replies: Sequence[Reply]) -> str | None:
    for reply in replies:
        if "unknown service" not in reply.body:
            return f"not the service's own answer: {reply.body!r}"
    return None


def _said_by_gateway(replies: Sequence[Reply]) -> str | None:
    for reply in replies:
        if "unknown service" in reply.body:
            return f"a service was reached: {reply.body!r}"
    return None
