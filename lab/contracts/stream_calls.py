"""gRPC calls of every kind: how their messages pass, how they end, and when."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from lab.contracts.contract import CLIENT, Call, Contract, Expect
from lab.contracts.facts import Facts
from lab.contracts.stream_judges import LATE, answered_in_turn, ended_after, sent_in_turn
from lab.contracts.stream_requests import CALLED, PAUSE, between_services, grpc_call, streaming
from lab.exchange import DETAILS, Reply
from model.values import seconds

EDGE, TRAFFIC = "edge.md", "traffic.md"


def contracts(facts: Facts) -> Iterator[Contract]:
    """The family `grpc`."""
    for contract in _calls(facts):
        yield replace(contract, arrangement=streaming)


def _calls(facts: Facts) -> Iterator[Contract]:
    kinds = (
        grpc_call(facts, "one=1"),
        grpc_call(facts, f"answers=4&interval={PAUSE:g}"),
        grpc_call(facts, *["one=1"] * 4, pause=PAUSE),
    )
    yield Contract(
        "grpc.kinds",
        "A gRPC call of any kind, with one or many messages either way, passes message by message.",
        TRAFFIC,
        (
            *(Call(CLIENT, request, CALLED) for request in kinds),
            *(replace(between_services(facts, request), expect=CALLED) for request in kinds),
        ),
        _message_by_message,
    )
    ends = [
        (name, f"status={name}&detail=told by the service&trailer=x-told:yes") for name in _ENDS
    ]
    yield Contract(
        "grpc.status",
        "A gRPC call ends with the status, the message and the trailers that the service gives it.",
        TRAFFIC,
        tuple(
            Call(CLIENT, grpc_call(facts, *first, text), Expect((200,), grpc=name))
            for name, text in ends
            for first in ((), ("answers=2&interval=0.1",))
        )
        + tuple(
            replace(
                between_services(facts, grpc_call(facts, text)), expect=Expect((200,), grpc=name)
            )
            for name, text in ends
        ),
        _ended_as_told,
    )
    idle = float(seconds(facts.settings.edge.stream_idle))
    ended = Expect((200,), grpc="UNKNOWN|INTERNAL|UNAVAILABLE|CANCELLED|DEADLINE_EXCEEDED")
    yield Contract(
        "grpc.silent",
        "A gRPC call in which nothing moves for `streamIdle` is ended, too.",
        EDGE,
        (
            Call(CLIENT, grpc_call(facts, f"answers=1&interval={idle + 3:g}"), ended),
            Call(CLIENT, grpc_call(facts, "a", "b", pause=idle + 3), ended),
        ),
        ended_after([idle, idle]),
        patient=True,
    )
    number = facts.run
    yield Contract(
        "grpc.deadline",
        "The deadline of a gRPC client reaches the service; when it has passed, the service's call"
        " is cancelled.",
        TRAFFIC,
        tuple(
            call
            for outside in (True, False)
            for call in _overdue(facts, f"overdue-{number}-{outside}", outside=outside)
        ),
        _cancelled_in_time,
        at_once=False,
    )


_ENDS = ("NOT_FOUND", "INVALID_ARGUMENT", "RESOURCE_EXHAUSTED", "INTERNAL", "UNAVAILABLE")
_DEADLINE = 2.0
_OVERDUE = "DEADLINE_EXCEEDED|INTERNAL"
"""What a client is told: by itself, or by a proxy, which resets the call at the same moment."""


def _overdue(facts: Facts, name: str, *, outside: bool) -> Iterator[Call]:
    """A call that would take longer than its deadline, and one that asks how it ended."""
    for request, status in (
        (grpc_call(facts, f"as={name}&answers=50&interval=0.2", deadline=_DEADLINE), _OVERDUE),
        (grpc_call(facts, f"ended={name}", pause=0.5), "OK"),
    ):
        expect = Expect((200,), grpc=status)
        if outside:
            yield Call(CLIENT, request, expect)
        else:
            yield replace(between_services(facts, request), expect=expect)


def _cancelled_in_time(replies: Sequence[Reply]) -> str | None:
    for overdue, told in zip(replies[::2], replies[1::2], strict=True):
        seen = float(overdue.echoed("Deadline") or 0)
        if not 0 < seen <= _DEADLINE:
            return f"the service saw a deadline of {seen:g} s, the client's is {_DEADLINE:g} s"
        how, _, after = (told.echoed("Ended") or "never").partition(" ")
        if how != "cancelled" or float(after) > _DEADLINE + LATE:
            return f"the service's call was {how} after {after} s, not cancelled by the deadline"
    return None


def _message_by_message(replies: Sequence[Reply]) -> str | None:
    for one, down, up in (replies[:3], replies[3:]):
        if one.messages[1:] != ("Size=5\n",):
            return f"one message was sent, {one.messages[1:]} came back"
        if wrong := sent_in_turn(4, PAUSE)([down]) or answered_in_turn(4, PAUSE, 0)([up]):
            return wrong
    return None


def _ended_as_told(replies: Sequence[Reply]) -> str | None:
    for reply in replies:
        if reply.extra.get(DETAILS) != "told by the service":
            return f"{reply.grpc_status} came with the message {reply.extra.get(DETAILS)!r}"
        if reply.header("x-told") != "yes":
            return f"{reply.grpc_status} came without the service's trailer"
    return None
