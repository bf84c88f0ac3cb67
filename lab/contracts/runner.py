"""Runs contracts against a lab: sends the calls, compares, and says why where it is not so."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from itertools import groupby

from lab.clients import Clients
from lab.contracts.contract import (
    PUSHED,
    Bounded,
    Call,
    Contract,
    Incident,
    Recorded,
    Tolerance,
    Watch,
)
from lab.contracts.world import World
from lab.data_plane import DataPlane
from lab.errors import LabError
from lab.exchange import Reply, Request

_FLUSHED, _LOG_DELAY = 1.2, 3.0
"""Seconds until proxies have written their access logs, which they do each second, and after which a
line that is not there is not waited for."""
_SHOWN = 5
_LINES = 8
"""Log lines that are told of one call; a retried one has some, one of many streams hundreds."""
_BESIDE = 16
"""Contracts that may wait at a time, for slow answers or late logs."""
_LATE_LOGS = 6.0
"""Seconds that logs and spans may be late on a busy machine; proxies hand them on in batches."""


@dataclass(frozen=True)
class Errors:
    """How many calls of a kind failed, where some may."""

    what: str
    failed: int
    sent: int
    allowed: int
    least: int = 0

    @property
    def right(self) -> bool:
        """Whether as many failed as must, and no more than may."""
        return self.least <= self.failed <= self.allowed

    def __str__(self) -> str:
        must = f"{self.least} must and " if self.least else ""
        return f"{self.what}: {self.failed} of {self.sent} failed, {must}{self.allowed} may"


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
    errors: tuple[Errors, ...] = ()
    """Where calls may fail: how many did, of each kind of calls."""
    tried: bool = True
    """False where the lab could not send or judge the calls."""

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
    """Run contracts one after the other; the outcome of each, in their order.

    What the mesh wrote down about a contract is looked at while the next one runs, and a `patient`
    contract waits for its answers beside the others, but for those with an incident; so nothing
    that sends much, counts or measures runs beside another that does. A contract whose state isn't
    reached, or whose calls get no end, has failed. Where the mesh can't be made as before, the last
    contract of that state has failed, and what would come after it is not tried.
    """
    broken: LabError | None = None
    with ThreadPoolExecutor(_BESIDE) as pool:
        for arrangement, together in groupby(contracts, key=lambda contract: contract.arrangement):
            if broken:
                yield from (untried(one, broken, 0.0) for one in together)
                continue
            last: Outcome | None = None
            try:
                with ExitStack() as state:
                    if arrangement:
                        start = time.monotonic()
                        try:
                            state.enter_context(arrangement(world.data_plane))
                        except LabError as error:
                            seconds = time.monotonic() - start
                            yield from (untried(one, error, seconds) for one in together)
                            continue
                    world.look()
                    for outcome in _run_together(together, world, clients, pool, began):
                        if last:
                            yield last
                        last = outcome
                if arrangement:
                    world.look()
            except LabError as error:
                broken = LabError(f"the mesh could not be made as before: {error}")
                last = replace(last, problems=(*last.problems, str(broken))) if last else None
            if last:
                yield last


def _run_together(
    contracts: Iterable[Contract],
    world: World,
    clients: Clients,
    pool: ThreadPoolExecutor,
    began: Callable[[Contract], None],
) -> Iterator[Outcome]:
    waiting: deque[Future[Outcome]] = deque()
    for contract in contracts:
        if contract.incident:
            # It happens to whoever is connected then.
            while waiting:
                yield waiting.popleft().result()
        began(contract)
        trial = _Trial(contract, world, clients)
        if not contract.patient:
            trial.send()
        waiting.append(pool.submit(trial.outcome))
        while waiting and waiting[0].done():
            yield waiting.popleft().result()
    # All before the arrangement ends: the logs of pods go with the pods.
    for future in waiting:
        yield future.result()


class _Trial:
    """One contract being tried in the lab."""

    def __init__(self, contract: Contract, world: World, clients: Clients) -> None:
        self._contract, self._world, self._clients = contract, world, clients
        self._numbers = [
            f"{contract.id}-{int(time.time()) % 1_000_000}/{index}"
            for index, _ in enumerate(contract.calls)
        ]
        self._sent: Sent | LabError | TimeoutError | None = None
        self._began = time.monotonic()

    def send(self) -> Sent | LabError | TimeoutError:
        if self._sent is None:
            try:
                self._sent = sent(
                    self._contract,
                    lambda _: _send(self._contract, self._numbers, self._world, self._clients),
                )
            except (LabError, TimeoutError) as error:
                self._sent = error
        return self._sent

    def outcome(self) -> Outcome:
        try:
            if self._contract.pushed:
                return inspected(self._contract, self._world.data_plane)
            answered = self.send()
            if isinstance(answered, Sent):
                return judged(self._contract, answered, self._explain, self._watched)
        except LabError as error:
            answered = error
        return untried(self._contract, answered, time.monotonic() - self._began)

    def _explain(self, index: int) -> str:
        lines = self._world.logged(self._numbers[index])
        more = (f"and {len(lines) - _LINES} more lines",) if len(lines) > _LINES else ()
        return "; ".join((*map(str, lines[:_LINES]), *more))

    def _watched(self, replies: Sequence[Reply]) -> str | None:
        contract = self._contract
        assert contract.watch is not None
        return watched(
            contract.watch,
            replies,
            lambda: Recorded(self._world.lines(self._numbers), self._world.spans()),
            contract.settle,
        )


def watched(
    watch: Watch,
    replies: Sequence[Reply],
    recorded: Callable[[], Recorded],
    settle: float,
    late: float = _LATE_LOGS,
) -> str | None:
    """What is wrong with what was written down `settle` seconds after the replies.

    What is not there may come up to `late` seconds later. A watch that minds also what is too much is
    asked again after `settle` seconds more.
    """
    for _ in range(2 if isinstance(watch, Bounded) else 1):
        time.sleep(settle)
        deadline = time.monotonic() + late
        while wrong := watch(replies, recorded()):
            if time.monotonic() > deadline:
                return wrong
            time.sleep(0.5)
    return None


@dataclass(frozen=True)
class Sent:
    """The replies to a contract's calls."""

    replies: Sequence[Reply]
    seconds: float
    """From the first call to the last reply, waiting before it included."""


