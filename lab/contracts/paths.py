"""Paths and methods: nothing gets past a policy by being written in another way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from posixpath import normpath
from typing import get_args
from urllib.parse import unquote

from lab.contracts.addresses import forwarded, from_administration
from lab.contracts.contract import (
    CLIENT,
    DENIED,
    Call,
    Contract,
    Expect,
)
from lab.contracts.facts import Facts
from lab.contracts.reached import refused_at_gateway
from lab.contracts.ways_in import OVER_GRPC
from lab.exchange import Reply, Request
from model.service import Route
from model.values import Method

DOCUMENT = "security.md"


def contracts(facts: Facts) -> Iterator[Contract]:
    """The families `path` and `method`."""
    exposures = [
        (one, route, (route.methods or ("GET",))[0])
        for one, route in facts.catalogue.exposures
        if route.access == "token"
    ]
    public = [route.path for _, route in facts.catalogue.exposures if route.access == "public"]
    yield Contract(
        "path.no-token",
        "Paths are judged after decoding and after double slashes and dot segments are resolved,"
        " and the service sees the path that was judged.",
        DOCUMENT,
        tuple(
            # 200 only where the path ends up on a public route itself: the judge looks.
            Call(
                CLIENT,
                facts.api(path, forwarded(facts, f"198.19.{index}.{number}"), method=method),
                Expect((200, 400, 403, 404)),
            )
            for index, (_, route, method) in enumerate(exposures)
            for number, path in enumerate(_tricks(route.path, public), 1)
        )
        + tuple(
            Call(CLIENT, facts.websocket(path), Expect((400, 403, 404)))
            for one in facts.catalogue.services
            for socket in one.websockets
            for path in _tricks(socket.path, public[:1])
        )
        + tuple(
            Call(CLIENT, _over_grpc(facts, path), Expect((200,), headers=(("grpc-status", "7"),)))
            for one in facts.catalogue.services
            for grpc in one.grpc
            for path in _grpc_tricks(f"/{grpc.name}")
        ),
        partial(stayed_public, public),
        watch=refused_at_gateway,
    )
    yield Contract(
        "path.restricted",
        "Written in another way, an operation that is restricted to roles or addresses is restricted"
        " all the same.",
        DOCUMENT,
        tuple(_restricted(facts, public)),
        partial(stayed_public, public),
        watch=refused_at_gateway,
    )
    readable = [
        (one, route, method)
        for one, route, method in exposures
        if not any(not r.methods or method in r.methods for r in route.restricted)
    ]
    yield Contract(
        "path.normalised",
        "Paths are judged after decoding and after double slashes and dot segments are resolved,"
        " and the service sees the path that was judged.",
        DOCUMENT,
        tuple(
            Call(
                CLIENT,
                facts.api(path, *facts.bearer(), method=method),
                Expect((200,), served_by=one.name, path=seen),
            )
            for one, route, method in readable
            for plain in (f"{route.path}/1",)
            for path, seen in (
                (f"//{route.path[1:]}//1", plain),
                (f"{route.path}/./1", plain),
                (f"{route.path}/x/../1", plain),
                (f"{route.path}/x/%2e%2e/1", plain),
                (f"{public[0]}{'/..' * public[0].count('/')}{route.path}/1", plain),
                (f"{route.path}%2f1", plain),
                (f"{route.path}%5c1", plain),
                (f"{route.path}\\1", plain),
                # The slash at the end is the service's to judge.
                (f"{route.path}/1/", f"{plain}/"),
            )
        ),
    )
    yield Contract(
        "path.resembling",
        "A path that only resembles a route (other case, a suffix, a path parameter) is not that"
        " route.",
        DOCUMENT,
        tuple(
            Call(CLIENT, facts.api(path, *facts.bearer(), method=method), Expect((403, 404)))
            for _, route, method in readable
            for path in (
                route.path.upper(),
                f"{route.path}x/1",
                f"{route.path};a=b/1",
                route.path[:-1],
            )
        ),
        watch=refused_at_gateway,
    )
    yield Contract(
        "path.internal",
        "`/metrics`, `/debug`, `/actuator`, `/stats` and `/config_dump` are refused at the gateway"
        " whatever is behind them.",
        DOCUMENT,
        tuple(
            # What is no path at all is refused before policies look at it.
            Call(CLIENT, facts.api(path, *sent), Expect((400,)) if "%00" in path else DENIED)
            for name in ("metrics", "debug", "actuator", "stats", "config_dump")
            for path in (
                *(f"/{name}", f"/{name}/", f"/{name}/x", f"//{name}", f"/x/../{name}"),
                *(f"/%{ord(name[0]):02x}{name[1:]}", f"/{name};x", f"/{name}%2fx", f"/%2f{name}"),
                *(f"/x%2f..%2f{name}", f"/x/%2e%2e/{name}", f"/x%5c..%5c{name}", f"/{name}%00"),
                *(f"{one}{'/..' * one.count('/')}/{name}" for one in public),
            )
            for sent in ((), facts.bearer())
        ),
        watch=refused_at_gateway,
    )
    yield Contract(
        "method.unserved",
        "A method that a route does not serve is refused.",
        DOCUMENT,
        tuple(
            Call(CLIENT, facts.api(path, *facts.bearer(), method=method), DENIED)
            for _, route in facts.catalogue.exposures
            if route.methods
            for path in (route.path, f"{route.path}/1")
            for method in (*get_args(Method), "TRACE", "PROPFIND")
            if method not in route.methods
        ),
        watch=refused_at_gateway,
    )
    yield Contract(
        "method.every",
        "A route that names no methods serves all of them, HEAD and OPTIONS too, to whoever has a"
        " token and the role.",
        DOCUMENT,
        tuple(
            Call(
                CLIENT,
                facts.api(f"{route.path}/1", *_rights(facts, route, method), method=method),
                # An answer to HEAD does not say who gave it.
                Expect((200,), served_by=one.name if method != "HEAD" else ""),
            )
            for one, route, _ in exposures
            if not route.methods
            for method in get_args(Method)
            if from_administration(facts) or not _role(route, method)
        ),
    )


def _role(route: Route, method: str) -> str:
    """A role that may use a route in that way, empty where none is asked."""
    for rule in route.restricted:
        if not rule.methods or method in rule.methods:
            return rule.roles[-1]
    return ""


def _rights(facts: Facts, route: Route, method: str) -> Iterator[tuple[str, str]]:
    role, address = _role(route, method), from_administration(facts)
    claim = facts.settings.authentication.role.claim
    yield from facts.bearer(**({claim: role} if role else {}))
    if role and address:
        yield address


def stayed_public(public: Sequence[str], replies: Sequence[Reply]) -> str | None:
    """What was served is on a public route, also for a service that resolves the path once more."""
    for reply in replies:
        if reply.status != 200 or reply.header("grpc-status"):
            continue
        seen = reply.echoed("URL") or "?"
        resolved = normpath(unquote(seen.split("?")[0]).replace("\\", "/"))
        if not any(resolved == one or resolved.startswith(f"{one}/") for one in public):
            return f"{reply}, the service saw {seen}"
    return None


def _restricted(facts: Facts, public: Sequence[str]) -> Iterator[Call]:
    """As an administrator elsewhere, and as a user at an administrator's address."""
    claim = facts.settings.authentication.role.claim
    expect = Expect((200, 400, 403, 404))  # 200 is for the judge to look at
    for index, rule in enumerate(facts.catalogue.restricted):
        for number, path in enumerate(_tricks(rule.path, public), 1):
            for role, address in (
                (rule.roles[0], forwarded(facts, f"198.18.{index + 100}.{number}")),
                ("user", from_administration(facts, number)),
            ):
                if address:
                    asked = facts.api(
                        path, *facts.bearer(**{claim: role}), address, method=rule.methods[-1]
                    )
                    yield Call(CLIENT, asked, expect)


