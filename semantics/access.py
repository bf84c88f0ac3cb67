"""Who can newly talk to whom, and who no longer: two revisions of the objects compared.

Nothing here knows a catalogue: identities, workloads and request classes come from the objects of
both revisions, and every verdict from their policies.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np

from semantics.authorization import Guard
from semantics.conditions import Dimension
from semantics.describe import peers_text, values_text
from semantics.objects import MeshObjects, Workload
from semantics.regions import DENY, PORT, Grid, Mask, Space, space_of, verdicts
from semantics.request import principal_of
from semantics.servers import servers
from semantics.witnesses import OTHER_NAME

Identity = tuple[str, str]


class Change(StrEnum):
    """What became of a pair, the most dangerous first."""

    OPENED = "opened"
    """They could not talk at all, now they can."""
    WIDENED = "widened"
    """They could talk; now also about more."""
    CHANGED = "changed"
    """Some requests are newly let in, others no longer."""
    NARROWED = "narrowed"
    CLOSED = "closed"
    """They could talk, now not at all."""


@dataclass(frozen=True)
class Box:
    """A set of requests: for each dimension named, the values; all others do not matter."""

    constraints: tuple[tuple[Dimension, tuple[Any, ...]], ...]

    def __str__(self) -> str:
        if not self.constraints:
            return "any request"
        return ", ".join(values_text(d, values) for d, values in self.constraints)


@dataclass(frozen=True)
class PairChange:
    """One or several callers whose access to one workload changed in the same way."""

    workload: Workload
    callers: tuple[str | None, ...]
    change: Change
    gained: tuple[Box, ...]
    lost: tuple[Box, ...]
    complete: bool = True
    """False: the policies tell apart more requests than could be tried."""
    excluded: tuple[str | None, ...] = ()
    """Callers that may do nothing of what these gained."""

    @property
    def caller(self) -> str:
        """The callers in words."""
        if self.workload.gateway and None in self.callers:
            return "clients from outside"
        return peers_text(self.callers, self.workload.namespace, self.excluded)


def compare(old: MeshObjects, new: MeshObjects) -> list[PairChange]:
    """All pairs whose access changed, the most dangerous first.

    A workload that is in one revision only is compared with nobody being let in. A caller that is
    in one revision only likewise, so a new caller shows up with everything it may reach.
    """
    before = {str(w): w for w in old.workloads}
    after = {str(w): w for w in new.workloads}
    # A workload that only policies tell of is there still when they are gone.
    implied = {key: w for key, w in {**after, **before}.items() if w.implied}
    before, after = implied | before, implied | after
    appeared = new.identities - old.identities
    vanished = old.identities - new.identities
    changes: list[PairChange] = []
    for key in sorted({*before, *after}):
        guards = (
            Guard(before[key], old) if key in before else None,
            Guard(after[key], new) if key in after else None,
        )
        changes += _Comparison(guards, appeared, vanished, old.identities | new.identities).rows()
    order = list(Change)
    return sorted(changes, key=lambda c: (order.index(c.change), str(c.workload), c.caller))


@dataclass(frozen=True)
class _Comparison:
    """One workload in both revisions."""

    guards: tuple[Guard | None, Guard | None]
    appeared: frozenset[Identity]
    vanished: frozenset[Identity]
    identities: frozenset[Identity]

    def rows(self) -> Iterator[PairChange]:
        old, new = self.guards
        same = old is not None and new is not None and old.fingerprint == new.fingerprint
        if same and not self.appeared and not self.vanished:
            return
        present = [guard for guard in self.guards if guard is not None]
        space = space_of(present, self.identities)
        peers = space.axes[0].classes
        before = np.zeros(space.shape, np.uint8) if old is None else verdicts(old, space)
        after = np.zeros(space.shape, np.uint8) if new is None else verdicts(new, space)
        anyone = self._anyone(peers)
        for index, members in enumerate(peers):
            if same and not self._moves(members):
                continue
            reachable = self._reachable(space, members)
            told = anyone is not None and anyone != index and None not in members
            for callers, was, becomes in self._split(members, before[index], after[index]):
                met = np.where(reachable[0], was, DENY), np.where(reachable[0], becomes, DENY)
                gained, lost = met[1] > met[0], met[1] < met[0]
                if told and not lost.any():
                    # Of a caller that comes, what any identity may is no news; of one that was
                    # there, what any identity newly may.
                    coming = all(_identity(caller) in self.appeared for caller in callers)
                    earlier = np.zeros_like(was) if coming else before[anyone]
                    if not (gained & ~(after[anyone] > earlier)).any():
                        continue
                if gained.any() or lost.any():
                    row = self._row(space, callers, *met)
                    yield replace(row, excluded=_excluded(peers, after, gained))

    def _anyone(self, peers: Sequence[Sequence[str | None]]) -> int | None:
        """The class that stands for every identity of the mesh; at a gateway there is none."""
        if any(guard is not None and guard.workload.gateway for guard in self.guards):
            return None
        stand_in = principal_of(OTHER_NAME, OTHER_NAME)
        return next((i for i, members in enumerate(peers) if stand_in in members), None)

    def _reachable(self, space: Space, members: Sequence[str | None]) -> Mask:
        """The ports that callers meet: at a gateway clients and mesh identities have their own."""
        workload, objects = next((g.workload, g.objects) for g in reversed(self.guards) if g)
        if not workload.gateway:
            return np.ones([1] * len(space.axes), dtype=bool)
        mutual = {s.port for s in servers(objects) if s.mutual and str(s.workload) == str(workload)}
        outside = None in members
        axis = space.axis(PORT)
        assert axis is not None
        return space.along(PORT, [(port in mutual) is not outside for port in axis.representatives])

    def _moves(self, members: Sequence[str | None]) -> bool:
        return any(_identity(m) in self.appeared | self.vanished for m in members)

    def _split(
        self, members: Sequence[str | None], before: Grid, after: Grid
    ) -> Iterator[tuple[tuple[str | None, ...], Grid, Grid]]:
        """One class parted into callers there were, callers that come, callers that go.

        A caller that comes or goes while others of its class stay is no news where the class is
        open to anyone: it is told only of callers that the policies name.
        """
        nobody = np.zeros_like(before)
        staying = tuple(m for m in members if _identity(m) not in self.appeared | self.vanished)
        coming = tuple(m for m in members if _identity(m) in self.appeared)
        going = tuple(m for m in members if _identity(m) in self.vanished)
        if staying:
            yield staying, before, after
            anyone = any(_is_stand_in(m) for m in staying)
            if anyone:
                return
        if coming:
            yield coming, nobody, after
        if going:
            yield going, before, nobody

    def _row(
        self, space: Space, callers: tuple[str | None, ...], before: Grid, after: Grid
    ) -> PairChange:
        workload = next(g.workload for g in reversed(self.guards) if g is not None)
        gained, lost = (after > before), (after < before)
        return PairChange(
            workload=workload,
            callers=callers,
            change=_kind(before, after),
            gained=tuple(boxes(space, gained)),
            lost=tuple(boxes(space, lost)),
            complete=space.complete,
        )


def _excluded(
    peers: Sequence[Sequence[str | None]], after: Grid, gained: Mask
) -> tuple[str | None, ...]:
    """Of all callers those that may do nothing of what some gained."""
    if not gained.any():
        return ()
    return tuple(
        member
        for index, members in enumerate(peers)
        if not (gained & (after[index] != DENY)).any()
        for member in members
    )


def _kind(before: Grid, after: Grid) -> Change:
    if not (before != DENY).any():
        return Change.OPENED
    if not (after != DENY).any():
        return Change.CLOSED
    gained, lost = (after > before).any(), (after < before).any()
    if gained and lost:
        return Change.CHANGED
    return Change.WIDENED if gained else Change.NARROWED


def allowed_callers(
    guard: Guard, identities: Iterable[Identity]
) -> list[tuple[str, tuple[Box, ...]]]:
    """Who may call a workload and with what: (callers in words, what they may send)."""
    space = space_of([guard], identities)
    grid = verdicts(guard, space)
    return [
        (peers_text(members), tuple(boxes(space, grid[index] != DENY)))
        for index, members in enumerate(space.axes[0].classes)
        if (grid[index] != DENY).any()
    ]


def boxes(space: Space, mask: Mask) -> Iterator[Box]:
    """A mask over all dimensions but the peer as few readable sets of requests."""
    axes = space.axes[1:]
    order, parts = min(_decompositions(mask), key=lambda found: len(found[1]))
    for part in parts:
        constraints = sorted(
            (place, part[index])
            for index, place in enumerate(order)
            if len(part[index]) < len(axes[place].classes)
        )
        yield Box(
            tuple(
                (axes[place].dimension, tuple(v for i in chosen for v in axes[place].classes[i]))
                for place, chosen in constraints
            )
        )


_Part = tuple[tuple[int, ...], ...]


def _decompositions(mask: Mask) -> Iterator[tuple[tuple[int, ...], list[_Part]]]:
    """The mask cut into boxes, once for each dimension that may be cut first."""
    for first in range(max(mask.ndim, 1)):
        order = (first, *(i for i in range(mask.ndim) if i != first)) if mask.ndim else ()
        yield order, list(_parts(np.transpose(mask, order)))


def _parts(mask: Mask) -> Iterator[_Part]:
    """The mask as disjoint products of index sets, one set for each axis."""
    if not mask.any():
        return
    if mask.ndim == 0:
        yield ()
        return
    slices: dict[bytes, list[int]] = {}
    for index in range(mask.shape[0]):
        if mask[index].any():
            slices.setdefault(np.packbits(mask[index]).tobytes(), []).append(index)
    for indices in slices.values():
        for rest in _parts(mask[indices[0]]):
            yield (tuple(indices), *rest)


def _identity(peer: str | None) -> Identity | None:
    if peer is None:
        return None
    parts = peer.split("/")
    return (parts[4], parts[6]) if len(parts) == 7 else None


def _is_stand_in(peer: str | None) -> bool:
    return peer is not None and "some-other" in peer
