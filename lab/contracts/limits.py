"""Rate limits: of one client address at each gateway, of tenants and logins over all of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from email.utils import parsedate_to_datetime
from functools import partial
from math import ceil

from components.edge.headers import security_headers
from lab.contracts.contract import CLIENT, UNAUTHENTICATED, Call, Contract, Expect, Judge, both
from lab.contracts.facts import Facts
from lab.contracts.reached import refused_at_gateway
from lab.contracts.routing import rights
from lab.contracts.splits import marks
from lab.contracts.ways_in import WayIn, methods, others, sockets
from lab.exchange import Reply, Request
from model.service import Service
from model.settings import Allowance

DOCUMENT = "edge.md"
_TIMES = 2
"""How many times an allowance is sent: tokens come back while the requests are under way."""
_OTHERS = 125
"""Addresses that ask while one is refused: far more than Envoy counts where it is not told, and
more than twice as many as the lab's clients ask for at once."""
_WHILE = 4
"""Seconds of more requests than are allowed."""
COUNTED = ("x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset")
_CORS = "access-control-allow-origin"
_EXHAUSTED = "RESOURCE_EXHAUSTED"
_MAYBE = Expect((401, 429))
"""A bad token is refused with 401, but only after the flood limit let the request pass."""


def contracts(facts: Facts) -> Iterator[Contract]:
    """The families `flood` and `limit`."""
    yield from _flood(facts)
    yield from _tenants(facts)
    yield from _login(facts)


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
            expect = replace(expect, grpc=f"{expect.grpc}|{_EXHAUSTED}")
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
        *(Call(CLIENT, _at(asked(facts, client), 1), UNAUTHENTICATED) for _ in range(20)),
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


def _exactly(refused: int, of: slice) -> Judge:
    def judge(replies: Sequence[Reply]) -> str | None:
        got = sum(reply.status == 429 for reply in replies[of])
        return None if got == refused else f"{got} were refused, {refused} must be"

    return judge


def refilled(allowance: Allowance, of: slice) -> Judge:
    """No more pass than the bucket held and got back meanwhile, and not fewer than it held."""
    rate = allowance.requests / {"second": 1, "minute": 60, "hour": 3600}[allowance.unit]

    def judge(replies: Sequence[Reply]) -> str | None:
        passed = sum(not _flooded(reply) for reply in replies[of])
        most = allowance.requests + ceil(rate * (_lasted(replies[of]) + 1))
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


def _flooded(reply: Reply) -> bool:
    return reply.status == 429 or reply.grpc_status == _EXHAUSTED


def _lasted(replies: Sequence[Reply]) -> float:
    """Whole seconds between the first and the last answer, by the gateway's own clock."""
    dates = [
        parsedate_to_datetime(date).timestamp() for one in replies if (date := one.header("date"))
    ]
    return max(dates) - min(dates) if dates else 0.0


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


def _at(request: Request, gateway: int) -> Request:
    return replace(request, address=f"gateway:{gateway % 2}:443")


def of_one_tenant(
    facts: Facts, path: str, tenant: str, *headers: tuple[str, str], lasting: int = 0
) -> tuple[Call, ...]:
    """More requests than a tenant may send in a second, at two gateways by turns.

    Four times as many at once, or three times as many in each of some seconds (`lasting`).
    """
    bearer = facts.bearer(**{facts.settings.authentication.tenant.claim: tenant})
    each_second = facts.settings.rate_limits.per_tenant.requests * (3 if lasting else 4)
    return tuple(
        Call(
            CLIENT,
            _at(
                facts.api(
                    path, *bearer, *headers, ("x-forwarded-for", f"198.18.2.{index % 250 + 1}"),
                    timeout=30.0,
                ),
                index,
            ),
            Expect((200, 429)),
            after=index / each_second if lasting else 0.0,
        )
        for index in range(each_second * max(lasting, 1))
    )  # fmt: skip


def _spread(many: Sequence[Call], few: Sequence[Call]) -> tuple[Call, ...]:
    """All calls, the few at even distances among the many."""
    step = len(many) // len(few)
    return tuple(
        call
        for index, one in enumerate(few)
        for call in (
            *many[index * step : (index + 1) * step if index + 1 < len(few) else None],
            one,
        )
    )


