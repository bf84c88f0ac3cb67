"""Rate limits of tenants and logins, counted by the rate-limit service over all gateways."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

from lab.contracts.contract import CLIENT, Call, Contract, Expect, Judge
from lab.contracts.facts import Facts
from lab.contracts.floods import COUNTED, EXHAUSTED, at_gateway, beyond_limit, by_second, lasted
from lab.contracts.routing import rights
from lab.contracts.splits import marks
from lab.contracts.ways_in import WayIn, others
from lab.exchange import Reply
from model.service import Service

DOCUMENT = "edge.md"
_WHILE = 4
"""Seconds of more requests than are allowed."""


def contracts(facts: Facts) -> Iterator[Contract]:
    """The family `limit`."""
    yield from _tenants(facts)
    yield from _login(facts)


def of_one_tenant(
    facts: Facts,
    path: str,
    tenant: str | Sequence[str],
    *headers: tuple[str, str],
    lasting: int = 0,
) -> tuple[Call, ...]:
    """More requests than a tenant may send in a second, at two gateways by turns.

    Four times as many at once, or three times as many in each of some seconds (`lasting`).
    """
    bearer = facts.bearer(**{facts.settings.authentication.tenant.claim: tenant})
    each_second = facts.settings.rate_limits.per_tenant.requests * (3 if lasting else 4)
    return tuple(
        Call(
            CLIENT,
            at_gateway(
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
    lists = [one_tenant("/api/v1/notification/1", several) for several in (["a"], ["b", "c"])]
    yield Contract(
        "limit.list",
        "Tokens of which the tenant claim is a list are counted together, as one tenant.",
        DOCUMENT,
        tuple(lists[index % 2][index] for index in range(len(lists[0]))),
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
                    at_gateway(
                        facts.grpc(
                            f"/{grpc}/Get", *bearer, ("x-forwarded-for", f"198.18.3.{index + 1}"),
                            timeout=30.0,
                        ),
                        index,
                    ),
                    Expect((200,), grpc=f"UNIMPLEMENTED|{EXHAUSTED}"),
                )
                for index in range(allowance.requests * 4)
            ),
            shared(allowance.requests, slice(None)),
            pause=1.0,
        )  # fmt: skip


def shared(allowed: int, of: slice) -> Judge:
    """As many as the allowance, and not more, in each second of the clock that they fell in.

    Of the first and the last second nobody knows how much was left, and in a second in which a busy
    machine sent fewer requests than are allowed no more can pass.
    """

    def judge(replies: Sequence[Reply]) -> str | None:
        passed = [reply for reply in replies[of] if not beyond_limit(reply)]
        refused = [reply for reply in replies[of] if beyond_limit(reply)]
        # The clock's seconds that the requests fell in; the first began before its answer.
        seconds = lasted(replies[of]) + 2
        if not refused:
            return f"none of {len(replies[of])} requests in {seconds} s was refused"
        could = sum(min(allowed, count) for count in by_second(replies[of]).values())
        if len(passed) < max(could - 2 * allowed, allowed):
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


def _exactly(refused: int, of: slice) -> Judge:
    def judge(replies: Sequence[Reply]) -> str | None:
        got = sum(reply.status == 429 for reply in replies[of])
        return None if got == refused else f"{got} were refused, {refused} must be"

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
                    at_gateway(
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
