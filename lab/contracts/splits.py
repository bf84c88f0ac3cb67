"""Traffic that is divided: the weights of an environment, and cohorts that always meet one subset.

Requests come as copies over one HTTP/2 connection: many of them cost little, and each is drawn for
by itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from math import ceil, sqrt

from lab.contracts.access import grpc, headers, http_port
from lab.contracts.chance import DEVIATIONS, unlikely
from lab.contracts.contract import (
    CLIENT,
    Call,
    Caller,
    Contract,
    Expect,
    Judge,
    Recorded,
    Watch,
    service,
)
from lab.contracts.facts import Facts
from lab.exchange import Reply, Request
from model.service import Route, Service
from model.settings import Cohort, Split
from model.values import Method

DOCUMENT = "traffic.md"
_NOTICED = 3.0
"""Standard deviations that a share half as large must be beyond that: missed once in 700 runs."""
_COPIES = 45
"""Requests over one connection; fewer where a limit is lower."""
_FEW = 8
"""Requests of a cohort for each of its marks on each route."""
_STRANGERS = 24
"""Requests with a mark that is no cohort's: enough that they can't all meet one subset by chance."""
_AGENT = ("user-agent", "voicemesh-draws")
"""Not that of a contract: what proxies log of so many requests is not looked at."""
_PLENTY = 30.0
_SERVED = Expect((200,))
Mark = tuple[str, str]
"""A header that marks a cohort."""


@dataclass(frozen=True)
class Source:
    """Requests of one kind, by one caller."""

    caller: Caller
    request: Request
    most: int
    """How many of one client no limit minds."""
    outside: bool


def contracts(facts: Facts) -> Iterator[Contract]:
    """The families `canary` and `cohort`."""
    clients = count(1)
    for name, split in facts.settings.traffic.items():
        one = next(one for one in facts.catalogue.services if one.name == name)
        yield from _canary(facts, one, split, clients)
        if split.cohorts:
            yield _cohort(facts, one, split, clients)
            yield _strangers(facts, one, split, clients)


# Who asks


def _sources(facts: Facts, one: Service, methods: Sequence[Method]) -> Iterator[Source]:
    """Clients' requests with these methods to every route of HTTP that anybody may ask."""
    limits, http2 = facts.settings.rate_limits, facts.settings.edge.http2
    for route in one.routes:
        most = limits.login if route.login else limits.per_tenant
        for method in methods:
            if _served(route, method):
                yield Source(
                    CLIENT,
                    facts.api(f"{route.path}/1", _AGENT, method=method),
                    min(_COPIES, http2.max_concurrent_streams, most.requests - 1),
                    outside=True,
                )


def _served(route: Route, method: Method) -> bool:
    ruled = any(not rule.methods or method in rule.methods for rule in route.restricted)
    return (not route.methods or method in route.methods) and not ruled


def _inside(facts: Facts, one: Service, methods: Sequence[Method]) -> Iterator[Source]:
    """Another service's requests."""
    caller, port = facts.catalogue.callers(one)[0], http_port(one).number
    for method in methods:
        request = Request(
            f"service:{one.name}:{port}", f"{one.name}:{port}",
            method=method, path="/contract", headers=(*headers(facts), _AGENT),
        )  # fmt: skip
        yield Source(service(caller), request, _COPIES, outside=False)


def _copies(
    facts: Facts, source: Source, number: int, clients: Iterator[int], *marks: Mark
) -> Iterator[Call]:
    """So many of a source's requests, of clients and tenants that nothing else has asked for."""
    for first in range(0, number, source.most):
        request = replace(
            source.request.with_headers(*marks),
            kind="streams", streams=min(source.most, number - first),
            hangs_up=True, timeout=_PLENTY,
        )  # fmt: skip
        if source.outside:
            request = request.with_headers(*_client(facts, next(clients)))
        yield Call(source.caller, request, _SERVED)


