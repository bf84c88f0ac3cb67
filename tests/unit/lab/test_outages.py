"""Contracts about outages: what they ask, and what their judges make of the answers."""

from __future__ import annotations

from itertools import pairwise

import pytest

from lab.contracts.contract import Contract
from lab.contracts.promises import declared
from lab.exchange import Reply
from model import stack_file
from model.catalogue import catalogue

AWAY = ("redis", "service")


@pytest.fixture(scope="module")
def contracts() -> dict[str, Contract]:
    return {one.id: one for one in declared() if one.family == "outage"}


@pytest.mark.parametrize("away", AWAY)
@pytest.mark.parametrize(
    ("seconds", "wrong"), [((0.8, 1.1), False), ((0.9, 0.05), True), ((0.01, 0.02), True)]
)
def test_an_outage_that_hangs_makes_every_request_wait(
    contracts: dict[str, Contract], away: str, seconds: tuple[float, ...], wrong: bool
) -> None:
    judge = contracts[f"outage.hang.{away}"].judge
    assert judge is not None
    assert bool(judge([Reply(status=200, seconds=one) for one in seconds])) == wrong


@pytest.mark.parametrize("away", AWAY)
def test_every_limited_route_is_asked(contracts: dict[str, Contract], away: str) -> None:
    limits = stack_file.load("dev", catalogue()).rate_limits
    opened = {call.request.path for call in contracts[f"outage.open.{away}"].calls}
    closed = {call.request.path for call in contracts[f"outage.closed.{away}"].calls}
    assert closed == set(limits.closed_on_failure)
    routes = {route.path for one in catalogue().services for route in one.routes}
    public = {r.path for one in catalogue().services for r in one.routes if r.access == "public"}
    assert routes - public - closed <= opened
    assert not opened & (closed | public)
    for kind in ("grpc", "websocket"):
        assert any(call.request.kind == kind for call in contracts[f"outage.open.{away}"].calls)


def test_contracts_of_one_state_stand_together(contracts: dict[str, Contract]) -> None:
    states = [one.arrangement for one in contracts.values()]
    changes = sum(one is not other for one, other in pairwise(states))
    assert changes + 1 == len(set(states)), "a state would be brought about twice"
