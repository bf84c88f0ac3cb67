"""What is made of the routes that proxies were told: timeouts, repetitions, weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from components.gateway_workload import GATEWAY
from lab.contracts import route_config
from lab.contracts.facts import Facts
from lab.contracts.route_config import Declared
from lab.tokens import Issuers
from model import stack_file
from model.catalogue import catalogue

_SERVICES = {one.name: one for one in catalogue().services}
_READ = Declared("a.read", _SERVICES["rag-engine"], "read", Decimal(60))
_WRITE = Declared("a.write", _SERVICES["retrieval-service"], "write", Decimal(30))
_PAID = Declared("a.write", _SERVICES["rag-engine"], "write", Decimal(60))
_STREAM = Declared("a.stream", _SERVICES["voice-engine"], "stream", Decimal(14), Decimal(14))
_SPOKEN = Declared(
    "a.write", _SERVICES["voice-engine"], "write", Decimal(10), Decimal(14), Decimal(10)
)
_UNSEEN = "connect-failure,refused-stream,reset-before-request"


def _route(timeout: str, longest: str = "", **policy: Any) -> Mapping[str, Any]:
    duration = {"max_stream_duration": longest} if longest else {}
    return {
        "route": {"timeout": timeout, "max_stream_duration": duration, "retry_policy": policy},
    }


@pytest.mark.parametrize(
    ("declared", "found", "wrong"),
    [
        (_READ, _route("60s"), ""),
        (_READ, _route("45s"), "timeout is 45s, 60 s is declared"),
        (_READ, {}, "timeout is None, 60 s is declared"),
        (_STREAM, _route("14s", "14s"), ""),
        (_SPOKEN, _route("14s", "14s"), "timeout is 14s, 10 s is declared"),
    ],
)
def test_every_route_has_its_time(declared: Declared, found: Mapping[str, Any], wrong: str) -> None:
    assert (route_config.slow(declared, found) or "") == wrong


@pytest.mark.parametrize(
    ("declared", "found", "wrong"),
    [
        (_READ, _route("60s"), ""),
        (_READ, _route("60s", "60s"), "an exchange may last 60s, 0 s is declared"),
        (_STREAM, _route("14s", "14s"), ""),
        (_STREAM, _route("14s", "10s"), "an exchange may last 10s, 14 s is declared"),
        (_STREAM, _route("14s"), "an exchange may last None, 14 s is declared"),
    ],
)
def test_a_stream_ends_some_time(declared: Declared, found: Mapping[str, Any], wrong: str) -> None:
    assert (route_config.endless(declared, found) or "") == wrong


@pytest.mark.parametrize(
    ("declared", "found", "wrong"),
    [
        (_READ, _route("60s", num_retries=2, per_try_timeout="20s"), ""),
        (_READ, _route("60s", num_retries=1, per_try_timeout="20s"), "1 repetitions"),
        (_READ, _route("60s", num_retries=2), "each try has 0 s, 20 s is its share"),
        (_WRITE, _route("30s", num_retries=2), ""),
        (_WRITE, _route("30s", num_retries=2, per_try_timeout="10s"), "each try has 10 s"),
        (_SPOKEN, _route("10s", "14s", per_try_timeout="10s"), ""),
        (_SPOKEN, _route("10s", "14s"), "each try has 0 s, 10 s is its share"),
    ],
)
def test_tries_share_the_time(declared: Declared, found: Mapping[str, Any], wrong: str) -> None:
    said = route_config.shares(declared, found)
    assert (said is None) if not wrong else (said is not None and wrong in said)


@pytest.mark.parametrize(
    ("declared", "found", "wrong"),
    [
        (_WRITE, _route("30s", num_retries=2, retry_on=_UNSEEN), ""),
        (_WRITE, _route("30s", num_retries=2, retry_on=f"{_UNSEEN},reset"), "is repeated on"),
        (_WRITE, _route("30s", retry_on=_UNSEEN), "0 repetitions of a write, 2 are declared"),
        (_PAID, _route("60s"), ""),
        (_PAID, _route("60s", num_retries=2, retry_on=_UNSEEN), "0 are declared"),
        (_STREAM, _route("14s", num_retries=1, retry_on=_UNSEEN), "0 are declared"),
        (_READ, _route("60s", num_retries=2, retry_on="gateway-error"), ""),
    ],
)
def test_writes_are_repeated_unseen(
    declared: Declared, found: Mapping[str, Any], wrong: str
) -> None:
    said = route_config.writes(declared, found)
    assert (said is None) if not wrong else (said is not None and wrong in said)


@pytest.fixture
def facts(tmp_path: Path) -> Facts:
    services = catalogue()
    settings = stack_file.load("dev", services)
    issuers = Issuers(tmp_path)
    issuers.ensure(settings.authentication.issuers)
    return Facts("dev", settings, stack_file.adapted(services, settings), issuers, "ca.crt")


def test_a_proxy_that_lacks_a_route_has_it_wrong(facts: Facts) -> None:
    places = list(route_config.everywhere(facts))
    assert route_config.compared(places, {}, lambda *_: None) == (
        f"no proxy of {GATEWAY} says what it was told"
    )
    told: dict[str, list[route_config.Routes]] = {
        app: [{}] for app in (GATEWAY, *facts.catalogue.names)
    }
    wrong = route_config.compared(places, told, lambda *_: None)
    assert wrong
    assert wrong.startswith(f"{GATEWAY} 0 has no route identity-service.api.v1.auth.read")


def test_declared_are_all_routes_of_gateway_and_mesh(facts: Facts) -> None:
    found = {one.name: one for one in route_config.of_clients(facts)}
    assert found["voice-engine.api.v1.voice.stream"].timeout == 14
    assert found["voice-engine.api.v1.voice.write"].begun == 10
    assert found["conversation-service.ws.conversation.websocket"].lasting == 3600
    inside = [
        name
        for one in facts.catalogue.services
        for name in (each.name for each in route_config.in_mesh(one))
    ]
    assert {"identity-service.mesh.grpc.write", "rag-engine.mesh.http.read"} <= {*inside}
    assert not any(".metrics." in name for name in inside)


def test_routes_are_read_from_what_a_proxy_says() -> None:
    route = {"name": "a.read", **_route("1s")}
    dump = {"configs": [{"route_config": {"virtual_hosts": [{"routes": [route, {"match": {}}]}]}}]}
    assert route_config.routes(json.dumps(dump)) == {"a.read": route}
    assert route_config.routes("{}") == {}


def test_shares_of_subsets() -> None:
    weighted = {
        "weighted_clusters": {
            "clusters": [
                {"name": "outbound|80|v1|a", "weight": 80},
                {"name": "outbound|80|canary|a", "weight": 20},
            ]
        }
    }
    assert route_config.divided({"route": weighted}) == {"v1": 80, "canary": 20}
    assert route_config.divided({"route": {"cluster": "outbound|80|canary|a"}}) == {"canary": 100}
    assert route_config.divided({}) == {}


def test_a_share_that_cannot_be_told_is_cut() -> None:
    three = replace(_READ, service=_SERVICES["identity-service"], timeout=Decimal(10))
    found = _route("10s", num_retries=3, per_try_timeout="2.500s")
    assert route_config.shares(three, found) is None
