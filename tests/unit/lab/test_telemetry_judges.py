"""Judges of telemetry's contracts: each takes what is right and refuses what is not."""

from __future__ import annotations

from typing import Any

import pytest

from components.edge.routes import gateway_routes as at_edge
from lab.contracts.access_log import WHEREVER, LineOf, logged_as, told, without
from lab.contracts.contract import PUSHED, Contract, Recorded
from lab.contracts.errors_alone import errors_alone
from lab.contracts.facts import Facts
from lab.contracts.gateway_routes import gateway_routes
from lab.contracts.lost_proxy import failure_logged
from lab.contracts.metrics import counted, differs, labelled, names_in, statistics, unmerged
from lab.contracts.runner import inspected
from lab.contracts.spans import Wanted, mistagged, tagged_from_outside
from lab.contracts.traces import decided, groups, number_of, request_id
from lab.exchange import Reply
from lab.tokens import Issuers
from model import stack_file
from model.catalogue import catalogue


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> Facts:
    services = catalogue()
    settings = stack_file.load("dev", services)
    issuers = Issuers(tmp_path_factory.mktemp("keys"))
    issuers.ensure(settings.authentication.issuers)
    return Facts("dev", settings, stack_file.adapted(services, settings), issuers, "ca.crt")


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


GATEWAY_LINE = {"log": "access", "proxy": "istio-ingressgateway-1", "route": "a.read"}


def _requests(*numbers: int) -> list[list[dict[str, Any]]]:
    return [
        [{**GATEWAY_LINE, "request_id": request_id(number, kept=True)}, _line("a-1")]
        for number in numbers
    ]


def _traced(lines: list[list[dict[str, Any]]], *which: int) -> list[dict[str, Any]]:
    return [
        {"service": "a.apps", "tags": {"guid:x-request-id": lines[index][0]["request_id"]}}
        for index in which
    ]


@pytest.mark.parametrize(
    ("numbers", "traced", "wrong"),
    [
        ((0, 4999, 5000, 9999), (0, 1), ""),
        ((0, 4999, 5000, 9999), (0,), "not 50% of the requests were traced of a.read (1)"),
        ((0, 4999, 5000, 9999), (0, 1, 2), "a.read (1)"),
        ((7000, 8000), (), ""),
    ],
)
def test_the_number_of_a_request_decides(
    numbers: tuple[int, ...], traced: tuple[int, ...], wrong: str
) -> None:
    lines = _requests(*numbers)
    recorded = Recorded(lines, _traced(lines, *traced))
    told = decided(["a.read"] * len(lines), 0.5)([Reply(status=200)] * len(lines), recorded)
    assert (told is None) if not wrong else (told is not None and wrong in told)


def test_a_request_must_take_the_route_that_is_asked_for() -> None:
    lines = _requests(0)
    recorded = Recorded(lines, _traced(lines, 0))
    other = decided(["a.write"], 0.5)([Reply(status=200)], recorded)
    assert other == "a request to a.write took the route a.read"
    silent = decided(["a.read"], 0.5)([Reply(status=200)], Recorded([[]], []))
    assert silent is not None
    assert "is in no log" in silent
    assert number_of(lines[0][0]["request_id"]) == 0


@pytest.mark.parametrize(
    ("gateway", "service", "public", "wrong"),
    [
        ({"tenant_id": "t"}, {"tenant_id": "t"}, False, ""),
        ({"tenant_id": "u"}, {"tenant_id": "t"}, False, "tenant_id u, must be t"),
        ({"tenant_id": "t"}, {}, False, "tenant_id None, must be t"),
        ({"tenant_id": "t", "ai_model": "m"}, {"tenant_id": "t"}, False, "has ai_model"),
        ({}, {"tenant_id": "t"}, True, ""),
        ({"tenant_id": "t"}, {"tenant_id": "t"}, True, "has tenant_id, of no header"),
        ({"tenant_id": "t"}, None, False, "spans came of"),
        (None, {"tenant_id": "t"}, False, "spans came of"),
    ],
)
def test_tags_of_clients_requests(
    gateway: dict[str, str] | None, service: dict[str, str] | None, public: bool, wrong: str
) -> None:
    lines = _requests(0)
    of = {"guid:x-request-id": lines[0][0]["request_id"]}
    spans = [
        {"service": f"{name}.apps", "tags": {**of, **tags}}
        for name, tags in (("istio-ingressgateway", gateway), ("a", service))
        if tags is not None
    ]
    wanted = Wanted("a", {"tenant_id": "t"}, frozenset({"ai_model"}), public)
    told = tagged_from_outside([wanted])([Reply(status=200)], Recorded(lines, spans))
    assert (told is None) if not wrong else (told is not None and wrong in told)


