"""How much is taken at once: pools of connections, allowances of routes, and what has none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from lab.contracts.access import account, request
from lab.contracts.contract import (
    CLIENT,
    Call,
    Caller,
    Contract,
    Expect,
    Judge,
    Recorded,
    service,
)
from lab.contracts.facts import Facts
from lab.contracts.floods import COUNTED, asked
from lab.contracts.limits import of_one_tenant, shared
from lab.exchange import Reply, Request
from model.service import Service

_DELAY = 6.0
"""Seconds that requests occupy a pool: all must have been sent before the first is answered."""
_AT_ONCE = 2.0
"""Seconds that a refusal may take; far less than a place in the pool would have taken."""
_BEYOND = 20
_LARGEST = 60
"""Of the pools that a contract fills; the lab's clients send 64 requests at once."""
_TOGETHER = 5
"""Requests that are counted together at least, however slow the machine is."""
_LEFT = COUNTED[1]


def contracts(facts: Facts) -> Iterator[Contract]:
    """The families `pool` and `east-west` and, of `limit`, what is about more than one tenant."""
    yield from _pool(facts)
    yield from _shared_connections(facts)
    yield from _route(facts)
    yield from _counted(facts)
    yield from _east_west(facts)


def _room(one: Service) -> int | None:
    """How many requests fit into a service's pool: those under way and those that wait."""
    pool = one.pool
    if pool.max_connections is None or pool.http1_max_pending_requests is None or pool.h2_upgrade:
        return None
    return pool.max_connections + pool.http1_max_pending_requests


def _pool(facts: Facts) -> Iterator[Contract]:
    """The smallest pool: it is the caller's proxy that holds it, so one caller fills it alone."""
    rooms = {one.name: room for one in facts.catalogue.services if (room := _room(one))}
    name = min(rooms, key=lambda name: rooms[name])
    room = rooms[name]
    if room + _BEYOND > _LARGEST:
        return
    one = next(one for one in facts.catalogue.services if one.name == name)
    connections = one.pool.max_connections or 0
    slow = replace(
        request(facts, one, "service", f"/contract?delay={_DELAY:g}s"), method="POST", timeout=40.0
    )
    caller = service(facts.catalogue.callers(one)[0])
    served, refused = Expect((200,), served_by=name), Expect((503,), within=_AT_ONCE)
    # One after the other: a request waits also while its connection is being made.
    yield Contract(
        f"pool.{name}",
        "Requests beyond a service's connection pool are answered with 503 at once (response flag"
        " UO).",
        "traffic.md",
        (Call(caller, slow, served),) * connections
        + (Call(caller, slow, served, after=1.0),) * (room - connections)
        + (Call(caller, slow, refused, after=2.0),) * _BEYOND,
        waited(slice(connections, room), _DELAY),
        watch=overflowed,
    )


def _shared_connections(facts: Facts) -> Iterator[Contract]:
    """The smallest pool of one that is asked by HTTP/2: its requests share connections."""
    rooms = {
        one.name: one.pool.http2_max_requests
        for one in facts.catalogue.services
        if one.pool.h2_upgrade and one.pool.http2_max_requests
    }
    name = min(rooms, key=lambda name: rooms[name], default="")
    if not name or rooms[name] > _MOST_STREAMS:
        return
    one = next(one for one in facts.catalogue.services if one.name == name)
    many = replace(
        request(facts, one, "service", f"/contract?delay={_DELAY:g}s"), method="POST",
        kind="streams", streams=rooms[name] + _BEYOND, hangs_up=True, timeout=40.0,
    )  # fmt: skip
    # The highest status of all is what the call is said to have come to.
    caller, refused = service(facts.catalogue.callers(one)[0]), Expect((503,))
    yield Contract(
        f"pool.{name}",
        "Requests beyond a service's connection pool are answered with 503 at once (response flag"
        " UO).",
        "traffic.md",
        (Call(caller, many, refused),),
        filled(rooms[name], _BEYOND),
        watch=overflowed,
    )


_MOST_STREAMS = 1000
"""Requests that a contract sends at once over one connection."""


def filled(room: int, beyond: int) -> Judge:
    """Of all requests that came at once as many were served as fit, and no others."""

    def judge(replies: Sequence[Reply]) -> str | None:
        found = Counter(status for reply in replies for status in reply.messages)
        if found != {"200": room, "503": beyond}:
            return f"{room} requests fit and {beyond} do not, they were answered {dict(found)}"
        return None

    return judge


def waited(part: slice, least: float) -> Judge:
    """Requests that found all connections in use were served over them later."""

    def judge(replies: Sequence[Reply]) -> str | None:
        early = sum(reply.seconds <= least for reply in replies[part])
        return f"{early} requests did not wait for a connection" if early else None

    return judge


