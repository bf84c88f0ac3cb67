"""Floods: the local limit of one client address, at each gateway."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from email.utils import parsedate_to_datetime
from math import ceil

from components.edge.headers import security_headers
from lab.contracts.contract import CLIENT, UNAUTHENTICATED, Call, Contract, Expect, Judge, both
from lab.contracts.facts import Facts
from lab.contracts.reached import refused_at_gateway
from lab.contracts.ways_in import WayIn, methods, sockets
from lab.exchange import Reply, Request
from model.settings import Allowance

DOCUMENT = "edge.md"
_TIMES = 2
"""How many times an allowance is sent: tokens come back while the requests are under way."""
_OTHERS = 125
"""Addresses that ask while one is refused: far more than Envoy counts where it is not told, and
more than twice as many as the lab's clients ask for at once."""
COUNTED = ("x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset")
_CORS = "access-control-allow-origin"
EXHAUSTED = "RESOURCE_EXHAUSTED"
_MAYBE = Expect((401, 429))
"""A bad token is refused with 401, but only after the flood limit let the request pass."""


def contracts(facts: Facts) -> Iterator[Contract]:
    """The family `flood`."""
    yield from _flood(facts)


def at_gateway(request: Request, gateway: int) -> Request:
    """The request sent to one of two gateways."""
    return replace(request, address=f"gateway:{gateway % 2}:443")


def asked(facts: Facts, forwarded: str) -> Request:
    """A request of a client's address that costs no more than the flood limit."""
    return facts.api(
        "/api/v1/users/1", ("authorization", "Bearer wrong"), ("x-forwarded-for", forwarded),
        timeout=30.0,
    )  # fmt: skip


def _flood(facts: Facts) -> Iterator[Contract]:
    allowance = facts.settings.rate_limits.per_address
    many = allowance.requests * _TIMES
    origin = tuple(("origin", one) for one in facts.settings.edge.cors.allowed_origins[:1])
    secure = tuple(security_headers(facts.settings.edge, encrypted=True).items())

    def flood(*forwarded: str, expect: Expect = _MAYBE) -> tuple[Call, ...]:
        return tuple(
            Call(CLIENT, asked(facts, forwarded[index % len(forwarded)]), expect)
            for index in range(many)
        )

    yield Contract(
        "flood.address",
        "Requests of one client address beyond `rateLimits.perAddress` are answered with 429 by the"
        " gateway before their token is looked at, and reach no service.",
        DOCUMENT,
        flood(facts.flooding(1)),
        refilled(allowance, slice(None)),
        watch=refused_at_gateway,
    )
    yield Contract(
        "flood.forged",
        "The address counted is the client's behind the trusted proxies; what a client writes into"
        " X-Forwarded-For itself changes nothing.",
        DOCUMENT,
        flood(*(f"192.0.2.{index}, {facts.flooding(2)}" for index in range(100))),
        refilled(allowance, slice(None)),
    )
    elsewhere = tuple(
        Call(CLIENT, asked(facts, other), Expect((401,)))
        for other in (
            *(facts.flooding(3, neighbour) for neighbour in (1, 2, 3)),
            *(f"198.18.1.{index}" for index in range(_OTHERS)),
        )
    )
    again = flood(facts.flooding(3))[: allowance.requests]
    yield Contract(
        "flood.others",
        "Requests of other addresses are not affected, and while an instance tracks fewer than"
        " `trackedAddresses` it forgets none of them.",
        DOCUMENT,
        (*flood(facts.flooding(3)), *elsewhere, *again),
        refilled_but(allowance, slice(many, many + len(elsewhere))),
    )
    yield Contract(
        "flood.ipv6",
        "IPv6 clients are counted by the first 64 bits of their address.",
        DOCUMENT,
        flood(*(facts.client6(1, index + 1) for index in range(50)))
        + (Call(CLIENT, asked(facts, facts.client6(2, 1)), Expect((401,))),),
        refilled(allowance, slice(0, many)),
    )
    yield Contract(
        "flood.answer",
        "The 429 carries `retry-after`, `x-ratelimit-limit`, `x-ratelimit-remaining` and"
        " `x-ratelimit-reset`, and no headers of CORS.",
        DOCUMENT,
        tuple(
            replace(call, request=call.request.with_headers(*origin))
            for call in flood(facts.flooding(4), expect=replace(_MAYBE, headers=secure))
        ),
        _told(allowance),
    )

    yield from _apart(facts)


