"""What contracts of capacity take for right and for wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from lab.contracts.capacity import counted, filled, overflowed, told, waited
from lab.contracts.contract import Recorded
from lab.contracts.promises import declared
from lab.exchange import Reply

SERVED, REFUSED = Reply(status=200, seconds=6.1), Reply(status=503)


def test_a_pool_is_filled_in_turn_and_overflows_with_what_is_more() -> None:
    contract = next(one for one in declared() if one.id == "pool.indexing-service")
    wanted = [(call.expect.status, call.after) for call in contract.calls]
    assert wanted == [((200,), 0.0)] * 20 + [((200,), 1.0)] * 20 + [((503,), 2.0)] * 20
    refusal = contract.calls[-1].expect
    assert refusal.unmet(Reply(status=503, seconds=0.1)) is None
    assert refusal.unmet(Reply(status=503, seconds=4.0))
    assert refusal.unmet(SERVED)


def test_a_pool_of_shared_connections_takes_what_fits() -> None:
    contract = next(one for one in declared() if one.id == "pool.ai-orchestrator")
    assert [call.request.streams for call in contract.calls] == [520]
    judge = filled(3, 1)
    assert judge([Reply(status=503, messages=("200", "503", "200", "200"))]) is None
    for messages in (("200",) * 4, ("200", "503", "503", "200"), ("200", "503", "200", "CANCEL")):
        assert judge([Reply(status=503, messages=messages)])
    assert judge([])


def test_refusals_of_copies_are_the_pools() -> None:
    reply = Reply(status=503, messages=("200", "503"))
    served = {"log": "access", "flags": "-", "code": 200}
    for flags, right in (("UO", True), ("UF", False)):
        refused = {"log": "access", "flags": flags, "code": 503}
        said = overflowed([reply], Recorded([[served, served, refused]], ()))
        assert (said is None) == right


@pytest.mark.parametrize(
    ("seconds", "wrong"), [((6.0, 11.0, 11.2), ""), ((6.0, 6.2, 11.0), "1 requests did not wait")]
)
def test_requests_wait_for_a_connection(seconds: Sequence[float], wrong: str) -> None:
    said = waited(slice(1, 3), 6.5)([Reply(status=200, seconds=each) for each in seconds])
    assert (said is None) if not wrong else (said is not None and wrong in said)


def _line(flags: str) -> Mapping[str, str]:
    return {"log": "access", "flags": flags}


@pytest.mark.parametrize(
    ("lines", "wrong"),
    [
        ([[_line("-")], [_line("UO")]], ""),
        ([[_line("-")], [_line("UF")]], "flags for them are ['UF']"),
        ([[_line("-")], [_line("-")]], "flags for them are ['-']"),
        ([[_line("-")], []], "flags for them are []"),
        # Another proxy passed on what the service itself answered.
        ([[_line("-")], [_line("UO"), _line("-")]], "['-', 'UO']"),
    ],
)
def test_refusals_are_the_pools(lines: Sequence[Sequence[Mapping[str, str]]], wrong: str) -> None:
    said = overflowed([SERVED, REFUSED], Recorded(lines, ()))
    assert (said is None) if not wrong else (said is not None and wrong in said)


@pytest.mark.parametrize(
    ("limit", "wrong"),
    [("20, 20;w=1", ""), ("50, 50;w=1", "is 50, the allowance is 20"), (None, "is none")],
)
def test_answers_tell_the_routes_allowance(limit: str | None, wrong: str) -> None:
    headers = (("x-ratelimit-limit", limit),) if limit else ()
    said = told(20)([Reply(status=429, headers=headers)])
    assert (said is None) if not wrong else (said is not None and wrong in said)


def _left(*remaining: int, limit: int = 50) -> list[Reply]:
    return [
        Reply(
            status=101,
            headers=(("x-ratelimit-limit", str(limit)), ("x-ratelimit-remaining", str(each))),
        )
        for each in remaining
    ]


@pytest.mark.parametrize(
    ("replies", "wrong"),
    [
        (_left(49, 45, 49, 0), ""),
        ([*_left(49, 45, 0), Reply(status=101)], "x-ratelimit-limit is none"),
        (_left(49, 49, 49, 0), "of 2 answers none says that less than 49 is left"),
        (_left(49, 0, 49, 46), "of 2 answers none says that less than 46 is left"),
        (_left(49, 40, 49, 0, limit=100), "x-ratelimit-limit is 100, the allowance is 50"),
    ],
)
def test_upgrades_and_calls_are_counted(replies: Sequence[Reply], wrong: str) -> None:
    said = counted(50, slice(0, 2), slice(2, None))(replies)
    assert (said is None) if not wrong else (said is not None and wrong in said)


def test_every_identity_is_tried_on_a_newcomer() -> None:
    (contract,) = (one for one in declared() if one.id == "access.newcomer")
    identities = {call.caller.name for call in contract.calls if call.caller.kind == "identity"}
    assert len(identities) == 17
    assert any("istio-ingressgateway" in name for name in identities)
    assert sum(call.caller.kind == "service" for call in contract.calls) == 15
    assert contract.arrangement is not None
