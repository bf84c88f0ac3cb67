"""Which requests are traced: shares by group, whole traces, decisions that clients can't touch."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Iterator, Sequence
from math import ceil, log

from components.gateway_workload import GATEWAY
from components.trace_sampling import ratio
from lab.contracts.access import request as call_of
from lab.contracts.chance import unlikely
from lab.contracts.contract import (
    CLIENT,
    Bounded,
    Call,
    Contract,
    Expect,
    Line,
    Recorded,
    Watch,
    both_watched,
    service,
)
from lab.contracts.facts import Facts
from lab.contracts.gateway_routes import GatewayRoute, asked, gateway_routes
from lab.exchange import Reply, Request
from model.service import Service

DOCUMENT = "telemetry.md"
_OK = Expect((200,))
_TRACED = 400
"""So many that none at all is not chance, where one in ten is traced."""
_MISSED = 1e-4
"""How likely a route with another share than its own may go unnoticed: nothing of it in the numbers
of its requests."""
_SPANS_LATE = 6.0
"""Seconds that proxies collect spans before they send them."""
_LOWEST, _HIGHEST = 0, 9999
"""Of the numbers that Envoy makes of request ids: one that every share takes, and one that none but
100 % does."""


_NUMBERS = 10_000


def share_of(facts: Facts, one: Service) -> float:
    """The share of a service's requests that is traced."""
    return ratio(one, facts.settings.telemetry.sampling) / 100


def groups(facts: Facts) -> dict[str, list[GatewayRoute]]:
    """All routes at the gateway by the name of the share that their services have."""
    sampling = facts.settings.telemetry.sampling
    names = {percent: name for name, percent in sampling.model_dump().items()}
    found: dict[str, list[GatewayRoute]] = {}
    for route in gateway_routes(facts):
        found.setdefault(names[ratio(route.service, sampling)], []).append(route)
    return found


def contracts(facts: Facts) -> Iterator[Contract]:
    """The family `trace`, but for what is on spans."""
    yield from _shares(facts)
    yield from _begun_inside(facts)
    yield from _within(facts)


def _shares(facts: Facts) -> Iterator[Contract]:
    found = groups(facts)
    for name, routes in found.items():
        share = share_of(facts, routes[0].service)
        sent = asked(facts, routes, _times(facts, share))
        yield Contract(
            f"trace.share.{name}",
            "The share holds for everything that clients ask of a service, not for single paths.",
            DOCUMENT,
            tuple(call for _, _, call in sent),
            watch=Bounded(
                both_watched(decided([route.name for route, _, _ in sent], share), _sampled(share))
            ),
            settle=_SPANS_LATE,
        )
    most = max(found.values(), key=lambda routes: share_of(facts, routes[0].service))
    sent = asked(facts, most, 2)
    yield Contract(
        "trace.whole",
        "Gateway and services choose the same requests: a trace is kept whole or not at all.",
        DOCUMENT,
        tuple(call for _, _, call in sent),
        watch=_whole([route.service.name for route, _, _ in sent]),
        settle=_SPANS_LATE,
    )
    share, least = min(
        (share_of(facts, one), route.path) for one, route in facts.readable() if not route.streaming
    )
    parent = "0af7651916cd43dd8448eb211c80319c"
    yield Contract(
        "trace.clients",
        "Clients have no say: the gateway takes `traceparent`, `tracestate`, `x-client-trace-id` and"
        " `x-envoy-force-trace` off a request before it decides.",
        DOCUMENT,
        _many(
            facts,
            facts.api(f"{least}/1"),
            60,
            ("traceparent", f"00-{parent}-b7ad6b7169203331-01"),
            ("tracestate", "evil=1"),
            ("x-client-trace-id", "evil"),
            ("x-envoy-force-trace", "true"),
        ),
        watch=Bounded(_own_traces(parent, share)),
        settle=_SPANS_LATE,
    )


