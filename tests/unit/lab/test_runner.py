"""What the runner says of contracts that the lab can't try: they failed, and others go on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import cast

from lab.clients import Clients
from lab.contracts.contract import CLIENT, Call, Contract, Expect
from lab.contracts.runner import Outcome, run
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