def _judged(indices: Sequence[int], judge: Judge) -> Judge:
    """Looks at some of the replies only."""
    return lambda replies: judge([replies[index] for index in indices])


def _tenants(facts: Facts) -> Iterator[Contract]:
    allowance = facts.settings.rate_limits.per_tenant
    if allowance.unit != "second":
        return
    claim = facts.settings.authentication.tenant
    one_tenant = partial(of_one_tenant, facts)
    yield Contract(
        "limit.tenant",
        "Requests of one tenant to one route prefix beyond `perTenant` are answered with 429, over"
        " all gateways together.",
        DOCUMENT,
        # For some seconds: two gateways that counted apart would let twice as many pass in each.
        one_tenant("/api/v1/notification/1", "limited-1", lasting=_WHILE),
        shared(allowance.requests, slice(None)),
        pause=1.0,
    )
    unlimited = tuple(
        Call(CLIENT, facts.api(path, *facts.bearer(**{claim.claim: tenant})), Expect((200,)))
        for _ in range(10)
        for path, tenant in (
            ("/api/v1/notification/1", "limited-3"),
            ("/api/v1/retrieval/1", "limited-2"),
        )
    )
    flood = one_tenant("/api/v1/notification/1", "limited-2")
    # Spread among the tenant's requests: behind them all they would come when a new second began.
    mixed = _spread(flood, unlimited)
    yield Contract(
        "limit.others",
        "Another tenant on the same route, and the same tenant on another route, are not affected.",
        DOCUMENT,
        mixed,
        _judged(
            [index for index, call in enumerate(mixed) if call not in unlimited],
            shared(allowance.requests, slice(None)),
        ),
        pause=1.0,
    )
    yield Contract(
        "limit.named-tenant",
        "The tenant is the verified token's; a header that names another changes nothing.",
        DOCUMENT,
        tuple(
            replace(
                call,
                request=call.request.with_headers((claim.header, f"other-{index}")),
            )
            for index, call in enumerate(one_tenant("/api/v1/notification/1", "limited-4"))
        ),
        shared(allowance.requests, slice(None)),
        pause=1.0,
    )
    for name, limited in (
        ("limit.headers", list(_limited(facts))),
        ("limit.headers.upgrades", list(_limited_upgrades(facts))),
    ):
        yield Contract(
            name,
            "Answers on limited routes carry `x-ratelimit-limit`, `x-ratelimit-remaining` and"
            " `x-ratelimit-reset` of the limit closest to its end.",
            DOCUMENT,
            tuple(call for call, _ in limited),
            counted_down([allowed for _, allowed in limited]),
            pause=1.0,
        )
    grpc = next((g.name for s in facts.catalogue.services for g in s.grpc), None)
    if grpc:
        bearer = facts.bearer(**{claim.claim: "limited-5"})
        yield Contract(
            "limit.grpc",
            "A gRPC call beyond a limit ends with RESOURCE_EXHAUSTED.",
            DOCUMENT,
            tuple(
                Call(
                    CLIENT,
                    _at(
                        facts.grpc(
                            f"/{grpc}/Get", *bearer, ("x-forwarded-for", f"198.18.3.{index + 1}"),
                            timeout=30.0,
                        ),
                        index,
                    ),
                    Expect((200,), grpc=f"UNIMPLEMENTED|{_EXHAUSTED}"),
                )
                for index in range(allowance.requests * 4)
            ),
            shared(allowance.requests, slice(None)),
            pause=1.0,
        )  # fmt: skip


def shared(allowed: int, of: slice) -> Judge:
    """As many as the allowance, and not more, in each second of the clock that they fell in.

    Of the first and the last second nobody knows how much was left.
    """

    def judge(replies: Sequence[Reply]) -> str | None:
        passed = [reply for reply in replies[of] if not _flooded(reply)]
        refused = [reply for reply in replies[of] if _flooded(reply)]
        # The clock's seconds that the requests fell in; the first began before its answer.
        seconds = int(_lasted(replies[of])) + 2
        if not refused:
            return f"none of {len(replies[of])} requests in {seconds} s was refused"
        if len(passed) < allowed * max(seconds - 3, 1):
            return f"{len(passed)} passed in {seconds} s, {allowed} a second may"
        if len(passed) > allowed * seconds:
            return f"{len(passed)} passed in {seconds} s, {allowed} a second are allowed"
        return None

    return judge


