"""What the runner says of contracts that the lab can't try: they failed, and others go on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, cast
from xml.etree import ElementTree as ET

import pytest

from lab.clients import Clients
from lab.contracts import report
from lab.contracts.contract import (
    CLIENT,
    PUSHED,
    Bounded,
    Call,
    Contract,
    Expect,
    Line,
    Recorded,
    Watch,
)
from lab.contracts.runner import Outcome, inspected, judged, run, sent, watched
from lab.contracts.world import World
from lab.data_plane import DataPlane
from lab.errors import LabError
from lab.exchange import Reply, Request


class NowhereToSend(World):
    """A mesh in which nothing has an address."""

    def __init__(self) -> None:
        self.data_plane = cast("DataPlane", None)

    def look(self) -> None:
        """Nothing to see."""

    def resolve(self, call: Call, number: str) -> tuple[int, Request]:
        """Always fails, but for calls that need no address."""
        if call.request.address:
            raise LabError(f"no pod {call.request.address}")
        return 0, call.request


class Silent:
    """Clients whose answers never come, but for one path."""

    def send(self, _: int, requests: list[Request]) -> list[Reply]:
        """An answer to each, or none for ever."""
        if requests[0].path != "/":
            raise TimeoutError
        return [Reply(status=200)]


class Unreachable(AbstractContextManager[None]):
    """A state that is not reached."""

    def __init__(self, data_plane: DataPlane) -> None:
        """Never fails."""

    def __enter__(self) -> None:
        """Always fails."""
        raise LabError("two instances: not so after 30 s")

    def __exit__(self, *_: object) -> None:
        """Nothing to leave."""


@contextmanager
def reached(_: DataPlane) -> Iterator[None]:
    """A state that is there at once."""
    yield


def _contract(name: str, address: str = "", path: str = "/", **more: object) -> Contract:
    call = Call(CLIENT, Request(address, "one.example", path=path), Expect((200,)))
    return Contract(name, "s", "traffic.md", (call,), at_once=False, **more)  # type: ignore[arg-type]


def _outcomes(*contracts: Contract) -> list[Outcome]:
    return list(run(contracts, NowhereToSend(), cast("Clients", Silent())))


def test_contracts_whose_state_is_not_reached_have_failed_and_others_go_on() -> None:
    found = _outcomes(
        _contract("a.one"),
        _contract("b.one", arrangement=Unreachable),
        _contract("b.two", arrangement=Unreachable),
        _contract("c.one", arrangement=reached),
    )
    assert [(one.contract.id, one.problems) for one in found] == [
        ("a.one", ()),
        ("b.one", ("could not be tried: two instances: not so after 30 s",)),
        ("b.two", ("could not be tried: two instances: not so after 30 s",)),
        ("c.one", ()),
    ]


def test_contracts_that_cannot_be_sent_or_are_never_answered_have_failed() -> None:
    found = _outcomes(
        _contract("a.one", "pod:gone:80"),
        _contract("a.two", path="/silent"),
        _contract("a.three", "pod:gone:80", patient=True),
        _contract("a.four"),
    )
    assert [(one.contract.id, one.problems) for one in found] == [
        ("a.one", ("could not be tried: no pod pod:gone:80",)),
        ("a.two", ("could not be tried: TimeoutError",)),
        ("a.three", ("could not be tried: no pod pod:gone:80",)),
        ("a.four", ()),
    ]


@contextmanager
def left_behind(_: DataPlane) -> Iterator[None]:
    """A state that does not go away."""
    yield
    raise LabError("one instance: not so after 30 s")


def test_a_mesh_that_cannot_be_made_as_before_fails_the_last_contract_and_all_that_follow() -> None:
    found = _outcomes(
        _contract("a.one"),
        _contract("b.one", arrangement=left_behind),
        _contract("b.two", arrangement=left_behind),
        _contract("c.one"),
        _contract("d.one", arrangement=reached),
    )
    wrong = "the mesh could not be made as before: one instance: not so after 30 s"
    assert [(one.contract.id, one.problems, one.tried) for one in found] == [
        ("a.one", (), True),
        ("b.one", (), True),
        ("b.two", (wrong,), True),
        ("c.one", (f"could not be tried: {wrong}",), False),
        ("d.one", (f"could not be tried: {wrong}",), False),
    ]


def _at_most_one(_: object, recorded: Recorded) -> str | None:
    found = len(recorded.lines[0])
    return None if found == 1 else f"{found} lines"


@pytest.mark.parametrize(
    ("watch", "looks", "wrong"),
    [
        (_at_most_one, (0, 1, 2), None),
        (_at_most_one, (0, 0, 0), "0 lines"),
        (Bounded(_at_most_one), (0, 1, 1), None),
        (Bounded(_at_most_one), (1, 2, 2), "2 lines"),
    ],
)
def test_a_watch_that_minds_what_is_too_much_is_asked_again(
    watch: Watch, looks: tuple[int, ...], wrong: str | None
) -> None:
    found = iter(looks)
    last = 0

    def recorded() -> Recorded:
        nonlocal last
        last = next(found, last)
        lines: list[Line] = [{}] * last
        return Recorded([lines], [])

    assert watched(watch, [], recorded, settle=0.0, late=0.6) == wrong


def test_where_replies_are_judged_together_the_proxies_are_heard_of_each_kind() -> None:
    call = Call(CLIENT, Request("gateway:443", "a.example"), Expect((200, 403)))
    replies = [Reply(status=200), Reply(status=200), Reply(status=403)]
    kinds: list[dict[str, Any]] = [
        {"judge": lambda _: "too few"}, {"watch": lambda *_: "too few"}
    ]  # fmt: skip
    for more in kinds:
        contract = Contract("a.b", "s", "d", (call,) * 3, **more)
        found = judged(
            contract,
            sent(contract, lambda _: replies),
            lambda index: f"line of {index}",
            lambda _: "too few",
        )
        assert found.problems == (
            "too few",
            "a client: GET a.example/: 403 [line of 2]",
            "a client: GET a.example/: 200 [line of 0]",
        )


def test_junit_says_what_was_sent_and_what_came_back(tmp_path: Path) -> None:
    call = Call(CLIENT, Request("gateway:443", "a.example"), Expect((200,)))
    tried = Contract("a.b", "A promise.", "edge.md", (call,))
    looked: Any = Contract("a.c", "Another.", "telemetry.md", (), pushed=lambda _: None)
    data_plane: Any = object()
    report.write_junit(
        [
            judged(tried, sent(tried, lambda _: [Reply(status=200)])),
            inspected(looked, data_plane),
        ],
        tmp_path / "junit.xml",
    )
    first, second = (
        case.findtext("system-out") for case in ET.parse(tmp_path / "junit.xml").iter("testcase")
    )
    assert first == "A promise. (docs/edge.md)\nsent: 1\ncame back: 1x 200"
    assert second == f"Another. (docs/telemetry.md)\nsent: 0\n{PUSHED}"


def test_what_the_proxies_write_late_is_waited_for() -> None:
    call = Call(CLIENT, Request("gateway:443", "a.example"), Expect((200,)))
    contract = Contract("a.b", "s", "d", (call,))
    asked = []

    def late(index: int) -> str:
        asked.append(index)
        return "a line" if len(asked) > 2 else ""

    found = judged(contract, sent(contract, lambda _: [Reply(status=403)]), late)
    assert found.problems == ("a client: GET a.example/: expected 200, got 403 [a line]",)
