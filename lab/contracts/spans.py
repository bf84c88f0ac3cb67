"""What is on each span: the request's tags, at every proxy that it passes."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from components.gateway_workload import GATEWAY
from components.request_fields import AI_HEADERS, identity_headers
from lab.contracts.access import request as call_of
from lab.contracts.contract import Call, Contract, Expect, Line, Recorded, Watch, service
from lab.contracts.facts import TENANT, USER, Facts
from lab.contracts.gateway_routes import GatewayRoute, asked
from lab.contracts.traces import groups, request_id
from lab.exchange import Reply, Request
from model.service import Service

DOCUMENT = "telemetry.md"
_OK = Expect((200,))
_SPANS_LATE = 6.0
_AI_TIMES, _OTHER_TIMES = 10, 10
"""How often each route is asked whose requests are not all traced: at 50 % one route in a thousand is
not seen, and of all others at 10 % spans of fewer than half of the services come once in 50,000 runs."""
_ALL_TRACED = "websocket"
_EVERY_SPAN = (
    "Every span of a request has `environment` (the stack) and `cluster`, and `tenant_id`, `user_id`,"
    " `session_id` and `conversation_id` of the request, those of services with a share of their own"
    " as well; only the gateway's on public routes have neither tenant nor user."
)
_WHO = ("tenant_id", "user_id")
_SERVER, _CLIENT = 2, 3
"""Kinds of spans (OTLP): of a request that a proxy got, and of one that it sent."""
_SESSION, _CONVERSATION = "session-7", "conversation-9"
_TALK = (("x-session-id", _SESSION), ("x-conversation-id", _CONVERSATION))
_ANSWERED = {"ai_model": "model-x", "token_count": "42"}
Tags = Mapping[str, str]


def contracts(facts: Facts) -> Iterator[Contract]:
    """The contracts `trace.tags`: of the family `trace` those about what a span tells."""
    yield _everywhere(facts)
    yield from _at_gateway(facts)
    yield _left_out(facts)


@dataclass(frozen=True)
class _Asked:
    """A call inside the mesh whose trace is kept."""

    caller: Service
    callee: Service
    trace: str
    call: Call


def _everywhere(facts: Facts) -> Contract:
    """Each service asks and is asked, so that the proxies of all are seen from both sides."""
    asked = [
        _asked(facts, caller, callee, _handed_on(facts), f"/tags?{_answer()}")
        for caller, callee in pairs(facts)
    ]
    return Contract(
        "trace.tags",
        _EVERY_SPAN,
        DOCUMENT,
        tuple(one.call for one in asked),
        watch=_tagged(asked, _of_requests(facts)),
        settle=_SPANS_LATE,
    )


def pairs(facts: Facts) -> list[tuple[Service, Service]]:
    """Callers and callees, each service at least once as either where it has any."""
    services = facts.catalogue.services
    found = []
    for callee in services:
        if names := facts.catalogue.callers(callee):
            found.append((facts.catalogue.service(names[0]), callee))
    for caller in services:
        if all(caller is not one for one, _ in found):
            found += [
                (caller, callee)
                for callee in services
                if caller.name in facts.catalogue.callers(callee)
            ][:1]
    return found


def _at_gateway(facts: Facts) -> Iterator[Contract]:
    """Every route of the gateway, so that its spans of each kind of request are seen."""
    ai, others = [], []
    for name, routes in groups(facts).items():
        ai += asked(facts, [_answering(one) for one in routes if one.service.ai], _AI_TIMES, *_TALK)
        often = 1 if name == _ALL_TRACED else _OTHER_TIMES
        others += asked(facts, [one for one in routes if not one.service.ai], often, *_TALK)
    yield Contract(
        "trace.tags-at-gateway",
        _EVERY_SPAN,
        DOCUMENT,
        tuple(call for _, _, call in others),
        watch=tagged_from_outside([_wanted(facts, route, tenant) for route, tenant, _ in others]),
        settle=_SPANS_LATE,
    )
    yield Contract(
        "trace.tags-of-ai",
        "Spans of AI services, and the gateway's of their routes, have `ai_model` and `token_count`"
        " too, read from the answer's headers `x-ai-model` and `x-token-count`.",
        DOCUMENT,
        tuple(call for _, _, call in ai),
        watch=tagged_from_outside([_wanted(facts, route, tenant) for route, tenant, _ in ai]),
        settle=_SPANS_LATE,
    )


def _answering(route: GatewayRoute) -> GatewayRoute:
    """The same route, asked for an answer with model and tokens where the echo server gives one."""
    request = route.request
    if not _answers(route):
        return route
    return replace(route, request=replace(request, path=f"{request.path}?{_answer()}"))


def _answers(route: GatewayRoute) -> bool:
    """Whether the echo server answers with headers that it is asked for."""
    return route.request.kind == "http" and not route.name.endswith(".grpc")


@dataclass(frozen=True)
class Wanted:
    """What a request's spans must say, whoever reports them."""

    service: str
    tags: Tags
    missing: frozenset[str]
    """Tags of headers that are not there."""
    nobody: bool
    """True on a public route, where the gateway takes off who asks, whatever the token says."""

    def mistagged(self, span: Line) -> str | None:
        """What is wrong with one of the spans; None where nothing is."""
        gone = set(_WHO) if self.nobody and span["service"].startswith(GATEWAY) else set()
        told = {name: value for name, value in self.tags.items() if name not in gone}
        if wrong := mistagged(span, told, {}):
            return wrong
        there = sorted((self.missing | gone) & span["tags"].keys())
        return (
            f"a span of {span['service']} has {', '.join(there)}, of no header" if there else None
        )


