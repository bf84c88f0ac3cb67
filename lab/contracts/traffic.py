"""Traffic between services: how long requests may take, and which are repeated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lab.contracts import route_config, splits
from lab.contracts.access import headers, http_port
from lab.contracts.contract import CLIENT, Call, Contract, Expect, Judge, Recorded, Watch, service
from lab.contracts.facts import Facts
from lab.contracts.routing import rights
from lab.exchange import Reply, Request
from model.service import Route, Service
from model.values import seconds

DOCUMENT = "traffic.md"
_SHORT = 10
"""Seconds of the longest timeout that a contract waits for."""
_LATE = 1.5
"""Seconds that a busy machine may be late."""


def contracts(facts: Facts) -> Iterator[Contract]:
    """The families `timeout`, `retry`, `canary` and `cohort`."""
    yield from _timeouts(facts)
    yield from _retries(facts)
    yield from route_config.contracts(facts)
    yield from splits.contracts(facts)


def _inside(facts: Facts, callee: Service, query: str, method: str) -> tuple[str, Request]:
    """A caller that may call, and its request through its proxy."""
    port = http_port(callee).number
    request = Request(
        f"service:{callee.name}:{port}",
        f"{callee.name}:{port}",
        method=method,
        path=f"/contract?{query}",
        headers=headers(facts),
        timeout=float(seconds(callee.timeout)) + 10,
    )
    return facts.catalogue.callers(callee)[0], request


def _timeouts(facts: Facts) -> Iterator[Contract]:
    calls = []
    for one in facts.catalogue.services:
        limit = float(seconds(one.timeout))
        if limit <= _SHORT:
            for method in ("GET", "POST"):
                caller, request = _inside(facts, one, f"delay={limit + 3:g}s", method)
                calls.append(Call(service(caller), request, Expect((504,), within=limit + _LATE)))
    yield Contract(
        "timeout.service",
        "A request that takes longer than the service's timeout is answered with 504 in time.",
        DOCUMENT,
        tuple(calls),
        not_before([call.expect.within - _LATE for call in calls]),
        patient=True,
    )


def not_before(limits: Sequence[float]) -> Judge:
    """Each request was answered when its time was over, not long before."""

    def judge(replies: Sequence[Reply]) -> str | None:
        if not limits:
            return "no service has a timeout that is short enough to wait for"
        early = [
            f"{reply.seconds:.1f} s of {limit:g} s"
            for reply, limit in zip(replies, limits, strict=True)
            if reply.seconds < limit * 0.9
        ]
        return f"answered before the timeout: {', '.join(early)}" if early else None

    return judge


def _retries(facts: Facts) -> Iterator[Contract]:
    services = facts.catalogue.services
    read = list(_outside(facts, services, "GET"))
    yield Contract(
        "retry.safe",
        "A safe request (GET, HEAD) is repeated as often as declared when the service answers 502,"
        " 503 or 504 or can't be reached.",
        DOCUMENT,
        tuple(_answered(facts, one, "GET", 503) for one in services)
        + tuple(_answered(facts, one, "HEAD", 502) for one in services)
        + tuple(_answered_outside(facts, route, "GET", 504) for _, route in read),
        watch=_tries(
            [one.name for one in (*services, *services, *(one for one, _ in read))],
            [one.retries + 1 for one in (*services, *services, *(one for one, _ in read))],
        ),
    )
    writers = [one for one in services if not one.ai]
    written = list(_outside(facts, writers, "POST"))
    yield Contract(
        "retry.other",
        "A request with any other method is repeated only if the service has not seen it.",
        DOCUMENT,
        tuple(_answered(facts, one, method, 503) for one in writers for method in _WRITES)
        + tuple(_answered_outside(facts, route, "POST", 503) for _, route in written),
        watch=_once(
            *(one.name for one in writers for _ in _WRITES), *(one.name for one, _ in written)
        ),
    )
    paid = [one for one in services if one.ai]
    asked = [
        (one, route, method) for method in _WRITES for one, route in _outside(facts, paid, method)
    ]
    yield Contract(
        "retry.ai",
        "A write to an AI service is never repeated.",
        DOCUMENT,
        tuple(
            _answered(facts, one, method, status)
            for one in paid
            for method in _WRITES
            for status in _GATEWAY_ERRORS
        )
        + tuple(
            _answered_outside(facts, route, method, status)
            for _, route, method in asked
            for status in _GATEWAY_ERRORS
        ),
        watch=_once(
            *(one.name for one in paid for _ in _WRITES for _ in _GATEWAY_ERRORS),
            *(one.name for one, *_ in asked for _ in _GATEWAY_ERRORS),
        ),
    )


_WRITES = ("POST", "PUT", "PATCH", "DELETE")
_GATEWAY_ERRORS = (502, 503, 504)


def _outside(
    facts: Facts, services: Sequence[Service], method: str
) -> Iterator[tuple[Service, Route]]:
    """The routes on which clients send such requests to these services."""
    for one, route in facts.catalogue.exposures:
        served = not route.methods or method in route.methods
        if one in services and route.access == "token" and served:
            yield one, route


def _answered_outside(facts: Facts, route: Route, method: str, status: int) -> Call:
    request = facts.api(
        f"{route.path}/1?codes={status}", *rights(facts, route, method), method=method
    )
    return Call(CLIENT, request, Expect((status,)))


def _answered(facts: Facts, callee: Service, method: str, status: int) -> Call:
    caller, request = _inside(facts, callee, f"codes={status}", method)
    return Call(service(caller), request, Expect((status,)))


def _once(*names: str) -> Watch:
    return _tries(names, [1] * len(names))


def _tries(names: Sequence[str], wanted: Sequence[int]) -> Watch:
    """Each call reached its service so many times, as the service's own proxies count."""

    def watch(_: Sequence[Reply], recorded: Recorded) -> str | None:
        wrong = []
        for name, tries, lines in zip(names, wanted, recorded.lines, strict=True):
            seen = sum(
                str(line.get("upstream_cluster", "")).startswith("inbound|") for line in lines
            )
            if seen != tries:
                wrong.append(f"{name} saw {seen} tries, declared are {tries}")
        return "; ".join(wrong) or None

    return watch
