"""Drills: which calls may fail and how many, and what a report tells of those that did."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from lab.contracts import report
from lab.contracts.contract import CLIENT, Call, Contract, Expect, Incident, Tolerance
from lab.contracts.drill_traffic import (
    LASTS,
    UNAVAILABLE,
    Errors,
    Stream,
    drill,
    noticed,
    of_version,
    shared,
)
from lab.contracts.promises import declared
from lab.contracts.runner import Errors as Counted
from lab.contracts.runner import judged, sent
from lab.exchange import Reply, Request

CALL = Call(CLIENT, Request("gateway:443", "api.example.com"), Expect((200,)))
FINE, AWAY = Reply(status=200), Reply(status=503)


def contract(*tolerated: Tolerance) -> Contract:
    return Contract("drill.x", "s", "outages.md", (CALL,) * 6, tolerated=tolerated)


@pytest.mark.parametrize(
    ("failed", "passed", "counted"),
    [
        ((), True, (0, 0)),
        ((0,), True, (1, 0)),
        ((0, 2), True, (2, 0)),
        ((0, 1, 2), False, (3, 0)),
        ((3,), False, (0, 1)),
        ((0, 4), False, (1, 1)),
        ((5,), False, (0, 0)),
    ],
)
def test_some_calls_may_fail_and_others_not(
    failed: tuple[int, ...], passed: bool, counted: tuple[int, int]
) -> None:
    tried = contract(
        Tolerance("writes", range(3), 2, (UNAVAILABLE,)), Tolerance("reads", range(3, 5), 0)
    )
    replies = [AWAY if index in failed else FINE for index in range(6)]
    outcome = judged(tried, sent(tried, lambda _: replies))
    assert outcome.passed == passed
    assert tuple(found.failed for found in outcome.errors) == counted
    if counted[0] > 2:
        assert outcome.problems[0] == "writes: 3 of 3 failed, 2 may"


@pytest.mark.parametrize(
    ("reply", "passed"),
    [
        (Reply(status=503, seconds=0.1), True),
        (Reply(status=503, seconds=9.0), False),
        (Reply(status=500), False),
        (Reply(status=403), False),
        (Reply(error="Timeout: no answer within 10 s"), False),
    ],
)
def test_what_may_fail_may_fail_as_documented_alone(reply: Reply, passed: bool) -> None:
    tried = contract(Tolerance("writes", range(6), 2, (UNAVAILABLE,)))
    outcome = judged(tried, sent(tried, lambda _: [reply, *[FINE] * 5]))
    assert outcome.passed == passed
    assert outcome.errors[0].failed == 1


def test_errors_are_told_in_every_report(tmp_path: Path) -> None:
    tried = contract(
        Tolerance("writes", range(3), 2, (UNAVAILABLE,)), Tolerance("reads", range(3, 6), 0)
    )
    outcome = judged(tried, sent(tried, lambda _: [AWAY, FINE, FINE, FINE, FINE, FINE]))
    assert outcome.errors == (Counted("writes", 1, 3, 2), Counted("reads", 0, 3, 0))
    row = json.loads(report.as_json([outcome]))["contracts"][0]
    assert row["errors"][0] == {
        "what": "writes", "failed": 1, "sent": 3, "allowed": 2, "least": 0,
    }  # fmt: skip
    came = next(iter(report.table([outcome]).columns[3].cells))
    assert "writes: 1 of 3 failed, 2 may" in str(came)
    report.write_junit([outcome], tmp_path / "junit.xml")
    assert "writes: 1 of 3 failed, 2 may" in (tmp_path / "junit.xml").read_text()


@pytest.mark.parametrize(
    ("errors", "calls", "each_second", "most"),
    [
        (Errors(0, 1), 10, 5, 10),
        (Errors(0, 1, 0.2), 40, 5, 20),
        (Errors(0, 1, 0.5), 4, 5, 4),
        (Errors(0, 1, under_way=1.0), 20, 5, 6),
        (Errors(0, 1, under_way=0.1), 20, 5, 2),
        (Errors(0, 1, under_way=9.0), 20, 5, 20),
    ],
)
def test_how_many_may_fail(errors: Errors, calls: int, each_second: float, most: int) -> None:
    assert errors.most(calls, each_second) == most


def test_errors_are_allowed_in_their_time_and_stream_alone() -> None:
    streams = [Stream(what, lambda _: CALL, 2) for what in ("reads", "writes")]
    made = drill(
        "x",
        "s",
        streams,
        Incident(lambda _: nullcontext(), 2.0),
        Errors(2, 6, of="writes", under_way=1.0),
    )
    assert [(one.what, len(one.calls), one.errors) for one in made.tolerated] == [
        ("reads", 26, 0),
        ("writes", 18, 0),
        ("writes while it was away", 8, 3),
    ]
    away = made.tolerated[2].calls
    assert {made.calls[index].after for index in away} == {2.25 + n / 2 for n in range(8)}
    places = [index for one in made.tolerated for index in one.calls]
    assert sorted(places) == list(range(len(made.calls)))


def test_where_chance_decides_streams_are_counted_together() -> None:
    streams = [Stream(what, lambda _: CALL, 5) for what in ("reads", "writes")]
    away = Incident(lambda _: nullcontext(), 2.0)
    made = drill("x", "s", streams, away, Errors(2, 6, 0.2))
    told = {one.what: (len(one.calls), one.errors) for one in made.tolerated}
    # Of 20 calls of one stream 13 might fail by chance, of 40 of both not 26.
    assert told == {"reads": (45, 0), "writes": (45, 0), "calls while it was away": (40, 20)}
    places = [index for one in made.tolerated for index in one.calls]
    assert sorted(places) == list(range(len(made.calls)))


@pytest.mark.parametrize(
    ("failed", "right"), [(0, False), (3, False), (4, True), (5, True), (6, False)]
)
def test_too_few_errors_are_as_wrong_as_too_many(failed: int, right: bool) -> None:
    tried = contract(Tolerance("WebSockets", range(6), 5, (UNAVAILABLE,), least=4))
    replies = [AWAY] * failed + [FINE] * (6 - failed)
    outcome = judged(tried, sent(tried, lambda _: replies))
    assert outcome.passed == right
    told = f"WebSockets: {failed} of 6 failed, 4 must and 5 may"
    assert (told in outcome.problems) != right


@pytest.mark.parametrize(
    ("errors", "sent_at", "least"),
    [
        (Errors(0, 2, surely=2), (0.5, 1, 1.5), 3),
        (Errors(2, 6, surely=2), (2.5, 4, 5), 2),
        (Errors(2, 6), (2.5, 4, 5), 0),
        (Errors(0, 2, 0.5, surely=2), (1.0,) * 100, 27),
        (Errors(0, 2, 0.5, surely=2), (1.0,) * 10, 0),
    ],
)
def test_how_many_must_fail(errors: Errors, sent_at: tuple[float, ...], least: int) -> None:
    assert errors.least([replace(CALL, after=after) for after in sent_at]) == least


@pytest.mark.parametrize(
    ("answers", "wrong"),
    [
        ("." * 200, "none of 200 calls met what was killed"),
        ("." * 20 + "x." * 50 + "." * 80, None),
        ("." * 20 + "x" * 50 + "." * 130, "48 of 48, must be 24 ± 16"),
        ("x" + "." * 98 + "x" + "." * 100, "0 of 98, must be 49 ± 22"),
        ("." * 100 + "x" + "." * 99, None),
    ],
)
def test_about_a_share_fails_while_it_is_away(answers: str, wrong: str | None) -> None:
    calls = [replace(CALL, after=index / 10) for index in range(200)]
    replies = [AWAY if answer == "x" else FINE for answer in answers]
    told = shared(calls, range(200), 0.5)(replies)
    assert (told is None) if wrong is None else (told is not None and wrong in told)
    # In whichever order they are written down, the times count.
    turned = shared(calls[::-1], range(3, 203), 0.5)([FINE] * 3 + replies[::-1])
    assert turned == told


@pytest.mark.parametrize(
    ("canary", "failed", "wrong"),
    [(20, 0, None), (12, 8, None), (0, 20, None), (0, 1, "1 of 100"), (30, 20, "50 of 100")],
)
def test_what_fails_is_of_the_killed_version(canary: int, failed: int, wrong: str | None) -> None:
    call = replace(CALL, expect=Expect((200,), served_by="a"))
    answered = {
        version: Reply(status=200, body=f"Hostname=a-1\nServiceVersion={version}\n")
        for version in ("v1", "canary")
    }
    replies = [answered["canary"]] * canary + [AWAY] * failed
    replies += [answered["v1"]] * (100 - len(replies))
    # Other services' calls count for nothing.
    told = of_version([call] * 100 + [CALL] * 50, "a", "canary", 0.2)([*replies, *[AWAY] * 50])
    assert (told is None) if wrong is None else (told is not None and wrong in told)


def test_a_drill_that_nobody_noticed_proves_nothing() -> None:
    calls = (CALL, replace(CALL, expect=Expect((101,))))
    assert noticed(calls)([FINE, Reply(status=101)]) is not None
    assert noticed(calls)([FINE, Reply(error="closed")]) is None


def test_traffic_flows_before_during_and_after_every_incident() -> None:
    drills = [one for one in declared() if one.incident and one.family == "drill"]
    assert len(drills) >= 7
    for one in drills:
        assert one.incident is not None
        times = sorted(call.after for call in one.calls)
        assert times[0] < one.incident.begins < times[-1] <= LASTS
        assert len(one.calls) > 30
        told = {index for found in one.tolerated for index in found.calls}
        assert told == set(range(len(one.calls))), f"{one.id}: calls that are not counted"
