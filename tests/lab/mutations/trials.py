"""Trying mutations on a live mesh: which contracts fail, and whether it is those that must."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from components.gateway_workload import GATEWAY
from lab.clients import Clients
from lab.contracts.all import contracts
from lab.contracts.arrangements import until_drained
from lab.contracts.contract import Contract
from lab.contracts.facts import Facts
from lab.contracts.reached import refused_at_gateway
from lab.contracts.runner import Outcome, run
from lab.contracts.world import World
from lab.data_plane import DataPlane
from lab.errors import LabError
from tests.lab.mutations.batches import meant
from tests.lab.mutations.mutant import MutantMesh
from tests.lab.mutations.mutation import Mutation

_SETTLED_SECONDS = 30.0
"""For proxies to get what istiod has, and to be done with connections that began before."""
_PUSH_SECONDS = 1.5
"""istiod gathers changes for a moment before it sends them."""
_MANY = 100
"""Calls of a contract that is not asked again and again while proxies settle."""


@dataclass(frozen=True)
class Trial:
    """What became of one mutation."""

    mutation: Mutation
    meant: frozenset[str]
    """Contracts that must fail."""
    failed: frozenset[str]
    """Those of them that did."""
    strays: dict[str, str]
    """Contracts that failed though no mutation of the batch is meant by them, each with why."""
    seconds: float
    """What the whole batch took."""
    alone: frozenset[str] | None = None
    """Contracts of `meant` that failed when nothing else was wrong; None where that was not tried."""
    also: frozenset[str] = frozenset()
    """Strays of the batch that failed when nothing else was wrong: it is this one that they are
    due to."""

    @property
    def caught(self) -> bool:
        """True where exactly the contracts failed that must, by this mutation and no other."""
        return self.failed == self.alone == self.meant and not self.strays


class Trials:
    """Tries batches one after the other; the mesh goes from one straight to the next."""

    def __init__(self, data_plane: DataPlane, stack: str) -> None:
        self._data_plane = data_plane
        self.mesh = MutantMesh(data_plane, stack)
        self._last: Sequence[Mutation] = ()
        self.settled: float | None = None
        """Seconds that proxies needed for the last change; None where they did not get there."""
        found = self._contracts()
        self.contracts = [one.id for one in found]
        self.costly = frozenset(one.id for one in found if _states(one))
        """Contracts that bring the mesh into another state first."""

    def of(self, batch: Sequence[Mutation]) -> Iterator[Trial]:
        """Make the mesh wrong in these ways and run the contracts.

        Contracts that first bring the mesh into another state take long; they are run only where
        one that shares the state is meant.
        """
        start = time.monotonic()
        wanted = _affordable(self._contracts(), batch)
        tried = [one.id for one in wanted]
        try:
            self._change(batch)
            outcomes = self._run(wanted)
        except LabError as error:
            # The other batches are still worth their while.
            for mutation in batch:
                own = meant(mutation, tried)
                seconds = time.monotonic() - start
                yield Trial(mutation, own, frozenset(), {"the lab": str(error)}, seconds)
            return
        wrong = {one.contract.id: "; ".join(one.problems) for one in outcomes if not one.passed}
        # A contract that could not be tried has noticed nothing.
        failed = {one.contract.id for one in outcomes if one.tried and not one.passed}
        expected = {each for one in batch for each in meant(one, tried)} & failed
        possible = expected | {each for one in batch for each in one.may_fail}
        strays = {one: why for one, why in wrong.items() if one not in possible}
        seconds = time.monotonic() - start
        for mutation in batch:
            own = meant(mutation, tried)
            noticed = own & failed
            yield Trial(
                mutation, own, noticed, strays, seconds, noticed if len(batch) == 1 else None
            )

    def by_itself(self, trial: Trial) -> Trial:
        """The same trial, with what its mutation makes fail of the contracts meant when nothing else
        is wrong: in a batch a contract could have failed by a mutation that it is not meant for.
        Strays of the batch are run too, which shows whose they are.
        """
        wanted = [one for one in self._contracts() if one.id in {*trial.meant, *trial.strays}]
        try:
            self._change([trial.mutation])
            outcomes = self._run(wanted)
        except LabError as error:
            return replace(trial, strays={**trial.strays, "the lab, by itself": str(error)})
        failed = frozenset(one.contract.id for one in outcomes if one.tried and not one.passed)
        return replace(trial, alone=failed & trial.meant, also=failed.intersection(trial.strays))

    def end(self) -> None:
        """Make the mesh right again."""
        self._change(())

    def _change(self, batch: Sequence[Mutation]) -> None:
        self.mesh.become(batch)
        time.sleep(_PUSH_SECONDS)
        self._settle(batch)
        for app in (GATEWAY, *(one.name for one in self._data_plane.catalogue.services)):
            until_drained(self._data_plane, app)
        self._last = batch

    def _settle(self, batch: Sequence[Mutation]) -> None:
        """Wait until what must fail fails, and what failed before and must not does no longer.

        It gives up silently: what is not so then is for the run of all contracts to tell.
        """
        expected = {each for one in batch for each in meant(one, self.contracts)}
        watched = expected | {each for one in self._last for each in meant(one, self.contracts)}

        start, self.settled = time.monotonic(), None
        while time.monotonic() < start + _SETTLED_SECONDS:
            quick = [one for one in self._contracts() if one.id in watched and _quick(one)]
            outcomes = self._run(quick)
            if all(one.passed == (one.contract.id not in expected) for one in outcomes):
                self.settled = time.monotonic() - start
                return

    def _contracts(self) -> list[Contract]:
        """All contracts, asked by clients that no limit knows yet."""
        return list(contracts(Facts.of(self._data_plane)))

    def _run(self, chosen: Sequence[Contract]) -> list[Outcome]:
        with Clients(self._data_plane.lab) as clients:
            return list(run(chosen, World(self._data_plane), clients))


def _affordable(found: Sequence[Contract], batch: Sequence[Mutation]) -> list[Contract]:
    """All but those that bring the mesh into a state in which no contract is meant."""
    needed = {
        state
        for one in found
        if any(each.meant(one.id) for each in batch)
        for state in _states(one)
    }
    return [one for one in found if _states(one) <= needed]


def _states(one: Contract) -> frozenset[object]:
    """What is done to the mesh for a contract."""
    return frozenset({one.arrangement, one.incident} - {None})


def _quick(one: Contract) -> bool:
    """Whether a contract may be asked often: it is soon done and uses up no limit."""
    costly = one.patient or one.pause or one.clear_of_minute or _states(one)
    return not costly and one.watch in (None, refused_at_gateway) and len(one.calls) < _MANY