def _client(facts: Facts, number: int) -> tuple[tuple[str, str], ...]:
    tenant = facts.settings.authentication.tenant.claim
    return (
        *facts.bearer(**{tenant: f"drawn-{number}"}),
        ("x-forwarded-for", facts.client6(0x1000 + number, 1)),
    )


# Weights


def _canary(facts: Facts, one: Service, split: Split, clients: Iterator[int]) -> Iterator[Contract]:
    versions = {subset.name: subset.version for subset in one.subsets}
    weights = {versions[subset]: weight for subset, weight in split.weights.items()}
    number = draws(weights.values())
    for where, found in (
        ("", _sources(facts, one, ("GET",))),
        (".writes", _sources(facts, one, ("POST",))),
        (".inside", _inside(facts, one, ("GET", "POST"))),
    ):
        sources = list(found)
        calls = [
            call
            for source in sources
            for call in _copies(facts, source, ceil(number / len(sources)), clients)
        ]
        yield Contract(
            f"canary.{one.name}{where}",
            "Traffic is divided by the weights of the environment.",
            DOCUMENT,
            tuple(calls),
            divided(weights, sum(call.request.streams for call in calls)),
            at_once=False,
        )


def draws(weights: Iterable[int]) -> int:
    """How many requests it takes to notice that the smallest share is half of what it should be."""
    share = min((weight / 100 for weight in weights if 0 < weight < 100), default=0.5)
    chance = DEVIATIONS * sqrt(share * (1 - share))
    half = _NOTICED * sqrt(share / 2 * (1 - share / 2))
    return ceil(((chance + half) / (share / 2)) ** 2)


def divided(weights: Mapping[str, int], number: int) -> Judge:
    """Every request was answered, and each version's share is its weight within what chance allows."""

    def judge(replies: Sequence[Reply]) -> str | None:
        found = Counter(version for reply in replies for version in reply.each("ServiceVersion"))
        if found.total() != number or not number:
            return f"of {number} requests {found.total()} were answered by a service"
        for version, weight in weights.items():
            if wrong := unlikely(found[version], number, weight / 100):
                return f"{version} has weight {weight} and answered {wrong}"
        if strange := sorted(found.keys() - weights.keys()):
            return f"versions without a weight answered: {', '.join(strange)}"
        return None

    return judge


# Cohorts


def marks(cohort: Cohort) -> tuple[Mark, ...]:
    """All ways to bear a cohort's mark: its header; its cookie alone, first, between and last."""
    if cohort.header:
        return ((cohort.header, cohort.value),)
    own = f"{cohort.cookie}={cohort.value}"
    return tuple(
        ("cookie", text) for text in (own, f"{own}; z=1", f"a=1; {own}; z=2", f"a=1; {own}")
    )


def resembling(cohort: Cohort) -> tuple[Mark, ...]:
    """What only looks like a cohort's mark."""
    if cohort.header:
        return tuple(
            (cohort.header, text)
            for text in (f"{cohort.value}X", f"x{cohort.value}", "other", cohort.value.upper())
        )
    own = f"{cohort.cookie}={cohort.value}"
    return tuple(("cookie", text) for text in (f"{own}X", f"x{own}", f"a=1; {own}X; x{own}; z=2"))


def _cohort(facts: Facts, one: Service, split: Split, clients: Iterator[int]) -> Contract:
    versions = {subset.name: subset.version for subset in one.subsets}
    methods: tuple[Method, ...] = ("GET", "POST")
    calls: list[Call] = []
    wanted: list[str] = []
    for cohort in split.cohorts:
        for mark in marks(cohort):
            sent = [
                call
                for source in (*_sources(facts, one, methods), *_inside(facts, one, methods))
                for call in _copies(facts, source, min(_FEW, source.most), clients, mark)
            ]
            sent += _upgrades_and_calls(facts, one, mark, clients)
            calls += sent
            wanted += [versions[cohort.subset]] * len(sent)
    return Contract(
        f"cohort.{one.name}",
        "Callers with a cohort's header or cookie always meet the cohort's subset, by HTTP, gRPC"
        " and WebSocket alike.",
        DOCUMENT,
        tuple(calls),
        met(wanted, [call.request for call in calls]),
        at_once=False,
        watch=called(one.name, wanted, [call.request for call in calls]),
    )