def _wanted(facts: Facts, route: GatewayRoute, tenant: str) -> Wanted:
    tags = {**_of_requests(facts), "tenant_id": tenant}
    if route.service.ai and _answers(route):
        return Wanted(route.service.name, {**tags, **_ANSWERED}, frozenset(), route.public)
    return Wanted(route.service.name, tags, frozenset(_ANSWERED), route.public)


def _left_out(facts: Facts) -> Contract:
    callee = next(one for one in facts.catalogue.services if one.ai)
    caller = facts.catalogue.service(facts.catalogue.callers(callee)[0])
    asked = _asked(facts, caller, callee, (), "/tags")
    missing = {
        "session_id", "conversation_id", *AI_HEADERS,
    }  # fmt: skip

    def watch(_: Sequence[Reply], recorded: Recorded) -> str | None:
        spans = [span for span in recorded.spans if span["trace"] == asked.trace]
        if len(spans) != 2:
            return f"there are {len(spans)} spans of the call, not two"
        for span in spans:
            if there := sorted(missing & span["tags"].keys()):
                return f"a span of {span['service']} has {', '.join(there)}, of no header"
        return None

    return Contract(
        "trace.tags-left-out",
        "A tag whose header is missing is left out.",
        DOCUMENT,
        (asked.call,),
        watch=watch,
        settle=_SPANS_LATE,
    )


def _asked(
    facts: Facts,
    caller: Service,
    callee: Service,
    headers: Sequence[tuple[str, str]],
    path: str,
) -> _Asked:
    trace = secrets.token_hex(16)
    request: Request = call_of(facts, callee, "service", path)
    kept = (
        ("traceparent", f"00-{trace}-{secrets.token_hex(8)}-01"),
        ("x-request-id", request_id(0, kept=True)),
    )
    sent = request.with_headers(*kept, *headers)
    return _Asked(caller, callee, trace, Call(service(caller.name), sent, _OK))


def _handed_on(facts: Facts) -> tuple[tuple[str, str], ...]:
    """What a service hands on with the token of the request that it is working on."""
    names = facts.settings.authentication
    return (
        (names.tenant.header, TENANT),
        (names.user.header, USER),
        *_TALK,
    )


def _answer() -> str:
    """Tells the echo server which headers to answer with."""
    told = (f"{header}:{_ANSWERED[name]}" for name, header in AI_HEADERS.items())
    return f"headers={','.join(told)}"


def _of_requests(facts: Facts) -> Tags:
    values = dict(
        zip(
            identity_headers(facts.settings.authentication),
            (TENANT, USER, _SESSION, _CONVERSATION),
            strict=True,
        )
    )
    cluster = facts.settings.control_plane.cluster
    return {"environment": facts.stack, "cluster": cluster, **values}


def _tagged(asked: Sequence[_Asked], tags: Tags) -> Watch:
    def watch(_: Sequence[Reply], recorded: Recorded) -> str | None:
        for one in asked:
            spans = [span for span in recorded.spans if span["trace"] == one.trace]
            for who, kind in ((one.caller, _CLIENT), (one.callee, _SERVER)):
                found = [
                    span
                    for span in spans
                    if span["kind"] == kind and _of(span, who)
                ]  # fmt: skip
                if len(found) != 1:
                    return (
                        f"{who.name} reported {len(found)} spans of a call by {one.caller.name}"
                        f" to {one.callee.name}: {found}"
                    )
                if wrong := mistagged(found[0], tags, _ANSWERED if who.ai else {}):
                    return wrong
        return None

    return watch


def tagged_from_outside(wanted: Sequence[Wanted]) -> Watch:
    """All spans of clients' requests are right; of most services one was seen, and the gateway's."""

    def watch(_: Sequence[Reply], recorded: Recorded) -> str | None:
        of = {
            line["request_id"]: one
            for one, lines in zip(wanted, recorded.lines, strict=True)
            for line in lines
            if line.get("request_id")
        }
        seen: set[str] = set()
        for span in recorded.spans:
            one = of.get(span["tags"].get("guid:x-request-id", ""))
            if one is None:
                continue
            seen.add(span["service"].split(".")[0])
            if wrong := one.mistagged(span):
                return f"{wrong} (a request to {one.service})"
        services = {one.service for one in wanted}
        if GATEWAY not in seen or len(services & seen) * 2 < len(services):
            return f"of the requests to {len(services)} services spans came of {sorted(seen)} alone"
        return None

    return watch


def _of(span: Line, one: Service) -> bool:
    return bool(span["service"].split(".")[0] == one.name)


def mistagged(span: Line, tags: Tags, answered: Tags) -> str | None:
    """What is wrong with a span's tags; None where they are right."""
    for name, value in (*tags.items(), *answered.items()):
        if (got := span["tags"].get(name)) != value:
            return f"a span of {span['service']} has {name} {got}, must be {value}"
    return None