def _limited(facts: Facts) -> Iterator[tuple[Call, int]]:
    """A request of each kind to every route that has a limit, and its allowance.

    All kinds that the proxies have a route of its own for: reads, writes, event streams, cohorts.
    """
    limits = facts.settings.rate_limits
    for one, route in facts.catalogue.exposures:
        cohorts = _marks_of(facts, one)
        allowance = limits.routes.get(route.path, limits.per_tenant)
        for method in route.methods or ("GET", "POST"):
            sent = rights(facts, route, method)
            if route.login:
                allowance, sent = limits.login, (("x-forwarded-for", facts.client(90)),)
            elif route.access != "token":
                continue
            for more in (
                (),
                *((mark,) for mark in cohorts),
                *([_EVENTS] if route.streaming else ()),
            ):
                yield (
                    Call(
                        CLIENT,
                        facts.api(f"{route.path}/1", *sent, *more, method=method),
                        Expect((200,), served_by=one.name),
                    ),
                    allowance.requests,
                )


def _limited_upgrades(facts: Facts) -> Iterator[tuple[Call, int]]:
    """The same of WebSockets and gRPC."""
    for way in others(facts):
        for more in ((), *((mark,) for mark in _marks_of(facts, way.service))):
            yield Call(CLIENT, way.ask(*facts.bearer(), *more), way.served), _allowed(facts, way)


_EVENTS = (("accept", "text/event-stream"),)


def _marks_of(facts: Facts, one: Service) -> list[tuple[str, str]]:
    """One mark of each cohort of a service."""
    split = facts.settings.traffic.get(one.name)
    return [marks(cohort)[0] for cohort in split.cohorts] if split else []


def _allowed(facts: Facts, way: WayIn) -> int:
    """That of its path, or where none is given for it that of every tenant."""
    limits = facts.settings.rate_limits
    path = way.ask().path
    own = next((one for name, one in limits.routes.items() if path.startswith(name)), None)
    return (own or limits.per_tenant).requests


def counted_down(allowances: Sequence[int]) -> Judge:
    """Each answer says what its allowance is and that less than that is left."""

    def judge(replies: Sequence[Reply]) -> str | None:
        if not replies:
            return "no route has a limit"
        for reply, allowed in zip(replies, allowances, strict=True):
            limit, remaining, reset = (reply.header(name) or "" for name in COUNTED)
            if limit.split(",")[0] != str(allowed):
                return f"{reply}: x-ratelimit-limit is {limit!r}, the allowance is {allowed}"
            if not remaining.isdigit() or int(remaining) >= allowed or not reset.isdigit():
                return (
                    f"{reply}: x-ratelimit-remaining is {remaining!r}, x-ratelimit-reset {reset!r}"
                )
        return None

    return judge


def _login(facts: Facts) -> Iterator[Contract]:
    allowance = facts.settings.rate_limits.login
    login = [(one, route) for one, route in facts.catalogue.exposures if route.login]
    if allowance.unit != "minute":
        return
    for number, (one, route) in enumerate(login):
        yield Contract(
            f"limit.login.{one.name}",
            "Requests to a login route are counted by client address against `login`, whatever they"
            " present.",
            DOCUMENT,
            tuple(
                Call(
                    CLIENT,
                    _at(
                        facts.api(
                            route.path,
                            *(facts.bearer(sub=f"user-{index}") if index % 2 else ()),
                            ("x-forwarded-for", facts.client(10 + number)),
                            method="POST",
                        ),
                        index,
                    ),
                    Expect((200, 429)),
                )
                for index in range(allowance.requests + 6)
            )
            + (
                Call(
                    CLIENT,
                    facts.api(route.path, ("x-forwarded-for", facts.client(9)), method="POST"),
                    Expect((200,)),
                ),
            ),
            _exactly(6, of=slice(0, allowance.requests + 6)),
            clear_of_minute=8.0,
        )
