"""Contracts as data: what they say they prove stands in the documents, and none is there twice."""

from __future__ import annotations

import re
from collections import Counter
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lab.contracts import live
from lab.contracts.all import contracts as every
from lab.contracts.contract import CLIENT, Call, Contract, Expect, Incident, Recorded
from lab.contracts.facts import Facts
from lab.contracts.promises import DOCS, FILE, STACK, declared, made, promises, written
from lab.contracts.runner import judged, sent
from lab.errors import LabError
from lab.exchange import Reply, Request
from lab.tokens import Issuers
from model import stack_file
from model.catalogue import catalogue


@pytest.fixture(scope="module")
def contracts() -> list[Contract]:
    return list(declared())


def test_every_sentence_stands_in_its_document(contracts: list[Contract]) -> None:
    for contract in contracts:
        text = " ".join((DOCS / contract.document).read_text().split())
        assert contract.sentence in text, contract.id


def test_ids_are_distinct_and_every_contract_sends(contracts: list[Contract]) -> None:
    assert {name: n for name, n in Counter(c.id for c in contracts).items() if n > 1} == {}
    # … or, in the place of requests, looks at what istiod pushes.
    assert [one.id for one in contracts if bool(one.calls) == bool(one.pushed)] == []


def test_access_matrix_covers_every_ordered_pair(contracts: list[Contract]) -> None:
    names = {one.name for one in catalogue().services}
    for name in names:
        calls = next(c for c in contracts if c.id == f"access.{name}").calls
        callers = {call.caller.name for call in calls if call.caller.kind == "service"}
        assert callers == names - {name}


def test_safe_contracts_read_as_clients_without_token(contracts: list[Contract]) -> None:
    safe = [contract for contract in contracts if contract.safe]
    assert safe
    for contract in safe:
        for call in contract.calls:
            assert call.caller.kind == "client", contract.id
            assert "authorization" not in {name for name, _ in call.request.headers}, contract.id


def test_promises_are_current(contracts: list[Contract]) -> None:
    """All but the results, which only a run can change."""
    assert _without_results(FILE.read_text()) == _without_results(made(contracts, {})), (
        "run: python -m lab.contracts.promises RESULTS"
    )


def _without_results(text: str) -> str:
    return re.sub(r"\| [^|]* \|$", "|", text, flags=re.MULTILINE)


def test_nothing_is_called_passed_that_did_not_run(contracts: list[Contract]) -> None:
    assert "| passed |" not in made(contracts, {})
    every = {contract.id: True for contract in contracts}
    assert "not run" not in made(contracts, every)
    failed = made(contracts, {**every, "jwt.expired": False})
    assert "failed: jwt.expired |" in failed


def test_results_of_an_earlier_run_are_kept_where_the_last_said_nothing(
    contracts: list[Contract],
) -> None:
    every = {contract.id: True for contract in contracts}
    before = written(made(contracts, {**every, "jwt.audience": False}))
    after = made(contracts, {"jwt.issuers": False}, before)
    assert "| `jwt.audience` | failed: jwt.audience |" in after
    assert "| `jwt.issuers` | failed: jwt.issuers |" in after
    assert "| `mtls.plaintext` | passed |" in after
    assert "not run" not in after
    assert written(after) != before == written(made(contracts, {}, before))


def test_every_promise_has_a_contract(contracts: list[Contract]) -> None:
    text = made(contracts, {})
    assert [line for line in text.splitlines() if line.endswith("| not proven |")] == []
    assert text.endswith(f"{len(contracts)} contracts; 0 promises have none.\n")


@pytest.mark.parametrize("document", ["security.md", "traffic.md", "edge.md"])
def test_bullets_are_read_whole(document: str) -> None:
    found = promises(document)
    assert len(found) > 8
    assert all(sentence.endswith(".") for sentence in found), STACK


REQUEST = Request("gateway:443", "api.example.com")
ANSWER = Reply(status=200, body="Hostname=a-1\nURL=/x\nRequestHeader=X-Tenant:b\n")


@pytest.mark.parametrize(
    ("expect", "reply", "wrong"),
    [
        (Expect((200,)), ANSWER, ""),
        (Expect((403,)), ANSWER, "expected 403, got 200 from a-1"),
        (Expect((0,)), Reply(error="ReadError: closed"), ""),
        (Expect((200,)), Reply(error="ReadError: closed"), "got ReadError: closed"),
        (Expect((200,), served_by="a"), ANSWER, ""),
        (Expect((200,), served_by="b"), ANSWER, "expected an answer of b"),
        (Expect((200,), path="/y"), ANSWER, "path seen by the service /y, got /x"),
        (Expect((200,), seen=(("x-tenant", "b"),)), ANSWER, ""),
        (Expect((200,), seen=(("x-tenant", None),)), ANSWER, "must see x-tenant: None"),
        (Expect((200,), headers=(("server", None),)), ANSWER, ""),
        (Expect((200,), headers=(("x-a", "1"),)), ANSWER, "response header x-a: 1, got None"),
        (Expect((200,), within=1), Reply(status=200, seconds=2), "took 2.00 s"),
        (Expect((200,), grpc="OK"), Reply(status=200, grpc_status="OK"), ""),
        (Expect((200,), grpc="OK"), Reply(status=200, grpc_status="INTERNAL"), "gRPC status OK"),
    ],
)
def test_replies_are_compared(expect: Expect, reply: Reply, wrong: str) -> None:
    unmet = expect.unmet(reply)
    assert (unmet is None) if not wrong else (unmet is not None and wrong in unmet)


