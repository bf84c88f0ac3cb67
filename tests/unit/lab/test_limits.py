"""Judges of limits: what they make of answers that a wrong mesh would give."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import count

import pytest

from lab.contracts.floods import refilled, refilled_but
from lab.contracts.limits import counted_down, shared
from lab.exchange import Reply
from model.settings import Allowance

_BEGAN = datetime(2030, 1, 1, 12, 0, 0, 300_000, tzinfo=UTC)


def _answered(after: float, status: int, grpc: str = "") -> Reply:
    date = format_datetime(_BEGAN + timedelta(seconds=after), usegmt=True)
    return Reply(status=status, grpc_status=grpc, headers=(("date", date),))


def _limited(counters: int, allowed: int, each_second: int, lasting: int) -> list[Reply]:
    """The answers of gateways that take turns and count with so many counters."""
    counted: Counter[tuple[int, int]] = Counter()
    replies = []
    for index in range(each_second * lasting):
        after = index / each_second
        window = (int((_BEGAN + timedelta(seconds=after)).timestamp()), index % counters)
        counted[window] += 1
        replies.append(_answered(after, 200 if counted[window] <= allowed else 429))
    return replies


@pytest.mark.parametrize(
    ("counters", "allowed", "wrong"),
    [
        (1, 50, None),
        (2, 50, "passed in 6 s, 50 a second are allowed"),
        (1, 100, "passed in 6 s, 50 a second are allowed"),
        (1, 10, "a second may"),
        (1, 1000, "was refused"),
    ],
)
def test_a_shared_limit_holds_in_each_second(
    counters: int, allowed: int, wrong: str | None
) -> None:
    found = shared(50, slice(None))(_limited(counters, allowed, 150, 4))
    assert (found is None) if wrong is None else (wrong in (found or ""))


def test_what_a_busy_machine_did_not_send_could_not_pass() -> None:
    slowly = _limited(1, 50, 150, 1) + [_answered(2 + index / 30, 200) for index in range(600)]
    assert shared(50, slice(None))(slowly) is None
    fewer = [_answered(after, 200 if after % 1 < 0.1 else 429) for after in _steps(6, 150)]
    assert "passed in" in (shared(50, slice(None))(fewer) or "")


def _steps(seconds: int, each: int) -> list[float]:
    return [index / each for index in range(seconds * each)]


@pytest.mark.parametrize(
    ("allowed", "grpc", "right"),
    [(300, False, True), (300, True, True), (10**6, False, False), (400, True, False)],
)
def test_a_bucket_holds_what_it_says(allowed: int, grpc: bool, right: bool) -> None:
    number = count()
    replies = [
        _answered(
            0.0,
            200 if grpc else (401 if next(number) < allowed else 429),
            ("UNAUTHENTICATED" if next(number) < allowed else "RESOURCE_EXHAUSTED") if grpc else "",
        )
        for _ in range(600)
    ]
    found = refilled(Allowance(requests=300, unit="minute"), slice(None))(replies)
    assert (found is None) == right


def test_calls_are_shared_like_requests() -> None:
    answers = [_answered(0.0, 200, "UNIMPLEMENTED")] * 60
    refused = [_answered(0.0, 200, "RESOURCE_EXHAUSTED")]
    assert shared(50, slice(None))([*answers, *refused]) is None
    assert "was refused" in (shared(50, slice(None))(answers) or "")
    few = [_answered(0.0, 200, "UNIMPLEMENTED"), *refused * 199]
    assert "1 passed" in (shared(50, slice(None))(few) or "")


def test_a_client_that_was_forgotten_would_start_anew() -> None:
    allowance = Allowance(requests=300, unit="minute")
    judge = refilled_but(allowance, slice(600, 730))
    flood = [_answered(0.0, 401)] * 300 + [_answered(0.0, 429)] * 300
    others = [_answered(0.0, 401)] * 130
    assert judge([*flood, *others, *[_answered(0.0, 429)] * 300]) is None
    assert "600 passed" in (judge([*flood, *others, *[_answered(0.0, 401)] * 300]) or "")


def _counted(limit: str, left: str, reset: str = "1") -> Reply:
    names = ("x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset")
    return Reply(status=200, headers=tuple(zip(names, (limit, left, reset), strict=True)))


@pytest.mark.parametrize(
    ("replies", "wrong"),
    [
        ([_counted("50, 50;w=1", "49")], ""),
        ([_counted("50, 50;w=1", "50")], "x-ratelimit-remaining is '50'"),
        ([_counted("20, 20;w=1", "19")], "the allowance is 50"),
        ([_counted("50", "49", "")], "x-ratelimit-reset ''"),
        ([Reply(status=200)], "x-ratelimit-limit is ''"),
        ([], "no route has a limit"),
    ],
)
def test_answers_tell_their_limit(replies: list[Reply], wrong: str) -> None:
    found = counted_down([50] * len(replies))(replies)
    assert (found is None) if not wrong else (found is not None and wrong in found)