def _upgrades_and_calls(
    facts: Facts, one: Service, mark: Mark, clients: Iterator[int]
) -> Iterator[Call]:
    for socket in one.websockets:
        request = facts.websocket(socket.path, *_client(facts, next(clients)), mark)
        yield Call(CLIENT, request, Expect((101,), served_by=one.name))
    for declared in one.grpc:
        port = one.port(declared.port)
        if port.protocol == "grpc":
            request = facts.grpc(f"/{declared.name}/Get", *_client(facts, next(clients)), mark)
            # The echo server has no such service, and says so itself.
            yield Call(CLIENT, request, Expect((200,), grpc="UNIMPLEMENTED"))
            inside = grpc(facts, one, port).with_headers(mark)
            caller = service(facts.catalogue.callers(one)[0])
            yield Call(caller, inside, Expect((200,), served_by=one.name, grpc="OK"))


def met(wanted: Sequence[str], requests: Sequence[Request]) -> Judge:
    """Every copy of each request was answered by that version; of gRPC the logs say it."""

    def judge(replies: Sequence[Reply]) -> str | None:
        if not replies:
            return "nobody was asked"
        for version, request, reply in zip(wanted, requests, replies, strict=True):
            found = reply.each("ServiceVersion")
            if request.kind != "grpc" and found != [version] * request.streams:
                return (
                    f"{request.method} {request.path} of {version}'s cohort met"
                    f" {dict(Counter(found))}, sent were {request.streams}"
                )
        return None

    return judge


def called(name: str, wanted: Sequence[str], requests: Sequence[Request]) -> Watch:
    """Each gRPC call is in the log of one instance, which is of that version."""

    def watch(_: Sequence[Reply], recorded: Recorded) -> str | None:
        for version, request, lines in zip(wanted, requests, recorded.lines, strict=True):
            if request.kind == "grpc":
                reached = [
                    str(line["proxy"])
                    for line in lines
                    if str(line.get("upstream_cluster", "")).startswith("inbound|")
                ]
                if [one.startswith(f"{name}-{version}-") for one in reached] != [True]:
                    return f"a call of {version}'s cohort is in the logs of {reached}"
        return None

    return watch


def _strangers(facts: Facts, one: Service, split: Split, clients: Iterator[int]) -> Contract:
    versions = {subset.name: subset.version for subset in one.subsets}
    weights = {versions[subset]: weight for subset, weight in split.weights.items()}
    places = [
        next(source for source in found if source.most >= _STRANGERS)
        for found in (_sources(facts, one, ("GET", "POST")), _inside(facts, one, ("GET",)))
    ]
    calls = [
        call
        for cohort in split.cohorts
        for mark in resembling(cohort)
        for source in places
        for call in _copies(facts, source, _STRANGERS, clients, mark)
    ]
    return Contract(
        f"cohort.{one.name}.others",
        "A header or cookie of another name or value, however alike, is no cohort's: traffic that"
        " has it is divided by the weights.",
        DOCUMENT,
        tuple(calls),
        each_divided(weights, _STRANGERS),
        at_once=False,
    )


def each_divided(weights: Mapping[str, int], number: int) -> Judge:
    """The copies of every request are divided by the weights, those of each by themselves."""

    def judge(replies: Sequence[Reply]) -> str | None:
        if not replies:
            return "nobody was asked"
        one = divided(weights, number)
        return next((wrong for reply in replies if (wrong := one([reply]))), None)

    return judge