def test_every_route_of_the_gateway_is_asked(facts: Facts) -> None:
    found = [route.name for route in gateway_routes(facts)]
    patched = [
        name for route in at_edge(facts.catalogue, facts.settings.traffic) for name in route.names
    ]
    assert sorted(found) == sorted(patched)
    shares = groups(facts)
    assert {name: len(routes) > 10 for name, routes in shares.items()} == {
        "default": True, "ai": True, "websocket": True,
    }  # fmt: skip
    assert sum(len(routes) for routes in shares.values()) == len(found)


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


KNOWN = frozenset(WHEREVER | {"server_name", "peer"})
ONE: dict[str, Any] = {
    **dict.fromkeys(WHEREVER, "x"), "log": "access", "proxy": "a-1", "code": 200, "flags": "-",
    "request_id": "00000000-0000-4000-a000-000000000000", "server_name": "b.c",
}  # fmt: skip
DECIDED = {**ONE, "proxy": "b-1", "request_id": "00000000-0000-9000-a000-000000000000"}


@pytest.mark.parametrize(
    ("lines", "wrong"),
    [
        ([ONE, DECIDED], ""),
        ([ONE, DECIDED, {**ONE, "log": "audit"}], ""),
        ([ONE], "b logged 0 lines"),
        ([ONE, ONE, DECIDED], "a logged 2 lines"),
        ([ONE, DECIDED, {**ONE, "proxy": "c-1"}], "was logged by a-1, b-1, c-1"),
        ([ONE, {**DECIDED, "code": 500}], "b-1: code is 500, must be 200"),
        ([ONE, {**DECIDED, "server_name": "b.d"}], "server_name is b.d, must end with .c"),
        ([ONE, {**DECIDED, "peer": "p"}], "peer is p, must be None"),
        ([ONE, {**DECIDED, "trace_id": "y"}], "different traces"),
        ([ONE, {**DECIDED, "request_id": "1" + DECIDED["request_id"][1:]}], "different traces"),
        ([{key: ONE[key] for key in ONE if key != "route"}, DECIDED], "lacks route"),
        ([{**ONE, "peer": ""}, DECIDED], "has peer without a value"),
        ([{**ONE, "token": "x"}, DECIDED], "has token as well"),
    ],
)
def test_lines_of_the_access_log(lines: list[dict[str, Any]], wrong: str) -> None:
    wanted = [
        LineOf(proxy, {"code": 200, "peer": None}, {"server_name": ".c"}) for proxy in ("a", "b")
    ]
    told = logged_as([wanted], KNOWN)([Reply(status=200)], Recorded([lines], []))
    assert (told is None) if not wrong else (told is not None and wrong in told)


GATEWAYS = _line("istio-ingressgateway-1")


@pytest.mark.parametrize(
    ("lines", "wrong"),
    [
        ([GATEWAYS, _line("a-1")], ""),
        ([GATEWAYS], "logged by istio-ingressgateway-1 only"),
        ([_line("a-1")], "logged by a-1 only"),
        ([], "logged by nobody only"),
        ([GATEWAYS, {**_line("a-1"), "path": "/x?secret"}], "a-1 logged secret"),
    ],
)
def test_no_secret_is_logged(lines: list[dict[str, Any]], wrong: str) -> None:
    told_of = without(["secret"], ["a"])([Reply(status=200)], Recorded([lines], []))
    assert (told_of is None) if not wrong else (told_of is not None and wrong in told_of)


@pytest.mark.parametrize(
    ("lines", "wrong"),
    [
        ([{**GATEWAYS, "m": "1"}, {**_line("a-1"), "m": "1"}], ""),
        ([{**GATEWAYS, "m": "1"}, _line("a-1")], "a-1 logged m None, must be 1"),
        ([{**_line("a-1"), "m": "1"}], "logged by a-1 only"),
    ],
)
def test_fields_are_told_at_both_proxies(lines: list[dict[str, Any]], wrong: str) -> None:
    said = told({"m": "1"}, ["a"])([Reply(status=200)], Recorded([lines], []))
    assert (said is None) if not wrong else (said is not None and wrong in said)
