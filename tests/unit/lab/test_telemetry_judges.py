"""Judges of telemetry's contracts: each takes what is right and refuses what is not."""

from __future__ import annotations

from typing import Any

import pytest

from lab.contracts.contract import PUSHED, Contract, Recorded
from lab.contracts.errors_alone import errors_alone
from lab.contracts.lost_proxy import failure_logged
from lab.contracts.metrics import counted, differs, labelled, names_in, statistics, unmerged
from lab.contracts.runner import inspected
from lab.contracts.spans import mistagged
from lab.contracts.traces import request_id
from lab.exchange import Reply

SPAN = {"service": "a.apps", "tags": {"cluster": "lab", "tenant_id": "t", "ai_model": "m"}}


@pytest.mark.parametrize(
    ("tags", "answered", "wrong"),
    [
        ({"cluster": "lab", "tenant_id": "t"}, {}, None),
        ({"cluster": "lab"}, {"ai_model": "m"}, None),
        ({"cluster": "other"}, {}, "a span of a.apps has cluster lab, must be other"),
        ({"user_id": "u"}, {}, "a span of a.apps has user_id None, must be u"),
        ({}, {"token_count": "1"}, "a span of a.apps has token_count None, must be 1"),
    ],
)
def test_tags(tags: dict[str, str], answered: dict[str, str], wrong: str | None) -> None:
    assert mistagged(SPAN, tags, answered) == wrong


COUNT = {"requests_total": {"tenant_id": "request.headers['x-tenant-id']"}}


@pytest.mark.parametrize(
    ("found", "wrong"),
    [
        ([COUNT, COUNT], ""),
        ([], "no filter istio.stats"),
        ([COUNT, {}], "labels are {}"),
        ([{**COUNT, "request_bytes": {"tenant_id": "x"}}], "request_bytes"),
        ([{"requests_total": {"tenant_id": "'all'"}}], "'all'"),
    ],
)
def test_labels(found: list[dict[str, dict[str, str]]], wrong: str) -> None:
    told = differs("a", found, {**COUNT, "ai_tokens_total": {}})
    assert (told is None) if not wrong else (told is not None and wrong in told)


def test_labels_are_read_of_what_istiod_pushes() -> None:
    config = {"metrics": [{"name": "requests_total", "dimensions": COUNT["requests_total"]}]}
    assert labelled(config) == COUNT
    assert labelled({}) == {}


SCRAPED = '# TYPE envoy_a counter\nenvoy_a{} 1\nistio_echo_http_requests_total{a="b"} 2\n'


@pytest.mark.parametrize(
    ("body", "application", "wrong"),
    [
        (SCRAPED, True, None),
        ("envoy_a 1\n", False, None),
        ("envoy_a 1\n", True, "no metrics of the application"),
        ("istio_echo_a 1\n", True, "no metrics of the proxy"),
        ("# envoy_a and istio_echo_b\n", True, "no metrics of the proxy"),
    ],
)
def test_scraped(body: str, application: bool, wrong: str | None) -> None:
    assert unmerged(body, application=application) == wrong


def test_names_of_what_was_scraped_and_of_what_alerts_ask_for() -> None:
    assert names_in(SCRAPED) == {"envoy_a", "istio_echo_http_requests_total"}
    assert statistics('sum(rate(envoy_a_b{x="y"}[5m])) > 0') == {"envoy_a_b"}
    assert statistics('{__name__=~"envoy_a_(b|c_d)_e",x="y"}') == {"envoy_a_b_e", "envoy_a_c_d_e"}
    assert statistics('{__name__=~"envoy_a_.*_b_total"}') == {"envoy_a_.*_b_total"}
    assert statistics("istio_requests_total") == set()
    assert counted('# a 7\na{b="c"} 2\na{} 3\nab 9\n', "a") == 5


def _line(proxy: str, log: str = "access") -> dict[str, Any]:
    return {"log": log, "proxy": proxy}


@pytest.mark.parametrize(
    ("wanted", "lines", "wrong"),
    [
        ("", [], ""),
        ("", [_line("a-1", "audit")], ""),
        ("", [_line("a-1")], "is in the log of a-1"),
        ("a", [_line("istio-ingressgateway-1"), _line("a-1")], ""),
        ("a", [_line("a-1")], "not in the log of istio-ingressgateway"),
        ("a", [_line("istio-ingressgateway-1")], "not in the log of a"),
        ("a", [], "not in the log of"),
    ],
)
def test_errors_alone(wanted: str, lines: list[dict[str, Any]], wrong: str) -> None:
    told = errors_alone([wanted])([Reply(status=200)], Recorded([lines], []))
    assert (told is None) if not wrong else (told is not None and wrong in told)


FAILED = {"log": "access", "proxy": "a-1", "flags": "UF", "upstream_failure": "TLS_error:|x:y:z"}


@pytest.mark.parametrize(
    ("lines", "wrong"),
    [
        ([FAILED], ""),
        ([], "in no log"),
        ([FAILED, {**FAILED, "upstream_failure": None}], "a-1 logged upstream_failure None"),
        ([{**FAILED, "upstream_failure": "delayed_connect_error:_111"}], "flags UF"),
        ([{**FAILED, "log": "audit"}], "in no log"),
    ],
)
def test_failures_of_tls_are_logged(lines: list[dict[str, Any]], wrong: str) -> None:
    told = failure_logged()([Reply(status=503)], Recorded([lines], []))
    assert (told is None) if not wrong else (told is not None and wrong in told)


@pytest.mark.parametrize(("number", "kept", "digit"), [(0, False, "4"), (9999, True, "9")])
def test_request_ids_say_what_was_decided(number: int, kept: bool, digit: str) -> None:
    made = request_id(number, kept=kept)
    assert int(made[:8], 16) % 10_000 == number
    assert (len(made), made[14], made.count("-")) == (36, digit, 4)


def test_what_is_pushed_is_told_as_such_whatever_it_is() -> None:
    data_plane: Any = object()
    right = inspected(Contract("a.b", "s", "d", (), pushed=lambda _: None), data_plane)
    assert (right.passed, right.came, right.sent) == (True, PUSHED, 0)
    wrong = inspected(Contract("a.b", "s", "d", (), pushed=lambda _: "no tenant"), data_plane)
    assert (wrong.passed, wrong.problems) == (False, ("no tenant",))