def sent(contract: Contract, send: Callable[[Sequence[Call]], list[Reply]]) -> Sent:
    """Send a contract's calls when its time has come."""
    start = time.monotonic()
    time.sleep(contract.pause)
    if (left := 60 - time.time() % 60) < contract.clear_of_minute:
        time.sleep(left + 0.1)
    return Sent(send(contract.calls), time.monotonic() - start)


def untried(contract: Contract, error: Exception, seconds: float) -> Outcome:
    """What is said of a contract that the lab could not try to the end."""
    why = str(error) or type(error).__name__
    return Outcome(contract, (f"could not be tried: {why}",), 0, seconds, "", tried=False)


def inspected(contract: Contract, data_plane: DataPlane) -> Outcome:
    """What a look at istiod's configuration says of a contract that sends nothing."""
    assert contract.pushed is not None
    start = time.monotonic()
    wrong = contract.pushed(data_plane)
    seconds = time.monotonic() - start
    return Outcome(contract, (wrong,) if wrong else (), 0, seconds, PUSHED)


def judged(
    contract: Contract,
    answered: Sent,
    explain: Callable[[int], str] | None = None,
    watched: Callable[[Sequence[Reply]], str | None] = lambda _: None,
) -> Outcome:
    """Compare what came with what must.

    `explain` says what is known of one call; `watched` is asked where the contract looks at what
    the mesh wrote down.
    """
    start, replies = time.monotonic(), answered.replies
    problems = [
        (index, f"{call}: {unmet}")
        for index, (call, reply) in enumerate(zip(contract.calls, replies, strict=True))
        if (unmet := call.expect.unmet(reply))
    ]
    errors = tuple(_counted(one, problems) for one in contract.tolerated)
    forgiven = {
        index
        for one, found in zip(contract.tolerated, errors, strict=True)
        if found.failed <= found.allowed
        for index in one.calls
        if any(kind.unmet(replies[index]) is None for kind in one.to)
    }
    problems = [(index, problem) for index, problem in problems if index not in forgiven]
    told = [str(found) for found in errors if not found.right]
    if problems:
        said = _said(explain, [index for index, _ in problems[:_SHOWN]])
        for index, problem in problems[:_SHOWN]:
            told.append(f"{problem} [{said[index]}]" if said.get(index) else problem)
        if len(problems) > _SHOWN:
            told.append(f"… and {len(problems) - _SHOWN} more")
    elif wrong := (contract.judge(replies) if contract.judge else None) or (
        watched(replies) if contract.watch else None
    ):
        told.append(wrong)
        told += [
            f"{contract.calls[index]}: {replies[index]} [{lines}]"
            for index, lines in _said(explain, _examples(replies)).items()
            if lines
        ]
    seconds = answered.seconds + time.monotonic() - start
    return Outcome(contract, tuple(told), len(replies), seconds, _summary(replies), errors)