def _over_grpc(facts: Facts, path: str) -> Request:
    """As gRPC asks, with a path that its client would not send."""
    host = facts.settings.grpc_host
    asked = facts.api(path, *OVER_GRPC, method="POST")
    return replace(asked, authority=host, tls=facts.tls(host))


def _grpc_tricks(path: str) -> Iterator[str]:
    tail = path.removeprefix("/")
    yield from (f"//{tail}/Get", f"/x/../{tail}/Get", f"/x/%2e%2e/{tail}/Get", f"/./{tail}/Get")
    yield from (f"{path}//Get", f"{path}%2fGet", f"{path}/x/../Get", f"{path}%5cGet")
    yield from (path, f"{path}/", f"{path.upper()}/Get", f"{path};x/Get", f"{path}?x/Get")
    yield from (f"/%{ord(tail[0]):02x}{tail[1:]}/Get", f"{path.replace('.', '%2e')}/Get")


def _tricks(path: str, public: Sequence[str]) -> Iterator[str]:
    """Ways to write a protected path, or to come to it by way of a public one."""
    tail = path.removeprefix("/")
    last = tail.rsplit("/", 1)[-1]
    parent = path[: -len(last)]
    yield from (f"//{tail}/1", f"{parent}/{last}/1", f"{parent}./{last}/1", f"{path}//1")
    yield from (f"{parent}x/../{last}/1", f"{parent}x/%2e%2e/{last}/1", f"{parent}%2e/{last}/1")
    yield from (f"{parent}x/..%2f{last}/1", f"{parent.rstrip('/')}%2f{last}/1")
    yield from (f"{parent}%252e/{last}/1", f"{parent}x%5c..%5c{last}/1", f"{path}\\1")
    yield from (f"{path}/", f"{path};x=1/1", f"{path}%00/1", path.upper())
    yield f"{parent}%{ord(last[0]):02x}{last[1:]}/1"
    for one in public:
        up = "/..".join("" for _ in one.split("/"))  # as many times as it has segments
        yield from (f"{one}{up}{path}/1", f"{one}{up.replace('..', '%2e%2e')}{path}/1")
        yield from (f"{one}{up.replace('/', '%2f')}{path}/1", f"{one}/{up}//{tail}/1")
        yield from (
            f"{one}{up.replace('/', '%5c')}{path}/1",
            f"{one}{up.replace('.', '%252e')}{path}/1",
        )
        yield from (f"{one}{up.replace('..', '..;')}{path}/1", f"{path}?x={one}")