def overflowed(replies: Sequence[Reply], recorded: Recorded) -> str | None:
    """Each 503 is the caller's proxy's own, and it says that the pool was full."""
    flags = [
        str(line.get("flags"))
        for reply, lines in zip(replies, recorded.lines, strict=True)
        for line in lines
        # Of copies over one connection the lines of those that were served stand beside.
        if reply.status == 503 and not (reply.messages and line.get("code") == 200)
    ]
    refused = sum(
        reply.messages.count("503") if reply.messages else reply.status == 503 for reply in replies
    )
    if flags.count("UO") != refused or len(flags) != refused:
        return f"{refused} were refused, the proxies' flags for them are {sorted(flags)}"
    return None


def _route(facts: Facts) -> Iterator[Contract]:
    for path, allowance in facts.settings.rate_limits.routes.items():
        if allowance.unit == "second":
            yield Contract(
                f"limit.route{path.replace('/', '.')}",
                "A route in `rateLimits.routes` has the allowance given there.",
                "edge.md",
                of_one_tenant(facts, f"{path}/1", "limited-route"),
                _both(shared(allowance.requests, slice(None)), told(allowance.requests)),
                pause=1.0,
            )


def _both(first: Judge, second: Judge) -> Judge:
    return lambda replies: first(replies) or second(replies)


def told(allowed: int) -> Judge:
    """Every answer says what the allowance is."""

    def judge(replies: Sequence[Reply]) -> str | None:
        for reply in replies:
            limit = (reply.header(COUNTED[0]) or "none").split(",")[0]
            if limit != str(allowed):
                return f"{COUNTED[0]} is {limit}, the allowance is {allowed}"
        return None

    return judge


def _counted(facts: Facts) -> Iterator[Contract]:
    allowance = facts.settings.rate_limits.per_tenant
    sockets = [socket for one in facts.catalogue.services for socket in one.websockets]
    # On ports of their own; a port that serves HTTP as well answers all paths with a page here.
    methods = [
        grpc
        for one in facts.catalogue.services
        for grpc in one.grpc
        if one.port(grpc.port).protocol == "grpc"
    ]
    if allowance.unit != "second" or not sockets or not methods:
        return
    many = allowance.requests * 2
    tenant = facts.settings.authentication.tenant.claim
    bearer = facts.bearer(**{tenant: "limited-upgrades"})

    def sent(kind: Request, expect: Expect) -> tuple[Call, ...]:
        return tuple(
            Call(
                CLIENT,
                replace(
                    kind,
                    address=f"gateway:{index % 2}:443",
                    headers=(*kind.headers, ("x-forwarded-for", f"198.18.4.{index + 1}")),
                ),
                expect,
            )
            for index in range(many)
        )

    yield Contract(
        "limit.upgrades",
        "WebSocket upgrades and gRPC calls are counted like requests.",
        "edge.md",
        sent(facts.websocket(sockets[-1].path, *bearer, timeout=30.0), Expect((101, 429)))
        + sent(
            facts.grpc(f"/{methods[-1].name}/Get", *bearer, timeout=30.0),
            Expect((200,), grpc="UNIMPLEMENTED|RESOURCE_EXHAUSTED"),
        ),
        counted(allowance.requests, slice(0, many), slice(many, None)),
        pause=1.0,
    )


def counted(allowed: int, *parts: slice) -> Judge:
    """Every answer says what is left of the allowance, and it gets less from one to the next.

    A busy machine may send too little in a second to be refused, but never less than a few.
    """

    def judge(replies: Sequence[Reply]) -> str | None:
        if wrong := told(allowed)(replies):
            return wrong
        for part in parts:
            left = [int(reply.header(_LEFT) or allowed) for reply in replies[part]]
            if allowed - min(left) < _TOGETHER:
                return f"of {len(left)} answers none says that less than {min(left)} is left"
        return None

    return judge


def _east_west(facts: Facts) -> Iterator[Contract]:
    if not facts.settings.gateway.east_west:
        return
    # A bucket begins full with the first request and is filled again an hour, minute or second
    # later, so this is more than it held.
    many = facts.settings.rate_limits.per_address.requests + 30
    call = Call(
        Caller("identity", account(facts, facts.catalogue.services[0].name)),
        replace(asked(facts, facts.client(40)), address="gateway:15443"),
        # For its token; what it must not be is 429.
        Expect((401, 403)),
    )
    yield Contract(
        "east-west.unlimited",
        "The east-west port has no flood limit.",
        "edge.md",
        (call,) * many,
    )
