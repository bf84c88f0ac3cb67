"""Judges of divided traffic: what is chance, what is not, and who a cohort met."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import pytest

from lab.contracts import splits
from lab.contracts.contract import Contract, Recorded
from lab.contracts.promises import declared
from lab.exchange import Reply, Request
from model.settings import Cohort

_WEIGHTS = {"v1": 80, "canary": 20}
_HEADER = Cohort(subset="canary", header="x-cohort", value="beta")
_COOKIE = Cohort(subset="canary", cookie="cohort", value="beta")


def _answered(**versions: int) -> list[Reply]:
    lines = [f"ServiceVersion={name}\n" for name, n in versions.items() for _ in range(n)]
    return [Reply(status=200, body="".join(lines))]


@pytest.mark.parametrize(
    ("replies", "wrong"),
    [
        (_answered(v1=600, canary=150), ""),
        (_answered(v1=560, canary=190), ""),
        (_answered(v1=675, canary=75), "v1 has weight 80 and answered 675 of 750"),
        (_answered(v1=450, canary=300), "answered 450 of 750"),
        (_answered(v1=600, canary=149), "of 750 requests 749 were answered"),
        (_answered(v1=600, canary=149, v2=1), "versions without a weight answered: v2"),
        ([], "of 750 requests 0 were answered"),
    ],
)
def test_shares_are_those_of_the_weights(replies: Sequence[Reply], wrong: str) -> None:
    said = splits.divided({**_WEIGHTS}, 750)(replies)
    assert (said is None) if not wrong else (said is not None and wrong in said)


@pytest.mark.parametrize("share", [0.05, 0.1, 0.2, 0.5])
def test_half_of_a_share_and_twice_a_share_are_noticed(share: float) -> None:
    number = splits.draws([round(share * 100), round((1 - share) * 100)])
    allowed = 4.5 * sqrt(number * share * (1 - share))
    for other in {share / 2, min(share * 2, 0.9)}:
        shaking = 3 * sqrt(number * other * (1 - other))
        assert abs(number * other - number * share) >= allowed + shaking - 1


def test_all_or_nothing_needs_few_draws() -> None:
    assert 0 < splits.draws([100, 0]) < 300


def test_every_look_alike_is_judged_by_itself() -> None:
    judge = splits.each_divided(_WEIGHTS, 24)
    assert judge(_answered(v1=20, canary=4) * 3) is None
    assert "answered 0 of 24" in (judge([*_answered(v1=20, canary=4), *_answered(canary=24)]) or "")
    assert judge([]) == "nobody was asked"


def test_marks_and_what_resembles_them() -> None:
    assert splits.marks(_HEADER) == (("x-cohort", "beta"),)
    assert [text for _, text in splits.marks(_COOKIE)] == [
        *("cohort=beta", "cohort=beta; z=1", "a=1; cohort=beta; z=2", "a=1; cohort=beta"),
    ]
    assert ("x-cohort", "betaX") in splits.resembling(_HEADER)
    assert {("cookie", "cohort=betaX"), ("cookie", "xcohort=beta")} <= {*splits.resembling(_COOKIE)}
    for cohort in (_HEADER, _COOKIE):
        assert not {*splits.marks(cohort)} & {*splits.resembling(cohort)}


_HTTP = Request("gateway:443", "api", kind="streams", streams=2)
_GRPC = Request("gateway:443", "grpc", kind="grpc")


@pytest.mark.parametrize(
    ("replies", "wrong"),
    [
        (_answered(canary=2), ""),
        (_answered(canary=1, v1=1), "met {'canary': 1, 'v1': 1}"),
        (_answered(canary=1), "met {'canary': 1}, sent were 2"),
        ([], "nobody was asked"),
    ],
)
def test_a_cohort_meets_its_subset_alone(replies: Sequence[Reply], wrong: str) -> None:
    number = len(replies)
    said = splits.met(["canary"] * number, [_HTTP] * number)(replies)
    assert (said is None) if not wrong else (said is not None and wrong in said)


@pytest.mark.parametrize(
    ("proxies", "right"),
    [(["a-canary-1"], True), (["a-v1-1"], False), ([], False), (["a-canary-1", "a-v1-1"], False)],
)
def test_calls_are_in_the_log_of_the_cohorts_subset(proxies: Sequence[str], right: bool) -> None:
    lines = [{"proxy": one, "upstream_cluster": "inbound|9000||"} for one in proxies]
    lines.append({"proxy": "gateway-1", "upstream_cluster": "outbound|9000|canary|a"})
    said = splits.called("a", ["canary"], [_GRPC])([Reply()], Recorded([lines], ()))
    assert (said is None) == right


def test_weights_are_tried_on_every_route_that_anybody_may_ask() -> None:
    found = {one.id: one for one in declared()}
    for name, paths in (
        ("identity-service", {"/api/v1/auth/1", "/api/v1/users/1"}),
        ("conversation-service", {"/api/v1/conversations/1", "/api/v1/messages/1"}),
    ):
        for where in ("", ".writes"):
            assert _paths(found[f"canary.{name}{where}"]) == paths
        assert _paths(found[f"cohort.{name}"]) >= paths


def _paths(contract: Contract) -> set[str]:
    return {call.request.path for call in contract.calls}