def _begun_inside(facts: Facts) -> Iterator[Contract]:
    """Calls without any trace, from a service of each share."""
    calls = [
        (facts.catalogue.service(name), callee)
        for callee in facts.catalogue.services
        for name in facts.catalogue.callers(callee)
    ]
    found: dict[float, tuple[Service, Service]] = {}
    # Best to one of another share: it must be seen whose share it is.
    calls.sort(key=lambda call: share_of(facts, call[0]) == share_of(facts, call[1]))
    for caller, callee in calls:
        found.setdefault(share_of(facts, caller), (caller, callee))
    for share, (caller, callee) in found.items():
        yield Contract(
            f"trace.inside.{caller.name}",
            "Of requests that begin inside the mesh (a job, a consumer of a queue) the share of the"
            " service that sends them is traced.",
            DOCUMENT,
            (Call(service(caller.name), call_of(facts, callee, "service"), _OK),) * _TRACED,
            watch=Bounded(_sampled(share)),
            settle=_SPANS_LATE,
        )


def _within(facts: Facts) -> Iterator[Contract]:
    """One request of a kept trace, and one of a dropped, to a service of each share."""
    asked: dict[float, Service] = {}
    for one in facts.catalogue.services:
        asked.setdefault(share_of(facts, one), one)
    traces, calls = [], []
    for callee in asked.values():
        for kept in (True, False):
            trace, parent = secrets.token_hex(16), secrets.token_hex(8)
            traces.append((trace, parent, kept))
            handed_on = (
                ("traceparent", f"00-{trace}-{parent}-{'01' if kept else '00'}"),
                ("x-request-id", request_id(_HIGHEST if kept else _LOWEST, kept=kept)),
            )
            request = call_of(facts, callee, "service")
            calls.append(
                Call(
                    service(facts.catalogue.callers(callee)[0]),
                    request.with_headers(*handed_on),
                    _OK,
                )
            )
    yield Contract(
        "trace.context",
        "What one service asks another belongs to the caller's trace: in a kept one it is traced"
        " whatever the share of the service asked, in a dropped one it is not.",
        DOCUMENT,
        tuple(calls),
        watch=Bounded(_continued(traces)),
        settle=_SPANS_LATE,
    )


def request_id(number: int, *, kept: bool) -> str:
    """A request id as a proxy leaves it: of which Envoy makes `number`, with what was decided.

    Envoy reads the first eight digits, modulo 10,000, and writes the decision into one of the
    others: https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_conn_man/headers
    """
    first = secrets.randbelow(400_000) * 10_000 + number
    rest = secrets.token_hex(12)
    return f"{first:08x}-{rest[:4]}-{'9' if kept else '4'}{rest[4:7]}-a{rest[7:10]}-{rest[:12]}"


def _continued(traces: Sequence[tuple[str, str, bool]]) -> Watch:
    """Spans of caller and callee hang together below the span that the caller was working on."""

    def watch(replies: Sequence[Reply], recorded: Recorded) -> str | None:
        for reply, (trace, parent, kept) in zip(replies, traces, strict=True):
            by = reply.served_by
            spans = [span for span in recorded.spans if span["trace"] == trace]
            if not kept:
                if spans:
                    return f"{by}: a dropped trace has spans of {_services(spans)}"
                continue
            sent = [span for span in spans if span["parent"] == parent]
            below = [span for span in spans if sent and span["parent"] == sent[0]["span"]]
            if len(sent) != 1 or len(below) != 1 or len(spans) != 2:
                return f"{by}: a kept trace has spans of {_services(spans)}, not of both in a row"
            seen = reply.seen("traceparent")
            if seen != [f"00-{trace}-{below[0]['span']}-01"]:
                return f"{by}: the service was handed {seen}, not its proxy's span of the trace"
        return None

    return watch


def _services(spans: Sequence[Line]) -> str:
    return ", ".join(sorted(span["service"] for span in spans)) or "nobody"


def _many(
    facts: Facts, request: Request, number: int, *headers: tuple[str, str]
) -> tuple[Call, ...]:
    tenant = facts.settings.authentication.tenant.claim
    return tuple(
        Call(
            CLIENT,
            facts.api(
                request.path,
                *facts.bearer(**{tenant: f"traced-{index % 40}"}),
                ("x-forwarded-for", facts.many_clients(index)),
                *headers,
                timeout=30.0,
            ),
            _OK,
        )
        for index in range(number)
    )


