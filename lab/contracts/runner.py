"""Runs contracts against a lab: sends the calls, compares, and says why where it is not so."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import groupby

from lab.clients import Clients
from lab.contracts.contract import Call, Contract, Recorded
from lab.contracts.world import World
from lab.exchange import Reply, Request

_LOG_DELAY = 0.3
_SHOWN = 5
_LATE_LOGS = 6.0
"""Seconds that logs and spans may be late on a busy machine; proxies hand them on in batches."""


@dataclass(frozen=True)
class Outcome:
    """What became of one contract."""

    contract: Contract
    problems: tuple[str, ...]
    """What was wrong, each with what the proxies say about it; none where the promise held."""
    sent: int
    seconds: float
    came: str
    """What came back, in short."""

    @property
    def passed(self) -> bool:
        """True where the promise held."""
        return not self.problems


def run(
    contracts: Sequence[Contract],
    world: World,
    clients: Clients,
    began: Callable[[Contract], None] = lambda _: None,
) -> Iterator[Outcome]:
    """Run contracts one after the other; the outcome of each as soon as it is known."""
    for arrangement, together in groupby(contracts, key=lambda contract: contract.arrangement):
        with arrangement(world.data_plane) if arrangement else nullcontext():
            world.look()
            for contract in together:
                began(contract)
                yield _run(contract, world, clients)
        if arrangement:
            world.look()


def _run(contract: Contract, world: World, clients: Clients) -> Outcome:
    run_id = f"{int(time.time()) % 1_000_000}"
    numbers = [f"{contract.id}-{run_id}/{index}" for index, _ in enumerate(contract.calls)]

    def explain(index: int) -> str:
        return "; ".join(str(line) for line in world.logged(numbers[index]))

    def watched(replies: Sequence[Reply]) -> str | None:
        assert contract.watch is not None
        time.sleep(contract.settle)
        deadline = time.monotonic() + _LATE_LOGS
        while wrong := contract.watch(
            replies, Recorded([world.lines(number) for number in numbers], world.spans())
        ):
            if time.monotonic() > deadline:
                return wrong
            time.sleep(0.5)
        return None

    return judged(contract, lambda _: _send(contract, numbers, world, clients), explain, watched)


def judged(
    contract: Contract,
    send: Callable[[Sequence[Call]], list[Reply]],
    explain: Callable[[int], str] = lambda _: "",
    watched: Callable[[Sequence[Reply]], str | None] = lambda _: None,
) -> Outcome:
    """Send a contract's calls and compare.

    `explain` says what is known of one call; `watched` is asked where the contract looks at what
    the mesh wrote down.
    """
    start = time.monotonic()
    time.sleep(contract.pause)
    if (left := 60 - time.time() % 60) < contract.clear_of_minute:
        time.sleep(left + 0.1)
    replies = send(contract.calls)
    problems = [
        (index, f"{call}: {unmet}")
        for index, (call, reply) in enumerate(zip(contract.calls, replies, strict=True))
        if (unmet := call.expect.unmet(reply))
    ]
    told = []
    if problems:
        time.sleep(_LOG_DELAY)  # access logs are flushed a moment after the answer
        for index, problem in problems[:_SHOWN]:
            lines = explain(index)
            told.append(f"{problem} [{lines}]" if lines else problem)
        if len(problems) > _SHOWN:
            told.append(f"… and {len(problems) - _SHOWN} more")
    elif wrong := (contract.judge(replies) if contract.judge else None) or (
        watched(replies) if contract.watch else None
    ):
        told.append(wrong)
    return Outcome(contract, tuple(told), len(replies), time.monotonic() - start, _summary(replies))


def _send(
    contract: Contract, numbers: Sequence[str], world: World, clients: Clients
) -> list[Reply]:
    resolved = [
        world.resolve(call, number) for call, number in zip(contract.calls, numbers, strict=True)
    ]
    if not contract.at_once:
        return [clients.send(pid, [request])[0] for pid, request in resolved]
    futures = _submitted(contract.calls, resolved, clients)
    longest = max((request.timeout for _, request in resolved), default=0.0)
    deadline = time.monotonic() + longest * 4 + 30
    return [future.result(max(deadline - time.monotonic(), 0.1)) for future in futures]


def _submitted(
    calls: Sequence[Call], resolved: Sequence[tuple[int, Request]], clients: Clients
) -> list[Future[Reply]]:
    """Each call sent at its time; the answers in the order of the calls."""
    futures: dict[int, Future[Reply]] = {}
    start = time.monotonic()
    for index in sorted(range(len(calls)), key=lambda index: calls[index].after):
        time.sleep(max(start + calls[index].after - time.monotonic(), 0))
        futures[index] = clients.submit(*resolved[index])
    return [futures[index] for index in range(len(calls))]


def _summary(replies: Sequence[Reply]) -> str:
    counts: dict[str, int] = {}
    for reply in replies:
        key = reply.grpc_status or (
            str(reply.status) if reply.status else reply.error.split(":")[0]
        )
        counts[key] = counts.get(key, 0) + 1
    return ", ".join(f"{count}x {key}" for key, count in sorted(counts.items()))
