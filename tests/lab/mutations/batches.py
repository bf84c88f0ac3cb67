"""Which mutations may be tried at the same time: those that no contract has to notice both of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from components.objects import reference
from tests.lab.mutations.mutation import Mutation, Object

LARGEST = 40
"""Mutations at a time: the more there are, the sooner one hides another."""


def meant(mutation: Mutation, contracts: Sequence[str]) -> frozenset[str]:
    """The ids of the contracts that must notice a mutation."""
    return frozenset(one for one in contracts if mutation.meant(one))


@dataclass(frozen=True)
class _Effect:
    mutation: Mutation
    meant: frozenset[str]
    changed: frozenset[str]
    """Objects that are changed or removed."""
    removed: frozenset[str]

    def apart(self, other: _Effect) -> bool:
        """Whether the two can be tried together, and each failure be told to be one's."""
        if self.mutation.alone or other.mutation.alone:
            return False
        if self.mutation.id in other.mutation.apart_from:
            return False
        if other.mutation.id in self.mutation.apart_from:
            return False
        gone = (self.removed & other.changed) | (other.removed & self.changed)
        # What fails by chance shows nothing of a mutation that it is meant to notice.
        chance = (self.meant & set(other.mutation.may_fail)) | (
            other.meant & set(self.mutation.may_fail)
        )
        return not gone and not chance and not self.meant & other.meant


def batches(
    mutations: Sequence[Mutation],
    contracts: Sequence[str],
    objects: Sequence[Object],
    largest: int = LARGEST,
    costly: frozenset[str] = frozenset(),
) -> list[list[Mutation]]:
    """All mutations in as few batches as come of putting each into the first that it fits.

    In a batch each contract is meant by one mutation at most, so that each failure is one
    mutation's, none fails by another's chance, and no mutation removes what another changes. What
    needs a restart of istiod stands together, and so do mutations meant by contracts that are
    costly to run.
    """
    found: list[list[_Effect]] = []
    before = {reference(one): one for one in objects}
    effects = [_effect(one, contracts, before) for one in mutations]
    effects.sort(key=lambda one: (one.mutation.control_plane is None, not one.meant & costly))
    for effect in effects:
        for batch in found:
            if len(batch) < largest and all(effect.apart(one) for one in batch):
                batch.append(effect)
                break
        else:
            found.append([effect])
    return [[one.mutation for one in batch] for batch in found]


def _effect(mutation: Mutation, contracts: Sequence[str], before: dict[str, Object]) -> _Effect:
    after = {reference(one): one for one in mutation.of(list(before.values()))}
    changed = frozenset(name for name, one in before.items() if after.get(name) != one)
    return _Effect(mutation, meant(mutation, contracts), changed, changed - after.keys())
