"""Which mutations may be tried at the same time: those that no contract has to notice both of."""

from __future__ import annotations

from collections.abc import Sequence

from tests.lab.mutations.mutation import Mutation

LARGEST = 10
"""Mutations at a time: the more there are, the sooner one hides another."""


def meant(mutation: Mutation, contracts: Sequence[str]) -> frozenset[str]:
    """The ids of the contracts that must notice a mutation."""
    return frozenset(one for one in contracts if mutation.meant(one))


def batches(
    mutations: Sequence[Mutation], contracts: Sequence[str], largest: int = LARGEST
) -> list[list[Mutation]]:
    """All mutations in as few batches as come of putting each into the first that it fits.

    In a batch each contract is meant by one mutation at most, so that each failure is one
    mutation's. What needs a restart of istiod stands together.
    """
    found: list[list[Mutation]] = []
    for mutation in sorted(mutations, key=lambda one: one.control_plane is None):
        for batch in found:
            if len(batch) < largest and all(_apart(mutation, one, contracts) for one in batch):
                batch.append(mutation)
                break
        else:
            found.append([mutation])
    return found


def _apart(one: Mutation, other: Mutation, contracts: Sequence[str]) -> bool:
    if one.alone or other.alone:
        return False
    return not meant(one, contracts) & meant(other, contracts)