def _said(explain: Callable[[int], str] | None, calls: Sequence[int]) -> dict[int, str]:
    """What the proxies say of these calls, when they have had the time to."""
    if explain is None:
        return {}
    deadline = time.monotonic() + _LOG_DELAY
    time.sleep(_FLUSHED)
    while True:
        found = {index: explain(index) for index in calls}
        if all(found.values()) or time.monotonic() > deadline:
            return found
        time.sleep(0.3)


def _examples(replies: Sequence[Reply]) -> list[int]:
    """Of each kind of answer the first, the rarest kind first: what is wrong is often one of few."""
    kinds: dict[str, list[int]] = {}
    for index, reply in enumerate(replies):
        kinds.setdefault(_kind(reply), []).append(index)
    return [places[0] for places in sorted(kinds.values(), key=len)][:_SHOWN]


def _counted(tolerance: Tolerance, problems: Sequence[tuple[int, str]]) -> Errors:
    failed = sum(index in tolerance.calls for index, _ in problems)
    return Errors(tolerance.what, failed, len(tolerance.calls), tolerance.errors, tolerance.least)


def _send(
    contract: Contract, numbers: Sequence[str], world: World, clients: Clients
) -> list[Reply]:
    resolved = [
        world.resolve(call, number) for call, number in zip(contract.calls, numbers, strict=True)
    ]
    if not contract.at_once:
        return [clients.send(pid, [request])[0] for pid, request in resolved]
    with _happening(contract.incident, world) if contract.incident else nullcontext():
        futures = _submitted(contract.calls, resolved, clients)
        longest = max((request.timeout for _, request in resolved), default=0.0)
        deadline = time.monotonic() + longest * 4 + 30
        return [future.result(max(deadline - time.monotonic(), 0.1)) for future in futures]


@contextmanager
def _happening(incident: Incident, world: World) -> Iterator[None]:
    """An incident at its time, over at the end and the mesh as before.

    Raises:
        LabError: what is done within this ended before the incident began.
    """
    answered = threading.Event()

    def happen() -> None:
        if answered.wait(incident.begins):
            raise LabError("all calls were answered before the incident began")
        with incident.state(world.data_plane):
            answered.wait(None if incident.ends is None else incident.ends - incident.begins)

    with ThreadPoolExecutor(1) as thread:
        happened = thread.submit(happen)
        try:
            yield
        finally:
            answered.set()
        happened.result()
    world.look()


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
    counts = Counter(_kind(reply) for reply in replies)
    return ", ".join(f"{count}x {key}" for key, count in sorted(counts.items()))


def _kind(reply: Reply) -> str:
    return reply.grpc_status or (str(reply.status) if reply.status else reply.error.split(":")[0])
