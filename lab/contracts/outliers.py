"""Outlier detection: an instance that fails is left out for a while, and comes back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from lab.contracts.contract import Call, Contract, Expect, Judge
from lab.contracts.contract import service as through
from lab.contracts.facts import Facts
from lab.contracts.two_instances import FASTER, caller_of, hashed, inside, simply, two_instances
from lab.exchange import Reply
from model.service import HashOn, Outliers, Service
from model.values import seconds

DOCUMENT = "traffic.md"
_STEP = 0.3
"""Seconds between requests whose order matters."""
_SLACK = 2.0
_ROUND = 6
"""Requests that surely meet both of two instances that take turns."""


def contracts(facts: Facts) -> Iterator[Contract]:
    """The family `outlier`."""
    yield from _ejected(facts, hashed(facts.catalogue))
    yield from _ejected_in_turn(facts, simply(facts.catalogue, "ROUND_ROBIN"))


_OUTLIER = (
    "An instance that fails as often in a row as declared is taken out of load balancing for the"
    " declared time, and comes back."
)


def _ejected(facts: Facts, one: Service) -> Iterator[Contract]:
    """One instance of a service with hashing: the header chooses which one fails."""
    many = one.outliers.consecutive_5xx
    assert isinstance(one.load_balancing, HashOn)
    if not many:
        return
    caller = through(caller_of(facts.catalogue, one))
    key = (one.load_balancing.header, "the-failing-one")
    asked = inside(facts, one, "/contract", key)
    good = Call(caller, asked, Expect((200,), served_by=one.name))
    bad = Call(
        caller,
        replace(asked, method="POST", path="/contract?codes=500"),
        Expect((500,), served_by=one.name),
    )
    # Once less than declared, twice over: an answer in between begins the count anew. Before that
    # so many that they would meet both instances if it were not the key that chooses.
    first = (good,) * _ROUND + (good, *(bad,) * (many - 1)) * 2 + (good,) + (bad,) * many
    calls = [replace(call, after=index * _STEP) for index, call in enumerate(first)]
    out, interval = _soon(one.outliers)
    ejected = calls[-1].after
    gone = [replace(good, after=ejected + out * part) for part in (0.15, 0.4, 0.7)]
    # It is let in at the end of an interval.
    back = replace(good, after=ejected + out + interval + _SLACK)
    yield Contract(
        "outlier.5xx",
        _OUTLIER,
        DOCUMENT,
        (*calls, *gone, back),
        left_out(before=len(calls), during=len(gone)),
        patient=True,
        arrangement=two_instances,
    )


def _soon(outliers: Outliers) -> tuple[float, float]:
    """How long an instance is out, and how often it is looked at, in the arranged mesh."""
    times = (outliers.base_ejection, outliers.interval)
    out, interval = (float(seconds(time)) / FASTER for time in times)
    return out, interval


def left_out(before: int, during: int) -> Judge:
    """One instance answered first, another while it was out, and the same one afterwards."""

    def judge(replies: Sequence[Reply]) -> str | None:
        names = [reply.served_by for reply in replies]
        chosen, instead, after = names[:before], names[before : before + during], names[-1]
        if len(set(chosen)) > 1:
            return f"before it had failed often enough, {chosen[0]} was left out: {chosen}"
        if chosen[0] in instead:
            return f"{chosen[0]} failed as often as declared and was asked again: {instead}"
        if after != chosen[0]:
            return f"{chosen[0]} did not come back, {after} answered"
        return None

    return judge


def _ejected_in_turn(facts: Facts, one: Service) -> Iterator[Contract]:
    """Both instances of a service fail: one is taken out, and the other must stay."""
    many = one.outliers.consecutive_gateway
    if not many or one.outliers.max_ejection_percent > 50:
        return
    caller = through(caller_of(facts.catalogue, one))
    asked = inside(facts, one, "/contract")
    good = Call(caller, asked, Expect((200,), served_by=one.name))
    bad = Call(
        caller,
        replace(asked, method="POST", path="/contract?codes=503"),
        Expect((503,), served_by=one.name),
    )
    # In turn, so once less than declared for each, and nobody is out yet.
    few = (bad,) * (2 * (many - 1)) + (good,) * _ROUND
    first = few + (bad,) * (2 * many)
    calls = [replace(call, after=index * _STEP) for index, call in enumerate(first)]
    out, interval = _soon(one.outliers)
    ejected = calls[-1].after
    gone = [replace(good, after=ejected + out * 0.1 * (1 + part)) for part in range(_ROUND)]
    back = [
        replace(good, after=ejected + out + interval + _SLACK + part * _STEP)
        for part in range(_ROUND)
    ]
    yield Contract(
        "outlier.gateway",
        _OUTLIER,
        DOCUMENT,
        (*calls, *gone, *back),
        one_left(len(few), len(calls)),
        patient=True,
        arrangement=two_instances,
    )


def one_left(few: int, before: int) -> Judge:
    """Two answered until one was out, one alone while it was, two afterwards."""

    def judge(replies: Sequence[Reply]) -> str | None:
        names = [reply.served_by for reply in replies]
        parts = (names[few - _ROUND : few], names[before : before + _ROUND], names[-_ROUND:])
        first, during, after = (len(set(part)) for part in parts)
        if first != 2:
            return f"before they had failed often enough, {first} of 2 instances answered"
        if during != 1:
            return f"both failed as often as declared, and {during} answered, not 1"
        if after != 2:
            return f"the instance that was out did not come back: {parts[2]}"
        return None

    return judge


# An address where nobody listens
