"""Whether one ALLOW rule lets in requests of another and asks less of them."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from policies.regions import (
    METHOD,
    PATH,
    PORT,
    TOKEN,
    Region,
    field_name,
    holding,
    parts,
    samples,
)
from semantics.conditions import Condition, Dimension
from semantics.strings import MATCH_ANY

_CHANGING = ("GET", "POST", "PUT", "PATCH", "DELETE")
"""Whoever may use all of these may do anything."""
_ADDRESSES = {"source_ip", "remote_ip"}
_ANYBODY = {"header", "sni", "destination_ip"}
"""What every caller can bring along."""
_WRITABLE = {*_ANYBODY, "host"}
"""What protects nothing where it is lost: every caller can write it."""
_SLICES = {*_ANYBODY, "method", "port", "host", "source_ip"}
"""What says nothing of who the caller is, and what the caller chooses or anybody has: a rule that is
limited to some of it undoes the other for that part."""


@dataclass(frozen=True)
class Surroundings:
    """What is known of the pods that two rules share."""

    ports: frozenset[int] = frozenset()
    """Ports the pods serve; empty where nobody knows."""
    audiences: frozenset[str] = frozenset()
    """Audiences that their RequestAuthentications take at all."""
    routed: frozenset[str] = frozenset()
    """Where the paths begin that gateways route to them; empty where nobody knows."""


class Comparison:
    """Compares rules of a mesh with each other, and each pair of conditions once."""

    def __init__(self) -> None:
        self._takes: dict[Any, bool] = {}
        self._lost: dict[Any, tuple[str, ...]] = {}

    def lost(
        self, wide: Region, narrow: Region, around: Surroundings, *, declared: bool
    ) -> tuple[str, ...]:
        """What `narrow` asks and `wide`, which takes in some of its requests, does not.

        With `declared`, `wide` is an opening that somebody has declared, with its limits.
        """
        mine, theirs = wide.dimensions(), narrow.dimensions()
        pairs = {
            d: _Pair(d, wide.on(d), narrow.on(d), around) for d in dict.fromkeys(mine + theirs)
        }
        free = _ANYBODY if declared else _SLICES
        for dimension in mine:
            slices = dimension.kind in free and dimension not in theirs
            if not slices and not _known(self._takes, pairs[dimension], _Pair.takes):
                return ()
        found = {d: _known(self._lost, pairs[d], _Pair.lost) for d in theirs}
        if not any(fields for d, fields in found.items() if d.kind not in _WRITABLE):
            return ()
        return tuple(field for fields in found.values() for field in fields)


_Found = TypeVar("_Found")


def _known(store: dict[Any, _Found], pair: _Pair, find: Callable[[_Pair], _Found]) -> _Found:
    key = pair.written()
    if key not in store:
        store[key] = find(pair)
    return store[key]


@dataclass(frozen=True)
class _Pair:
    """What two rules ask in one dimension."""

    dimension: Dimension
    wide: tuple[Condition, ...]
    narrow: tuple[Condition, ...]
    around: Surroundings

    def written(self) -> tuple[Any, ...]:
        """The same for pairs that are written alike."""
        around = self.around if self.dimension in (PORT, TOKEN, PATH) else None
        return (self.dimension, _written(self.wide), _written(self.narrow), around)

    def takes(self) -> bool:
        """Whether the wide rule takes in everything that one pattern of the narrow rule does."""
        values = self._values()
        mine = holding(self._loosened(), values)
        theirs = parts(self.narrow, values) if self.narrow else [(1 << len(values)) - 1]
        return any(part & ~mine == 0 for part in theirs) or self._unlimited()

    def lost(self) -> tuple[str, ...]:
        """Fields of the narrow rule past which the wide one reaches.

        A caller or path that the wide rule names itself is granted on purpose, and so is all that is
        below a path which is routed to the pods. A pattern that takes in what the narrow rule
        names, and more, is what undoes it.
        """
        values, wide = self._values(), self._loosened()
        reaching = [holding(wide, values)] if self._unlimited() else []
        if self.dimension.kind not in _SLICES | _ADDRESSES:
            theirs = parts(self.narrow, values)
            mine = parts(tuple(self._unmeant(c) for c in wide), values)
            reaching += [p for p in mine if any(part & ~p == 0 for part in theirs)]
        return tuple(
            field_name(condition)
            for condition in self.narrow
            if any(reach & ~holding((condition,), values) for reach in reaching)
        )

    def _values(self) -> list[Any]:
        return samples(self.dimension, (*self.wide, *self.narrow), self.around.ports)

    def _loosened(self) -> tuple[Condition, ...]:
        return tuple(_loosened(condition, self.around) for condition in self.wide)

    def _unmeant(self, condition: Condition) -> Condition:
        """A condition without the paths that are granted on purpose."""
        if self.dimension != PATH or condition.negated:
            return condition
        kept = [i for i, value in enumerate(condition.values) if not self._meant(value)]
        return replace(
            condition,
            values=tuple(condition.values[i] for i in kept),
            tests=tuple(condition.tests[i] for i in kept),
        )

    def _meant(self, path: str) -> bool:
        """Whether a path is below one that is routed here, or at least below a whole segment."""
        begin = path.partition("*")[0].rstrip("{").rstrip("/")
        if self.around.routed:
            return any(f"{begin}/".startswith(f"{each}/") for each in self.around.routed)
        return "/" in path.removeprefix("/") and begin not in ("", "/")

    def _unlimited(self) -> bool:
        """Whether the wide rule takes everything, though it may have conditions."""
        values, wide = self._values(), self._loosened()
        return all(c.holds(value) for c in wide for value in values) or _in_effect_all(
            self.dimension, wide, self.around
        )


def _written(conditions: Iterable[Condition]) -> tuple[Any, ...]:
    """Conditions as they are written; a service account without namespace depends on its policy."""
    return tuple(
        (c.key, c.values, c.negated, c.tests if "erviceAccount" in c.key else ())
        for c in conditions
    )


def _loosened(condition: Condition, around: Surroundings) -> Condition:
    """The condition of a wide rule without what every request fulfils, or every client can."""
    if condition.negated:
        return condition
    if condition.dimension == TOKEN and (
        ("*" in condition.values and condition.key.startswith("request.auth."))
        or (
            condition.key == "request.auth.audiences"
            and around.audiences
            and around.audiences <= set(condition.values)
        )
    ):
        # Some value of a claim that every token has, or an audience that every one has.
        return replace(condition, tests=(lambda token: token is not None,))
    if condition.dimension == PATH and any(_begins_anywhere(v) for v in condition.values):
        return replace(condition, values=("*",), tests=(lambda _: True,))
    return condition


def _begins_anywhere(path: str) -> bool:
    """Whether a client gets every path by what it appends."""
    return path.startswith(("*", f"/{MATCH_ANY}"))


def _in_effect_all(
    dimension: Dimension, conditions: Sequence[Condition], around: Surroundings
) -> bool:
    """Whether the conditions take everything that there is to take."""
    if not conditions:
        return True
    if dimension == METHOD:
        return all(c.holds(method) for c in conditions for method in _CHANGING)
    if dimension == PORT and around.ports:
        return all(c.holds(port) for c in conditions for port in around.ports)
    if dimension.kind in _ADDRESSES:
        return all(not c.negated and _every_address(c.values) for c in conditions)
    return False


def _every_address(blocks: Iterable[str]) -> bool:
    """Whether address ranges take in all of IPv4, in one piece or in several."""
    networks = [ipaddress.ip_network(block, strict=False) for block in blocks]
    four = [n for n in networks if isinstance(n, ipaddress.IPv4Network)]
    return any(n.prefixlen == 0 for n in ipaddress.collapse_addresses(four))
