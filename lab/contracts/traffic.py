"""Traffic between services: timeouts, retries, pools, canary weights, cohorts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from math import sqrt

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
_DRAWN, _FEWER = 600, 300
_DEVIATIONS = 4.5
"""Standard deviations that chance is allowed: once in 150,000 runs it is more."""


def contracts(facts: Facts) -> Iterator[Contract]:
    """The families `timeout`, `retry`, `canary` and `cohort`."""
    yield from _timeouts(facts)
    yield from _retries(facts)
    yield from _canary(facts)


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
                calls.append(Call(service(caller), request, Expect((504,), within=limit + 1.5)))
    yield Contract(
        "timeout.service",
        "A request that takes longer than the service's timeout is answered with 504 in time.",
        DOCUMENT,
        tuple(calls),
        _not_before(_SHORT * 0.9),
        patient=True,
    )


def _not_before(least: float) -> Judge:
    def judge(replies: Sequence[Reply]) -> str | None:
        early = [reply.seconds for reply in replies if reply.seconds < least]
        return f"answered after {early} s, long before the timeout" if early else None

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
    asked = list(_outside(facts, paid, "POST"))
    yield Contract(
        "retry.ai",
        "A write to an AI service is never repeated.",
        DOCUMENT,
        tuple(_answered(facts, one, "POST", status) for one in paid for status in _GATEWAY_ERRORS)
        + tuple(
            _answered_outside(facts, route, "POST", status)
            for _, route in asked
            for status in _GATEWAY_ERRORS
        ),
        watch=_once(
            *(one.name for one in paid for _ in _GATEWAY_ERRORS),
            *(one.name for one, _ in asked for _ in _GATEWAY_ERRORS),
        ),
    )


_WRITES = ("POST", "PUT", "DELETE")
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


def _canary(facts: Facts) -> Iterator[Contract]:
    for name, split in facts.settings.traffic.items():
        one = next(one for one in facts.catalogue.services if one.name == name)
        versions = {subset.name: subset.version for subset in one.subsets}
        route = next(route for route in one.routes if route.access == "token")
        weights = {versions[subset]: weight for subset, weight in split.weights.items()}
        for where, calls in (
            ("", _drawn_outside(facts, one, route, "GET", _DRAWN)),
            (".writes", _drawn_outside(facts, one, route, "POST", _FEWER)),
            (".inside", _drawn_inside(facts, one)),
        ):
            yield Contract(
                f"canary.{name}{where}",
                "Traffic is divided by the weights of the environment.",
                DOCUMENT,
                tuple(calls),
                _divided(weights),
            )
        marks = [
            ((cohort.header, cohort.value), cohort.subset)
            if cohort.header
            else (("cookie", f"first=1; {cohort.cookie}={cohort.value}; last=2"), cohort.subset)
            for cohort in split.cohorts
        ]
        caller, inside = _inside(facts, one, "cohort", "GET")
        if marks:
            yield Contract(
                f"cohort.{name}",
                "Callers with a cohort's header or cookie always meet the cohort's subset.",
                DOCUMENT,
                tuple(
                    call
                    for (header, value), subset in marks
                    for _ in range(12)
                    for expect in (Expect((200,), served_by=name, version=versions[subset]),)
                    for call in (
                        Call(
                            CLIENT,
                            facts.api(f"{route.path}/1", *facts.bearer(), (str(header), value)),
                            expect,
                        ),
                        Call(
                            service(caller),
                            inside.with_headers((str(header), value)),
                            expect,
                        ),
                    )
                ),
            )


def _drawn_outside(
    facts: Facts, one: Service, route: Route, method: str, number: int
) -> Iterator[Call]:
    """Requests of clients, none of whom meets a limit."""
    for index in range(number):
        # Ids of their own, that hashing inside a subset has something to choose by.
        bearer = facts.bearer(tenant_id=f"canary-{index % 60}", user_id=f"user-{index}")
        request = facts.api(
            f"{route.path}/{index}",
            *bearer,
            ("x-forwarded-for", facts.many_clients(index)),
            method=method,
        )
        yield Call(CLIENT, request, Expect((200,), served_by=one.name))


def _drawn_inside(facts: Facts, one: Service) -> Iterator[Call]:
    """Requests of another service, reads and writes by turns."""
    for index in range(_FEWER):
        caller, request = _inside(facts, one, f"draw={index}", ("GET", "POST")[index % 2])
        yield Call(service(caller), request, Expect((200,), served_by=one.name))


def _divided(weights: dict[str, int]) -> Judge:
    """Each version's share is its weight, within what chance allows."""

    def judge(replies: Sequence[Reply]) -> str | None:
        total, counts = len(replies), Counter(reply.echoed("ServiceVersion") for reply in replies)
        for version, weight in weights.items():
            share = weight / 100
            allowed = _DEVIATIONS * sqrt(total * share * (1 - share))
            if abs(counts[version] - total * share) > allowed:
                return (
                    f"{version} has weight {weight} and answered {counts[version]} of {total};"
                    f" chance allows {total * share:.0f} ± {allowed:.0f}"
                )
        return None

    return judge