def _apart(facts: Facts) -> Iterator[Contract]:
    allowance = facts.settings.rate_limits.per_address
    ways = [next(sockets(facts)), next(methods(facts))]
    wrong = ("authorization", "Bearer wrong")

    def bad(way: WayIn, client: str) -> Call:
        expect = way.unauthenticated
        if expect.grpc:
            expect = replace(expect, grpc=f"{expect.grpc}|{EXHAUSTED}")
        else:
            expect = replace(expect, status=(*expect.status, 429))
        return Call(CLIENT, way.ask(wrong, ("x-forwarded-for", client), timeout=30.0), expect)

    beyond = allowance.requests + allowance.requests // 5
    yield Contract(
        "flood.hosts",
        "WebSockets and gRPC calls are counted like requests, on their hosts.",
        DOCUMENT,
        tuple(
            bad(way, facts.flooding(5 + number))
            for number, way in enumerate(ways)
            for _ in range(beyond)
        ),
        both(*(refilled(allowance, slice(n * beyond, (n + 1) * beyond)) for n in range(len(ways)))),
    )
    client = facts.flooding(7)
    many = allowance.requests * _TIMES
    elsewhere = (
        *(Call(CLIENT, at_gateway(asked(facts, client), 1), UNAUTHENTICATED) for _ in range(20)),
        *(
            Call(CLIENT, way.ask(wrong, ("x-forwarded-for", client)), way.unauthenticated)
            for way in ways
            for _ in range(20)
        ),
    )
    yield Contract(
        "flood.apart",
        "Each gateway instance counts for itself, and for each public host apart.",
        DOCUMENT,
        (*(Call(CLIENT, asked(facts, client), _MAYBE) for _ in range(many)), *elsewhere),
        refilled(allowance, slice(0, many)),
    )


def refilled(allowance: Allowance, of: slice) -> Judge:
    """No more pass than the bucket held and got back meanwhile, and not fewer than it held."""
    rate = allowance.requests / {"second": 1, "minute": 60, "hour": 3600}[allowance.unit]

    def judge(replies: Sequence[Reply]) -> str | None:
        passed = sum(not beyond_limit(reply) for reply in replies[of])
        most = allowance.requests + ceil(rate * (lasted(replies[of]) + 1))
        if passed == len(replies[of]):
            return f"none of {passed} requests was refused"
        if not allowance.requests <= passed <= most:
            return f"{passed} passed, {allowance.requests} to {most} may"
        return None

    return judge


def refilled_but(allowance: Allowance, others: slice) -> Judge:
    """The same of all requests but those of other clients in between."""
    judge = refilled(allowance, slice(None))
    return lambda replies: judge([*replies[: others.start], *replies[others.stop :]])


def beyond_limit(reply: Reply) -> bool:
    """Whether a reply says that a limit is used up, over gRPC too."""
    return reply.status == 429 or reply.grpc_status == EXHAUSTED


def by_second(replies: Sequence[Reply]) -> Counter[int]:
    """How many of the answers fell in each second of the gateway's own clock."""
    return Counter(
        int(parsedate_to_datetime(date).timestamp())
        for one in replies
        if (date := one.header("date"))
    )


def lasted(replies: Sequence[Reply]) -> int:
    """Whole seconds between the first and the last answer."""
    seconds = by_second(replies)
    return max(seconds) - min(seconds) if seconds else 0


def _told(allowance: Allowance) -> Judge:
    def judge(replies: Sequence[Reply]) -> str | None:
        refused = [reply for reply in replies if reply.status == 429]
        if not refused:
            return "no request was refused"
        for reply in refused:
            if missing := [n for n in ("retry-after", *COUNTED) if reply.header(n) is None]:
                return f"a 429 lacks {', '.join(missing)}"
            limit = reply.header("x-ratelimit-limit") or ""
            if limit.split(",")[0] != str(allowance.requests):
                return f"x-ratelimit-limit is {reply.header('x-ratelimit-limit')}"
            if reply.header(_CORS) is not None:
                return f"a 429 has {_CORS}: {reply.header(_CORS)}"
            if reply.header("x-ratelimit-remaining") != "0":
                return f"x-ratelimit-remaining is {reply.header('x-ratelimit-remaining')}"
        return None

    return judge
