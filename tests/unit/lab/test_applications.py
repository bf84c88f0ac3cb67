"""When the contract about connections between proxies and applications is content."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest

from lab.contracts.applications import closed_between
from lab.contracts.promises import declared
from lab.exchange import Reply
from lab.streams import CONNECTION
from model.catalogue import catalogue
from model.values import seconds


@pytest.mark.parametrize(
    ("connections", "wrong"),
    [
        (("a", "b", "a", "c", "d", "c"), ""),
        (("a", "a", "a", "b", "b", "b"), ""),
        (("a", "b", "a", "c", "b", "c"), "connections were kept: b"),
        (("a", "b", "c", "d", "e", "f"), "each request had a connection of its own"),
        (("a", "", "a", "d", "e", "f"), "did not say over which connection"),
    ],
)
def test_connections_are_closed_between(connections: Sequence[str], wrong: str) -> None:
    replies = [
        Reply(status=200, body=f"{CONNECTION}={one}\n" if one else "") for one in connections
    ]
    said = closed_between(3)(replies) or ""
    assert wrong in said
    assert bool(said) == bool(wrong)


def test_requests_come_before_the_application_would_have_closed_the_connection() -> None:
    contract = next(one for one in declared() if one.id == "application.idle")
    times = [call.after for call in contract.calls]
    first = sum(len(call.request.messages) == 1 for call in contract.calls)
    address = contract.calls[0].request.address
    name = address.split(":")[1]
    keep_alive = float(seconds(catalogue().service(name).keep_alive))
    silence = times[first] - times[first - 1]
    assert keep_alive / 2 + 1 < silence < keep_alive
    # Within a group, none is so late that the proxy would have closed the connection.
    steps = [later - before for before, later in pairwise(times[:first])]
    assert max(steps) < keep_alive / 2 - 1
