"""Contracts as data: what they say they prove stands in the documents, and none is there twice."""

from __future__ import annotations

import json
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
from lab.contracts.promises import (
    DOCS,
    FILE,
    HELD,
    STACK,
    Result,
    declared,
    made,
    name_of_run,
    promises,
    results,
    together,
    written,
)
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
        assert callers == names


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
    rows = re.sub(r"\| [^|]* \|$", "|", text, flags=re.MULTILINE)
    return re.sub(r"^Results without a date .*\n\n", "", rows, flags=re.MULTILINE)


def test_nothing_is_called_passed_that_did_not_run(contracts: list[Contract]) -> None:
    assert "| passed" not in made(contracts, {})
    every = {contract.id: HELD for contract in contracts}
    assert "not run" not in made(contracts, every)
    failed = made(contracts, {**every, "jwt.expired": Result(3, 4)})
    assert "| failed: passed jwt.expired (3 of 4) |" in failed
    partly = made(contracts, {"jwt.wrong-key": HELD})
    assert re.search(r"`jwt\.expired`.* \| \d+ of \d+ not run \|", partly)


def test_as_often_as_the_contract_that_was_tried_least(contracts: list[Contract]) -> None:
    every = {contract.id: Result(4, 4) for contract in contracts}
    assert "| `jwt.audience` | passed 4 of 4 |" in made(contracts, every)
    found = made(contracts, {**every, "path.no-token": Result(2, 2)})
    assert "| `path.no-token`, `path.normalised` | passed 2 of 2 |" in found


def test_results_of_an_earlier_run_are_kept_with_its_name_where_the_last_said_nothing(
    contracts: list[Contract],
) -> None:
    every = {contract.id: Result(4, 4) for contract in contracts}
    first = made(contracts, {**every, "jwt.audience": Result(0, 4)}, run="2026-11-20, commit abc")
    second = made(
        contracts, {"jwt.issuers": Result(0, 1)}, written(first), run="2026-11-26, commit def"
    )
    third = made(contracts, {"jwt.public": HELD}, written(second), run="2026-11-27")
    kept = "(2026-11-20, commit abc) |"
    assert f"| `jwt.audience` | failed: passed jwt.audience (0 of 4) {kept}" in second
    assert "| `jwt.issuers` | failed: passed jwt.issuers (0 of 1) |" in second
    assert f"| `mtls.plaintext` | passed 4 of 4 {kept}" in second
    assert "not run" not in second
    assert "Results without a date are of 2026-11-27." in third
    assert "| failed: passed jwt.issuers (0 of 1) (2026-11-26, commit def) |" in third
    assert f"| `mtls.plaintext` | passed 4 of 4 {kept}" in third
    assert "| `jwt.public` | passed 1 of 1 |" in third


def test_what_is_promised_otherwise_now_keeps_no_result(contracts: list[Contract]) -> None:
    before = written(made(contracts, {contract.id: HELD for contract in contracts}, run="2026-1-1"))
    changed = [
        replace(one, sentence="Another promise.") if one.id == "jwt.audience" else one
        for one in contracts
    ]
    assert "| Another promise. | `jwt.audience` | not run |" in made(changed, {}, before)


def test_a_contract_that_failed_in_one_of_several_runs_has_failed(
    contracts: list[Contract], tmp_path: Path
) -> None:
    rows: list[Any] = []
    for passed in (True, False, True):
        run: list[Any] = [
            {"id": "jwt.audience", "promise": "s", "passed": passed},
            {"id": "jwt.issuers", "promise": "s", "passed": True},
        ]
        rows = together(rows, run)
    rows = together(rows, [{"id": "jwt.public", "promise": "s", "passed": True}])
    file = tmp_path / "results.json"
    file.write_text(json.dumps({"contracts": rows}))
    assert results(file) == {
        "jwt.audience": Result(2, 3),
        "jwt.issuers": Result(3, 3),
        "jwt.public": Result(1, 1),
    }
    assert {row["id"]: row["passed"] for row in rows}["jwt.audience"] is False
    (anew,) = together(rows, [{"id": "jwt.audience", "promise": "t", "passed": True}])[2:]
    assert (anew["held"], anew["times"]) == (1, 1)
    assert name_of_run(file).startswith("20")


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
    whole = {contract.id: contract for contract in every(_facts(stack, tmp_path))}
    found = live.safe(list(whole.values()))
    assert found
    for contract in found:
        assert contract.calls, contract.id
        for call in contract.calls:
            request = call.request
            assert request.kind in ("http", "websocket"), contract.id
            assert request.method in ("GET", "HEAD", "OPTIONS"), contract.id
            assert (request.body, request.body_size, request.messages) == ("", 0, ()), contract.id
            assert "authorization" not in {name.lower() for name, _ in request.headers}
            # What the echo server alone would answer, no real service does.
            expect = call.expect
            assert (expect.served_by, expect.version, expect.path, expect.seen) == ("", "", "", ())
        # A judge of all answers misses none.
        assert not contract.judge or contract.calls == whole[contract.id].calls
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
