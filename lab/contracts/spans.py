"""What is on each span: the request's tags, at every proxy that it passes."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from components.request_fields import AI_HEADERS, identity_headers
from lab.contracts.access import request as call_of
from lab.contracts.contract import CLIENT, Call, Contract, Expect, Line, Recorded, Watch, service
from lab.contracts.facts import TENANT, USER, Facts
from lab.contracts.traces import request_id
from lab.exchange import Reply, Request
from model.service import Service

DOCUMENT = "telemetry.md"
_OK = Expect((200,))
_SPANS_LATE = 6.0
_AT_GATEWAY = 30
"""Requests of which at least one is traced: at 50 %, all but once in a billion runs."""
_SERVER, _CLIENT = 2, 3
"""Kinds of spans (OTLP): of a request that a proxy got, and of one that it sent."""
_SESSION, _CONVERSATION = "session-7", "conversation-9"
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
        "Every span of a request has `environment` (the stack) and `cluster`, and `tenant_id`,"
        " `user_id`, `session_id` and `conversation_id` of the request: those of services with a"
        " share of their own as well.",
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
    for one, route in facts.catalogue.exposures:
        if one.ai and route.access == "token" and "GET" in (route.methods or ("GET",)):
            break
    else:
        return
    request = facts.api(f"{route.path}/1?{_answer()}", *facts.bearer(), *_conversation())
    yield Contract(
        "trace.tags-of-ai",
        "Spans of AI services, and the gateway's of their routes, have `ai_model` and `token_count`"
        " too, read from the answer's headers `x-ai-model` and `x-token-count`.",
        DOCUMENT,
        (Call(CLIENT, request, _OK),) * _AT_GATEWAY,
        watch=_tagged_from_outside(one, {**_of_requests(facts), **_ANSWERED}),
        settle=_SPANS_LATE,
    )


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
        *_conversation(),
    )


def _conversation() -> tuple[tuple[str, str], ...]:
    return (("x-session-id", _SESSION), ("x-conversation-id", _CONVERSATION))


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
                        f" to {one.callee.name}"
                    )
                if wrong := mistagged(found[0], tags, _ANSWERED if who.ai else {}):
                    return wrong
        return None

    return watch


def _tagged_from_outside(one: Service, tags: Tags) -> Watch:
    def watch(_: Sequence[Reply], recorded: Recorded) -> str | None:
        ids = {line.get("request_id") for lines in recorded.lines for line in lines}
        spans = [
            span for span in recorded.spans if span["tags"].get("guid:x-request-id") in ids
        ]  # fmt: skip
        if not spans:
            return "no request was traced"
        gateway = [span for span in spans if "ingressgateway" in span["service"]]
        if not gateway or not any(_of(span, one) for span in spans):
            return f"gateway and {one.name} must both have spans"
        return next(filter(None, (mistagged(span, tags, {}) for span in spans)), None)

    return watch


def _of(span: Line, one: Service) -> bool:
    return bool(span["service"].split(".")[0] == one.name)


def mistagged(span: Line, tags: Tags, answered: Tags) -> str | None:
    """What is wrong with a span's tags; None where they are right."""
    for name, value in (*tags.items(), *answered.items()):
        if (got := span["tags"].get(name)) != value:
            return f"a span of {span['service']} has {name} {got}, must be {value}"
    return None
