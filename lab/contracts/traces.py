"""Which requests are traced: shares by group, whole traces, decisions that clients can't touch."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from math import sqrt

from lab.contracts.access import request as call_of
from lab.contracts.contract import CLIENT, Call, Contract, Expect, Line, Recorded, Watch, service
from lab.contracts.facts import Facts
from lab.exchange import Reply, Request
from model.service import Service

DOCUMENT = "telemetry.md"
_OK = Expect((200,))
_TRACED = 400
"""So many that none at all is not chance, where one in ten is traced."""
_DEVIATIONS = 4.5
"""Standard deviations that chance is allowed: once in 150,000 runs it is more."""
_SPANS_LATE = 6.0
"""Seconds that proxies collect spans before they send them."""
_LOWEST, _HIGHEST = 0, 9999
"""Of the numbers that Envoy makes of request ids: one that every share takes, and one that none but
100 % does."""


def _share(facts: Facts, one: Service) -> float:
    sampling = facts.settings.telemetry.sampling
    shares = [sampling.default]
    if one.ai:
        shares.append(sampling.ai)
    if one.websocket:
        shares.append(sampling.websocket)
    return float(max(shares)) / 100


def contracts(facts: Facts) -> Iterator[Contract]:
    """The family `trace`, but for what is on spans."""
    yield from _shares(facts)
    yield from _begun_inside(facts)
    yield from _within(facts)


def _shares(facts: Facts) -> Iterator[Contract]:
    groups: dict[float, tuple[Service, Request]] = {}
    for one, route in facts.catalogue.exposures:
        readable = not route.methods or "GET" in route.methods
        restricted = any(not r.methods or "GET" in r.methods for r in route.restricted)
        if route.access == "token" and readable and not restricted and not route.streaming:
            groups.setdefault(_share(facts, one), (one, facts.api(f"{route.path}/1")))
    for share, (one, request) in groups.items():
        yield Contract(
            f"trace.share.{one.name}",
            "The share holds for everything that clients ask of a service, not for single paths.",
            DOCUMENT,
            _many(facts, request, _TRACED),
            watch=_sampled(share),
            settle=_SPANS_LATE,
        )
    one, request = groups[max(groups)]
    yield Contract(
        "trace.whole",
        "Gateway and services choose the same requests: a trace is kept whole or not at all.",
        DOCUMENT,
        _many(facts, request, 40),
        watch=_whole(one.name),
        settle=_SPANS_LATE,
    )
    least = groups[min(groups)][1]
    parent = "0af7651916cd43dd8448eb211c80319c"
    yield Contract(
        "trace.clients",
        "Clients have no say: the gateway takes `traceparent`, `tracestate`, `x-client-trace-id` and"
        " `x-envoy-force-trace` off a request before it decides.",
        DOCUMENT,
        _many(
            facts,
            least,
            60,
            ("traceparent", f"00-{parent}-b7ad6b7169203331-01"),
            ("tracestate", "evil=1"),
            ("x-client-trace-id", "evil"),
            ("x-envoy-force-trace", "true"),
        ),
        watch=_own_traces(parent, min(groups)),
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
    calls.sort(key=lambda call: _share(facts, call[0]) == _share(facts, call[1]))
    for caller, callee in calls:
        found.setdefault(_share(facts, caller), (caller, callee))
    for share, (caller, callee) in found.items():
        yield Contract(
            f"trace.inside.{caller.name}",
            "Of requests that begin inside the mesh (a job, a consumer of a queue) the share of the"
            " service that sends them is traced.",
            DOCUMENT,
            (Call(service(caller.name), call_of(facts, callee, "service"), _OK),) * _TRACED,
            watch=_sampled(share),
            settle=_SPANS_LATE,
        )


def _within(facts: Facts) -> Iterator[Contract]:
    """One request of a kept trace, and one of a dropped, to a service of each share."""
    asked: dict[float, Service] = {}
    for one in facts.catalogue.services:
        asked.setdefault(_share(facts, one), one)
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
        watch=_continued(traces),
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
        allowed = _DEVIATIONS * sqrt(total * share * (1 - share))
        if abs(kept - total * share) > allowed:
            return f"{kept} of {total} were traced, must be {total * share:.0f} ± {allowed:.0f}"
        return None

    return watch


def _whole(name: str) -> Watch:
    def watch(_: Sequence[Reply], recorded: Recorded) -> str | None:
        kept = _kept(recorded)
        if not kept:
            return "no request was traced"
        for request_id, services in kept.items():
            at_gateway = any("ingressgateway" in service for service in services)
            at_service = any(service.startswith(name) for service in services)
            if not (at_gateway and at_service):
                return f"request {request_id} has spans of {sorted(services)} only"
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
