"""Contracts about streams: when their judges are content, and which services they try."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from lab.contracts import stream_judges, stream_requests
from lab.contracts.promises import declared
from lab.exchange import Reply
from lab.streams import PIECE
from model.catalogue import catalogue


def told(*at: float) -> Reply:
    """An upload whose pieces came at these seconds."""
    lines = [f"{PIECE}={one:.3f} 100\n" for one in at]
    return Reply(status=200, body="Hostname=x-1\n" + "".join(lines))


def came(*at: float) -> Reply:
    return Reply(status=200, arrivals=at)


@pytest.mark.parametrize(
    ("reply", "wrong"),
    [
        (told(0.5, 1.0, 1.5, 2.0), ""),
        (told(0.9, 1.1, 1.6, 2.1), ""),
        (told(2.0, 2.0, 2.01, 2.02), "within 0.02 s"),
        (told(0.5, 1.0, 2.0), "3 arrived"),
        (told(2.0), "1 arrived"),
    ],
)
def test_pieces_arrive_as_they_are_sent(reply: Reply, wrong: str) -> None:
    found = stream_judges.arrived_while_sending(4, 0.5, slice(0, 1))([reply])
    assert wrong in (found or "")
    assert bool(wrong) == bool(found)


@pytest.mark.parametrize(
    ("reply", "wrong"),
    [
        (came(0.5, 1.0, 1.5, 2.0), ""),
        (came(0.0, 0.5, 1.0, 1.5, 2.0), ""),
        (came(0.0, 2.0, 2.0, 2.0, 2.0), "within 0.00 s"),
        (came(0.0, 0.5), "2 answers came"),
    ],
)
def test_each_message_is_answered_before_the_next(reply: Reply, wrong: str) -> None:
    found = stream_judges.answered_in_turn(4, 0.5, 0)([reply])
    assert wrong in (found or "")
    assert bool(wrong) == bool(found)


@pytest.mark.parametrize(
    ("at", "wrong"),
    [
        ((0.1, 0.6, 1.1, 1.6), ""),
        ((1.6, 1.6, 1.6, 1.6), "within 0.00 s"),
        ((1.6,), "they came in 1"),
        ((1.2, 1.7, 2.2, 2.7), "the first piece came after 1.20 s"),
    ],
)
def test_answers_come_as_they_are_sent(at: Sequence[float], wrong: str) -> None:
    found = stream_judges.sent_in_turn(4, 0.5)([came(*at)])
    assert wrong in (found or "")
    assert bool(wrong) == bool(found)


def test_no_event_may_be_missing() -> None:
    all_of_them = Reply(status=200, body="data: 0\n\ndata: 1\n\n")
    assert stream_judges.whole(2)([all_of_them]) is None
    assert stream_judges.whole(3)([all_of_them]) == "3 events were sent, 2 came"


def test_bodies_are_as_they_were_sent() -> None:
    judge = stream_judges.of_size([3, 2])
    assert judge([Reply(status=200, body="aaa"), Reply(status=200, body="aa")]) is None
    said = judge([Reply(status=200, body="aaa"), Reply(status=200, body="")])
    assert said == "of 2 bytes 0 came: ''"


@pytest.mark.parametrize(("seconds", "right"), [(14.1, True), (13.0, False), (20.0, False)])
def test_an_exchange_ends_in_time(seconds: float, right: bool) -> None:
    judge = stream_judges.ended_after([14.0])
    assert (judge([Reply(error="closed", seconds=seconds)]) is None) == right


def test_the_services_that_are_tried() -> None:
    assert stream_requests.short_lived(catalogue()).name == "voice-engine"
    assert stream_requests.calling(catalogue()).name == "ai-orchestrator"


def test_in_the_lab_every_promise_about_streams_is_tried() -> None:
    ids = {one.id for one in declared() if one.arrangement is stream_requests.streaming}
    assert {"stream.not-cut", "stream.longest", "grpc.deadline", "compression.length"} <= ids