def test_outcome_says_what_the_proxies_wrote_and_asks_judges_only_of_right_answers() -> None:
    asked = []

    def watch(_: object, recorded: Recorded) -> str | None:
        raise AssertionError(recorded)

    def watched(replies: object) -> str | None:
        asked.append(replies)
        return "no audit record"

    contract = Contract("a.b", "s", "d", (Call(CLIENT, REQUEST, Expect((200,))),), watch=watch)
    wrong = judged(
        contract, sent(contract, lambda _: [Reply(status=403)]), lambda _: "rbac_denied", watched
    )
    assert not wrong.passed
    assert "rbac_denied" in wrong.problems[0]
    assert asked == []
    silent = judged(contract, sent(contract, lambda _: [ANSWER]), watched=watched)
    assert silent.problems == ("no audit record",)
    assert judged(contract, sent(contract, lambda _: [ANSWER])).passed


def _facts(stack: str, keys: Path) -> Facts:
    services = catalogue()
    settings = stack_file.load(stack, services)
    issuers = Issuers(keys)
    issuers.ensure(settings.authentication.issuers)
    return Facts(stack, settings, stack_file.adapted(services, settings), issuers, "ca.crt")


@pytest.mark.parametrize("stack", ["dev", "staging", "prod"])
def test_every_stack_has_contracts_of_which_some_are_safe(stack: str, tmp_path: Path) -> None:
    safe = {contract.id for contract in live.safe(list(every(_facts(stack, tmp_path))))}
    assert {"jwt.none", "jwt.preflight", "tls.versions", "tls.hosts", "tls.redirect"} <= safe


@pytest.mark.parametrize("stack", ["dev", "staging", "prod"])
def test_nothing_that_a_live_cluster_is_asked_could_write(stack: str, tmp_path: Path) -> None:
    found = live.safe(list(every(_facts(stack, tmp_path))))
    assert found
    for contract in found:
        assert contract.calls, contract.id
        for call in contract.calls:
            request = call.request
            assert request.kind in ("http", "websocket"), contract.id
            assert request.method in ("GET", "HEAD", "OPTIONS"), contract.id
            assert not (request.body or request.body_size or request.messages), contract.id
            assert "authorization" not in {name.lower() for name, _ in request.headers}
            # What the echo server alone would answer, no real service does.
            expect = call.expect
            assert not (expect.served_by or expect.version or expect.seen or expect.path)
        assert contract.judge is None, f"{contract.id}: judges calls of which some are left out"
    # Each kind that is left is asked of the protected routes, too.
    (protected,) = (contract for contract in found if contract.id == "jwt.none")
    assert {call.request.kind for call in protected.calls} == {"http", "websocket"}


def test_calls_that_could_write_are_left_out_and_contracts_of_nothing_else() -> None:
    def asked(**more: Any) -> Call:
        return Call(CLIENT, replace(REQUEST, **more), Expect((403,)))

    writing = (asked(method="POST"), asked(kind="grpc"), asked(body="x"), asked(kind="bytes"))
    reading = (asked(), asked(method="OPTIONS"))
    socket = asked(kind="websocket", messages=("hello",))
    mixed = Contract("a.b", "s", "d", (*writing, *reading, socket), safe=True)
    (found,) = live.safe([mixed, Contract("a.c", "s", "d", writing, safe=True)])
    assert found.calls == (*reading, asked(kind="websocket", messages=()))


def test_an_incident_needs_calls_that_are_sent_at_once() -> None:
    call = Call(CLIENT, REQUEST, Expect((200,)))
    incident = Incident(lambda _: nullcontext(), 1.0)
    assert Contract("a.b", "s", "d", (call,), incident=incident).incident
    with pytest.raises(ValueError, match=r"a\.b: an incident needs"):
        Contract("a.b", "s", "d", (call,), incident=incident, at_once=False)


def test_a_live_gateway_gets_few_requests_of_a_contract() -> None:
    calls = tuple(Call(CLIENT, REQUEST, Expect((number,))) for number in range(120))
    (found,) = live.safe(
        [Contract("a.b", "s", "d", calls, safe=True), Contract("a.c", "s", "d", calls)]
    )
    assert [call.expect.status[0] for call in found.calls] == list(range(0, 120, 3))


def test_a_port_forward_has_other_ports() -> None:
    gateway = live.Gateway("127.0.0.1", {443: 8443})
    assert (gateway.at(443), gateway.at(80)) == ("127.0.0.1:8443", "127.0.0.1:80")


def test_a_gateway_that_is_not_there_is_told_once() -> None:
    with pytest.raises(LabError, match=r"127\.0\.0\.1:9 can't be reached"):
        live.answering(live.Gateway("127.0.0.1", {443: 9}), "api.example.com", "")
