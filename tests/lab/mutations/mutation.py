"""A mutation: one mistake in the deployed objects, and the contracts that must notice it."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]
Objects = list[Object]
Change = Callable[[Objects], Objects | None]
"""Edits the stack's objects in place; returns them only where some are added or removed."""
ValuesChange = Callable[[dict[str, Any]], None]
"""Edits the istiod chart's values in place; `meshConfig` is one of them."""


class NothingToMutate(LookupError):
    """The stack holds nothing that the mutation is about, so that it proves nothing."""


@dataclass(frozen=True)
class Mutation:
    """One mistake that a person could make, and who must notice it."""

    id: str
    """Subject and name: `authorization.caller-added`."""
    what: str
    """The mistake in a few words, as a table shows it."""
    caught_by: tuple[str, ...]
    """Ids of exactly the contracts that fail; with a `*` at the end all that begin so."""
    change: Change | None = None
    control_plane: ValuesChange | None = None
    """For mistakes in what istiod is started with; it is restarted with the changed values."""
    apart_from: tuple[str, ...] = ()
    """Ids of mutations that can't be tried with this one: together they would let a contract pass that
    must fail, or make one fail that neither alone does."""
    may_fail: tuple[str, ...] = ()
    """Ids of contracts that the mistake makes fail by chance: they need not notice it, and are not
    held against it."""
    alone: bool = False
    """True where nothing else may be wrong at the same time, or the two could hide each other."""

    def of(self, objects: Sequence[Object]) -> Objects:
        """A changed copy of the stack's objects.

        Raises:
            NothingToMutate: nothing is changed.
        """
        mutant: Objects = json.loads(json.dumps(list(objects)))
        if self.change:
            mutant = self.change(mutant) or mutant
            if mutant == list(objects):
                raise NothingToMutate(f"{self.id}: the objects are as before")
        return mutant

    def of_values(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """A changed copy of istiod's values.

        Raises:
            NothingToMutate: nothing is changed.
        """
        mutant = copy.deepcopy(dict(values))
        if self.control_plane:
            self.control_plane(mutant)
            if mutant == values:
                raise NothingToMutate(f"{self.id}: istiod's values are as before")
        return mutant

    def meant(self, contract: str) -> bool:
        """Whether the contract of that id must notice the mistake."""
        return any(matches(pattern, contract) for pattern in self.caught_by)


def matches(pattern: str, contract: str) -> bool:
    """Whether a contract's id is meant by a pattern of `caught_by`."""
    if pattern.endswith("*"):
        return contract.startswith(pattern[:-1])
    return contract == pattern


# How mutations find what they change


def named(objects: Objects, kind: str, name: str) -> Object:
    """The object of that kind and name.

    Raises:
        NothingToMutate: there is none.
    """
    for one in of_kind(objects, kind):
        if one["metadata"]["name"] == name:
            return one
    raise NothingToMutate(f"no {kind} {name}")


def of_kind(objects: Objects, kind: str) -> Iterator[Object]:
    """All objects of a kind."""
    return (one for one in objects if one["kind"] == kind)


def without(objects: Objects, *gone: Object) -> Objects:
    """The objects without some."""
    return [one for one in objects if not any(one is each for each in gone)]
