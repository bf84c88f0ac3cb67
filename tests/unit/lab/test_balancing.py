"""What contracts of load balancing take for right and for wrong."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from lab.contracts import two_instances
from lab.contracts.balancing import evenly, spared, stayed, sticky
from lab.contracts.contract import Judge, Recorded
from lab.contracts.outliers import left_out, one_left
from lab.contracts.promises import declared
from lab.contracts.retries import once, repeated, tried_at
from lab.exchange import Reply
from model.catalogue import catalogue
from model.service import HashOn


def _from(*names: str) -> list[Reply]:
    return [Reply(status=200, body=f"Hostname={name}\n") for name in names]


A, B = "voice-engine-v1-1", "voice-engine-far-2"


@pytest.mark.parametrize(
    ("judge", "names", "wrong"),
    [
        (sticky("xyxy"), (A, B, A, B), ""),
        (sticky("xyxy"), (A, A, B, B), "2 of 2 keys are not sticky"),
        (sticky("xyxy"), (A, B, B, B), "1 of 2 keys are not sticky: x met"),
        (sticky("xyxy"), (A, A, A, A), "all 2 keys met the same instance"),
        (evenly(2), (A, B) * 10, ""),
        (evenly(2), (A,) * 12 + (B,) * 8, ""),
        (evenly(2), (A,) * 20, "2 instances share 20 requests"),
        (evenly(2), (A,) * 17 + (B,) * 3, "2 instances share 20 requests"),
        (evenly(2), (A, B, "voice-engine-v2-3") * 10, "2 instances share 30 requests"),
        (spared, (A, *(A, B, B, B) * 60), ""),
        (spared, (A, *(A, B) * 120), "got 120 of 240 requests; chance allows 90"),
        (spared, (A,), "got 0 of 0 requests"),
        (left_out(3, 2), (A, A, A, B, B, A), ""),
        (left_out(3, 2), (A, B, B, B, B, A), "before it had failed often enough"),
        (left_out(3, 2), (A, A, A, B, A, A), "was asked again"),
        (left_out(3, 2), (A, A, A, B, B, B), "did not come back"),
    ],
)
def test_replies_are_judged_together(judge: Judge, names: Sequence[str], wrong: str) -> None:
    said = judge(_from(*names))
    assert (said is None) if not wrong else (said is not None and wrong in said)


@pytest.mark.parametrize(
    ("away", "name", "wrong"),
    [
        (40, "far", ""),
        (160, "near", ""),
        (30, "far", ""),
        (100, "far", "zone: 100 of 200, must be 160"),
        (200, "far", "zone: 0 of 200, must be 160"),
        (0, "far", "got no request"),
        (40, "near", "zone: 40 of 200, must be 160"),
    ],
)
def test_share_of_the_callers_zone(away: int, name: str, wrong: str) -> None:
    names = (f"one-{name}-1",) * away + ("one-v1-1",) * (200 - away)
    said = stayed("one", 0.8)(_from(*names))
    assert (said is None) if not wrong else (said is not None and wrong in said)


@pytest.mark.parametrize(
    ("first", "during", "after", "wrong"),
    [
        ((A, B) * 3, (A,) * 6, (A, B) * 3, ""),
        ((A,) * 6, (A,) * 6, (A, B) * 3, "before they had failed often enough"),
        ((A, B) * 3, (A, B) * 3, (A, B) * 3, "and 2 answered, not 1"),
        ((A, B) * 3, (A,) * 6, (A,) * 6, "did not come back"),
    ],
)
def test_one_of_two_stays(
    first: Sequence[str], during: Sequence[str], after: Sequence[str], wrong: str
) -> None:
    failures = (A, B) * 3
    names = (*failures, *first, *failures, *during, *after)
    said = one_left(len(failures) + len(first), len(failures) * 2 + len(first))(_from(*names))
    assert (said is None) if not wrong else (said is not None and wrong in said)


def test_all_promises_are_tried_on_services_that_declare_them() -> None:
    found = {contract.id: contract for contract in declared()}
    for name in ("hash", "round-robin", "least-request", "locality"):
        assert found[f"balance.{name}"].arrangement is two_instances.two_instances
    known = catalogue()
    assert two_instances.simply(known, "ROUND_ROBIN").load_balancing == "ROUND_ROBIN"
    assert two_instances.simply(known, "LEAST_REQUEST").load_balancing == "LEAST_REQUEST"
    # The one whose zone counts must be one pod, and not one of those that get a second.
    callee = two_instances.preferring(known)
    caller = next(
        one for one in known.services if one.name == two_instances.caller_of(known, callee)
    )
    assert not caller.subsets
    assert found["balance.locality"].calls[0].caller.name == caller.name


def test_an_instance_fails_once_less_than_declared_before_it_fails_too_often() -> None:
    contract = next(one for one in declared() if one.id == "outlier.5xx")
    declares = two_instances.hashed(catalogue()).outliers.consecutive_5xx
    assert declares
    rows, row = [], 0
    for call in sorted(contract.calls, key=lambda call: call.after):
        if call.expect.status == (500,):
            row += 1
        elif row:
            rows.append(row)
            row = 0
    assert rows == [declares - 1, declares - 1, declares]


@pytest.mark.parametrize(
    ("tried", "wrong"),
    [
        ([(A, B), (B, A), (A, B)], ""),
        ([(A, B), (A, A), (B, A)], ""),
        (
            [(A, B), (A, A), (B, B)],
            f"2 requests were tried at fewer than 2 instances: ['{A}', '{A}']",
        ),
        ([(A, B), (B,), (A,)], f"2 requests were tried at fewer than 2 instances: ['{B}']"),
        ([(), (), ()], "3 requests were tried at fewer than 2 instances: []"),
    ],
)
def test_a_repeated_request_met_several_instances(
    tried: Sequence[Sequence[str]], wrong: str
) -> None:
    lines = [
        [
            {"proxy": "gateway-1", "upstream_cluster": "outbound|80||voice-engine"},
            *({"proxy": name, "upstream_cluster": "inbound|80||"} for name in names),
        ]
        for names in tried
    ]
    said = tried_at(2, range(len(lines)), 1)((), Recorded(lines, ()))
    assert (said or "") == wrong


def test_only_the_calls_that_fail_must_be_repeated() -> None:
    once_only = [{"proxy": A, "upstream_cluster": "inbound|80||"}]
    twice = [*once_only, {"proxy": B, "upstream_cluster": "inbound|80||"}]
    recorded = Recorded([once_only, twice, once_only], ())
    assert tried_at(2, (1,), 0)((), recorded) is None
    assert tried_at(2, (1, 2), 0)((), recorded) is not None


def test_failures_in_a_row_are_too_few_to_take_an_instance_out() -> None:
    """Between two that fail, requests with so many keys are answered that both instances are met."""
    contract = next(one for one in declared() if one.id == "retry.elsewhere")
    service = two_instances.hashed(catalogue())
    assert service.retries
    assert service.outliers.consecutive_5xx
    assert service.outliers.consecutive_5xx > 2
    assert isinstance(service.load_balancing, HashOn)
    header = service.load_balancing.header
    keys: list[str] = []
    failed = 0
    for call in contract.calls:
        keys.append(dict(call.request.headers)[header])
        if call.expect.status == (503,):
            assert failed == 0 or len(set(keys)) > 5
            keys, failed = [], failed + 1
    assert failed >= 4


def _attempts(*numbers: str) -> list[Reply]:
    return [Reply(status=200, body=f"RequestHeader=X-Envoy-Attempt-Count:{n}\n") for n in numbers]


@pytest.mark.parametrize(
    ("numbers", "wrong"),
    [
        (("1", "2", "2", "1"), ""),
        (("1", "1", "2", "1"), "no write of services was repeated"),
        (("1", "2", "1", "1"), "no write of clients was repeated"),
        ((), "no write of clients was repeated"),
    ],
)
def test_writes_are_repeated_for_both_callers(numbers: Sequence[str], wrong: str) -> None:
    said = repeated(_attempts(*numbers))
    assert (said is None) if not wrong else (said is not None and wrong in said)


@pytest.mark.parametrize(("times", "right"), [(1, True), (0, False), (2, False)])
def test_a_repeated_write_is_seen_once(times: int, right: bool) -> None:
    lines = [{"proxy": A, "upstream_cluster": "inbound|80||"}] * times
    assert (once((), Recorded([lines], ())) is None) == right


def test_a_write_is_tried_with_a_service_that_repeats_writes() -> None:
    one = two_instances.writable(catalogue())
    assert one.retries
    assert not one.ai