def _ids(recorded: Recorded) -> set[str]:
    return {
        line["request_id"]
        for lines in recorded.lines
        for line in lines
        if line["log"] == "access" and line.get("request_id")
    }


def _kept(recorded: Recorded) -> dict[str, list[str]]:
    """For each request that was traced the proxies that have a span of it."""
    ids = _ids(recorded)
    found: dict[str, list[str]] = {}
    for span in recorded.spans:
        request_id = span["tags"].get("guid:x-request-id")
        if request_id in ids:
            found.setdefault(request_id, []).append(span["service"])
    return found


def _sampled(share: float) -> Watch:
    def watch(replies: Sequence[Reply], recorded: Recorded) -> str | None:
        total, kept = len(replies), len(_kept(recorded))
        if len(_ids(recorded)) < total:
            return f"{len(_ids(recorded))} of {total} requests are in the access log"
        wrong = unlikely(kept, total, share)
        return f"traced were {wrong}" if wrong else None

    return watch


def _times(facts: Facts, share: float) -> int:
    """How often a route must be asked so that another share would show.

    It shows of a request whose number is below one of the two and not below the other.
    """
    others = {
        float(percent) / 100 for percent in facts.settings.telemetry.sampling.model_dump().values()
    }
    apart = min((abs(share - other) for other in others - {share}), default=1.0)
    return ceil(log(_MISSED) / log(1 - apart)) if apart < 1 else 1


def decided(names: Sequence[str], share: float) -> Watch:
    """Exactly those requests were traced whose number is below the share, each of its route."""

    def watch(replies: Sequence[Reply], recorded: Recorded) -> str | None:
        kept, wrong = _kept(recorded), Counter[str]()
        for reply, name, lines in zip(replies, names, recorded.lines, strict=True):
            line = next((one for one in lines if _is_gateways(one)), None)
            if line is None:
                return f"a request to {name} that was answered with {reply} is in no log"
            if line.get("route") != name:
                return f"a request to {name} took the route {line.get('route')}"
            below = number_of(line["request_id"]) < round(share * _NUMBERS)
            wrong[name] += below != (line["request_id"] in kept)
        told = [f"{name} ({count})" for name, count in wrong.items() if count]
        return f"not {share:.0%} of the requests were traced of {', '.join(told)}" if told else None

    return watch


def number_of(request_id: str) -> int:
    """The number that Envoy makes of a request id, and compares shares with."""
    return int(request_id[:8], 16) % _NUMBERS


def _is_gateways(line: Line) -> bool:
    return bool(line["log"] == "access" and line["proxy"].startswith(GATEWAY))


def _whole(names: Sequence[str]) -> Watch:
    def watch(_: Sequence[Reply], recorded: Recorded) -> str | None:
        kept = _kept(recorded)
        if not kept:
            return "no request was traced"
        of = {
            line["request_id"]: name
            for name, lines in zip(names, recorded.lines, strict=True)
            for line in lines
            if line.get("request_id")
        }
        for request_id, services in kept.items():
            at_gateway = any("ingressgateway" in service for service in services)
            at_service = any(service.startswith(of[request_id]) for service in services)
            if not (at_gateway and at_service):
                return f"request {request_id} to {of[request_id]} has spans of {sorted(services)}"
        traces: dict[str, set[str]] = {}
        for span in recorded.spans:
            if (request_id := span["tags"].get("guid:x-request-id")) in kept:
                traces.setdefault(request_id, set()).add(span["trace"])
        if torn := [one for one, found in traces.items() if len(found) > 1]:
            return f"{len(torn)} requests are in several traces"
        return None

    return watch


def _own_traces(parent: str, share: float) -> Watch:
    sampled = _sampled(share)

    def watch(replies: Sequence[Reply], recorded: Recorded) -> str | None:
        if any(span["trace"] == parent for span in recorded.spans):
            return "a client's trace was joined"
        return sampled(replies, recorded)

    return watch
