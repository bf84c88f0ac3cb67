"""Contracts about callers, tokens and addresses: made for any settings, and their judges."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from lab.contracts import addresses, client_addresses
from lab.contracts.all import contracts as every
from lab.contracts.audit import Audited, audited, came
from lab.contracts.contract import DENIED, REFUSED, Call, Contract, Expect, Recorded
from lab.contracts.facts import Facts
from lab.contracts.paths import stayed_public
from lab.contracts.preflights import answered_by_gateway
from lab.contracts.reached import refused_at_gateway
from lab.contracts.roles import unlisted_roles
from lab.exchange import Reply
from lab.tokens import Issuers
from model import stack_file
from model.catalogue import catalogue
from model.settings import Authorization

IPV6, SINGLE = "2001:db8:7::/64", "198.51.100.9"


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Facts:
    services = catalogue()
    settings = stack_file.load("dev", services)
    issuers = Issuers(tmp_path_factory.mktemp("issuers"))
    issuers.ensure(settings.authentication.issuers)
    return Facts("dev", settings, stack_file.adapted(services, settings), issuers, "ca.crt")


def _changed(facts: Facts, trusted: int, **lists: tuple[str, ...]) -> Facts:
    settings = facts.settings.model_copy(
        update={
            "gateway": facts.settings.gateway.model_copy(update={"trusted_proxies": trusted}),
            "authorization": Authorization.model_validate(lists),
        }
    )
    return Facts(facts.stack, settings, facts.catalogue, facts.issuers, facts.ca)


@pytest.mark.parametrize("trusted", [0, 1, 2])
@pytest.mark.parametrize("blocks", [(), (IPV6,), (SINGLE, IPV6)])
def test_contracts_are_made_for_any_lists_of_addresses(
    dev: Facts, trusted: int, blocks: tuple[str, ...]
) -> None:
    facts = _changed(dev, trusted, admin_addresses=blocks, denied_addresses=blocks[::-1])
    made = {one.id: one for one in every(facts)}
    assert all(one.calls or one.pushed for one in made.values())
    assert {"address.forged", "role.restricted", "role.address", "audit.recorded"} <= made.keys()
    assert ("address.denied" in made) == bool(blocks and trusted)
    let_in = [call for call in made["role.restricted"].calls if call.expect == Expect((200,))]
    assert bool(let_in) == bool(blocks and trusted)


@pytest.mark.parametrize(
    ("trusted", "header"),
    [
        (0, "198.18.0.9, 198.18.0.1"),
        (1, "198.18.0.9, 198.18.0.1"),
        (2, "198.18.0.9, 198.18.0.1, 192.0.2.1"),
    ],
)
def test_each_trusted_proxy_adds_an_entry(dev: Facts, trusted: int, header: str) -> None:
    facts = _changed(dev, trusted)
    assert addresses.forwarded(facts, "198.18.0.1", "198.18.0.9") == ("x-forwarded-for", header)


def test_an_address_of_a_block_is_in_it() -> None:
    assert addresses.within("203.0.113.0/24") == "203.0.113.7"
    assert addresses.within("203.0.113.0/24", 300) == "203.0.113.44"
    assert addresses.within(SINGLE) == SINGLE
    assert addresses.within(IPV6, 16) == "2001:db8:7::10"


@pytest.mark.parametrize("trusted", [0, 1, 2])
def test_a_forged_address_is_tried_on_every_host(dev: Facts, trusted: int) -> None:
    lists = {"admin_addresses": (SINGLE,), "denied_addresses": ("203.0.113.0/24",)}
    made = {one.id: one for one in client_addresses.contracts(_changed(dev, trusted, **lists))}
    calls = made["address.forged"].calls
    assert set(dev.settings.public_hosts) == {call.request.authority for call in calls}
    assert any(call.request.address == "gateway:80" for call in calls)
    deleting = [call for call in calls if call.request.method == "DELETE"]
    assert any(call.expect == Expect((200,)) for call in deleting) == bool(trusted)
    assert any(call.expect == DENIED for call in deleting)


def test_roles_that_a_rule_does_not_name(dev: Facts) -> None:
    others = list(unlisted_roles(dev, ("super-admin",)))
    assert "admin" in others
    assert "super-admin" not in others
    assert {"user", ""} <= {one for one in others if isinstance(one, str)}


@pytest.mark.parametrize(
    ("error", "refusal"),
    [
        ("ReadError: ", True),
        ("ConnectError: [Errno 111] Connection refused", True),
        ("RemoteProtocolError: Server disconnected without sending a response.", True),
        ("Timeout: no answer within 10 s", False),
        ("ConnectTimeout: ", False),
        ("ConnectError: [Errno -2] Name or service not known", False),
        ("gaierror: [Errno -3] Temporary failure in name resolution", False),
        ("OSError: [Errno 113] No route to host", False),
    ],
)
def test_what_nobody_answered_is_no_refusal(error: str, refusal: bool) -> None:
    assert (REFUSED.unmet(Reply(error=error)) is None) == refusal
    assert Expect((0,), given_up=True).unmet(Reply(error=error)) is None


def _line(proxy: str, log: str = "access", **fields: Any) -> dict[str, Any]:
    return {"proxy": proxy, "log": log, **fields}


_GATEWAY, _SERVICE = "istio-ingressgateway-1", "users-1"
_BOTH = Audited("DELETE /users", ("istio-ingressgateway", "users"), {"tenant_id": "t", "x": None})


def _records(*proxies: str, tenant: str = "t", **more: str) -> list[dict[str, Any]]:
    return [_line(proxy, "audit", tenant_id=tenant, **more) for proxy in proxies]


@pytest.mark.parametrize(
    ("lines", "wrong"),
    [
        ([*_records(_GATEWAY, _SERVICE), _line(_GATEWAY)], None),
        ([_line(_GATEWAY)], "recorded by nobody"),
        (_records(_GATEWAY), "recorded by istio-ingressgateway-1"),
        (_records(_SERVICE), "recorded by users-1"),
        (_records(_GATEWAY, _SERVICE, _SERVICE), "recorded by"),
        (_records(_GATEWAY, "users-old"[:5] + "x-1"), "recorded by"),
        (_records(_GATEWAY, _SERVICE, tenant="u"), "says tenant_id u, must be t"),
        (_records(_GATEWAY, _SERVICE, x="y"), "says x y, must be None"),
    ],
)
def test_both_proxies_must_record(lines: list[dict[str, Any]], wrong: str | None) -> None:
    found = audited([_BOTH])([Reply(200)], Recorded([lines], []))
    assert (found is None) if wrong is None else (wrong in (found or ""))


def test_a_refusal_is_recorded_at_the_gateway_alone() -> None:
    alone = Audited("DELETE /users", ("istio-ingressgateway",), {"tenant_id": "t"})
    judge = audited([alone])
    assert judge([Reply(403)], Recorded([_records(_GATEWAY)], [])) is None
    assert judge([Reply(403)], Recorded([_records(_GATEWAY, _SERVICE)], []))
    assert audited([])([], Recorded([], [])) == "nothing is audited"


def test_every_status_must_have_come() -> None:
    assert came(401, 429)([Reply(401), Reply(429), Reply(429)]) is None
    assert came(401, 429)([Reply(401)]) == "no answer was 429"
    assert came(401)([]) == "no answer was 401"


def test_the_gateway_answers_alone() -> None:
    assert answered_by_gateway([], Recorded([[_line(_GATEWAY)]], [])) is None
    assert answered_by_gateway([], Recorded([], []))
    assert "not in the gateway's log" in str(answered_by_gateway([], Recorded([[]], [])))
    both = Recorded([[_line(_GATEWAY), _line(_SERVICE)]], [])
    assert "users-1" in str(answered_by_gateway([], both))


@pytest.mark.parametrize(
    ("seen", "right"),
    [
        ("/open", True),
        ("/open/1?x=/secret", True),
        ("/open/%252e%252e/secret", True),
        ("/secret/1", False),
        ("/opened", False),
        ("/open/../secret", False),
        ("/open/%2e%2e/secret", False),
        (r"/open/..\secret", False),
        ("?", False),
    ],
)
def test_what_is_served_without_a_token_is_public(seen: str, right: bool) -> None:
    reply = Reply(200, body=f"Hostname=a-1\nURL={seen}\n")
    assert (stayed_public(["/open", "/health"], [reply]) is None) == right
    assert stayed_public(["/open"], [Reply(403, body=f"URL={seen}\n")]) is None


@pytest.mark.parametrize(
    ("reply", "refused"),
    [
        (Reply(403), True),
        (Reply(200, grpc_status="PERMISSION_DENIED"), True),
        (Reply(200, headers=(("grpc-status", "7"),)), True),
        (Reply(200, headers=(("grpc-status", "12"),)), False),
        (Reply(200), False),
    ],
)
def test_what_the_gateway_refuses_comes_to_nobody(reply: Reply, refused: bool) -> None:
    both = Recorded([[_line(_GATEWAY), _line(_SERVICE)]], [])
    assert bool(refused_at_gateway([reply], both)) == refused
    assert refused_at_gateway([reply], Recorded([[_line(_GATEWAY)]], [])) is None


@pytest.fixture(scope="module")
def made(dev: Facts) -> dict[str, Contract]:
    return {one.id: one for one in every(dev)}


def _paths(calls: tuple[Call, ...]) -> Iterator[str]:
    for call in calls:
        yield call.request.path


def test_tricks_are_tried_on_every_way_in(dev: Facts, made: dict[str, Contract]) -> None:
    calls = made["path.no-token"].calls
    hosts = {call.request.authority for call in calls}
    assert hosts == set(dev.settings.public_hosts)
    for _, route in dev.catalogue.exposures:
        wanted = f"{route.path}/.." if route.access == "public" else f"{route.path}%00/1"
        assert any(path.startswith(wanted) for path in _paths(calls)), route.path


def test_every_service_gets_bad_tokens_inside(dev: Facts, made: dict[str, Contract]) -> None:
    calls = made["jwt.inside"].calls
    for one in dev.catalogue.services:
        own = [call for call in calls if f":{one.name}:" in call.request.address]
        assert {call.caller.kind for call in own} == {"service", "identity"} or not one.subsets
        tokens = {dict(call.request.headers)["authorization"] for call in own}
        assert len(tokens) >= len([name for name in made if name.startswith("jwt.un")])


def test_every_subset_has_an_instance_that_refuses_plain_text(
    dev: Facts, made: dict[str, Contract]
) -> None:
    addresses_tried = {call.request.address for call in made["mtls.plaintext"].calls}
    for one in dev.catalogue.services:
        for port in one.ports:
            versions = [f"@{subset.version}" for subset in one.subsets] or [""]
            for version in versions:
                assert f"pod:{one.name}{version}:{port.number}" in addresses_tried
