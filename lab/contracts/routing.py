"""Routing: each declared route reaches its service, and nothing else reaches anything."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from lab.contracts.addresses import from_administration
from lab.contracts.contract import CLIENT, Call, Contract, Expect, Judge, Recorded, Watch
from lab.contracts.facts import Facts
from lab.contracts.reached import refused_at_gateway
from lab.contracts.ways_in import methods, sockets
from lab.exchange import Reply
from model.service import Route
from model.values import Method

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
            for number, method in enumerate(route.methods or METHODS):
                sent = rights(facts, route, method)
                if route.login:
                    # A client of its own for each: logins are few.
                    sent = (*sent, ("x-forwarded-for", facts.client(100 + number)))
                for path in (route.path, f"{route.path}/a/b?q=1%20x"):
                    calls.append(
                        Call(
                            CLIENT,
                            facts.api(path, *sent, method=method),
                            # To HEAD nobody says who answers; the log does.
                            Expect((200,))
                            if method == "HEAD"
                            else Expect((200,), served_by=one.name, path=path),
                        )
                    )
        yield Contract(
            f"route.{one.name}",
            "Every route of the catalogue reaches its service, on the port it names, with the path"
            " unchanged.",
            DOCUMENT,
            tuple(calls),
            on_port(port),
            watch=reached(one.name, [subset.name for subset in one.subsets]),
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
                replace(facts.api(path, *facts.bearer()), authority=host),
                Expect((403, 404, 421)),
            )
            for path in ("/", "/contract", *(route.path for _, route in facts.catalogue.exposures))
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
    yield Contract(
        "route.hosts",
        "A route is served on the public host of its kind alone: on the others the gateway refuses"
        " it, and it reaches no service.",
        DOCUMENT,
        tuple(_crossed(facts)),
        watch=refused_at_gateway,
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


METHODS: tuple[Method, ...] = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")


def _crossed(facts: Facts) -> Iterator[Call]:
    """Each route as a plain request to the hosts that it is not on, by somebody who may much."""
    settings = facts.settings
    found: list[tuple[str, str, str, tuple[tuple[str, str], ...]]] = []
    for one in facts.catalogue.services:
        for route in one.routes:
            method = (route.methods or ("GET",))[0]
            sent = rights(facts, route, method)
            found.append((settings.api_host, f"{route.path}/1", method, sent))
        for socket in one.websockets:
            found.append((settings.ws_host, socket.path, "GET", facts.bearer()))
        for grpc in one.grpc:
            found.append((settings.grpc_host, f"/{grpc.name}/Get", "POST", facts.bearer()))
    for own, path, asked, sent in found:
        for host in settings.public_hosts:
            if host != own:
                request = facts.api(path, *sent, method=asked)
                yield Call(
                    CLIENT,
                    replace(request, authority=host, tls=facts.tls(host)),
                    Expect((403, 404)),
                )


def reached(name: str, subsets: Sequence[str]) -> Watch:
    """Each request came to one instance, by the gateway's way to a subset where there are any."""

    def watch(_: Sequence[Reply], recorded: Recorded) -> str | None:
        for lines in recorded.lines:
            ways = [str(line.get("upstream_cluster", "")) for line in lines]
            taken = [way.split("|")[2] for way in ways if way.startswith("outbound|")]
            inside = [
                str(line["proxy"])
                for line, way in zip(lines, ways, strict=True)
                if way.startswith("inbound|")
            ]
            if len(inside) != 1 or not inside[0].startswith(f"{name}-"):
                return f"a request for {name} is in the logs of {inside}"
            if len(taken) != 1 or taken[0] not in (subsets or [""]):
                return f"a request for {name} went to the subsets {taken}"
        return None

    return watch


def on_port(port: str) -> Judge:
    """Whatever has a body says that it was asked at that port."""

    def judge(replies: Sequence[Reply]) -> str | None:
        found = {reply.echoed("ServicePort") for reply in replies if reply.body}
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
