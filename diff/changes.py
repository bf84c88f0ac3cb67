"""The words of a difference: sections of changes, each with what was and what becomes."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Effect(StrEnum):
    """Which way a change goes for whoever protects the mesh."""

    WEAKER = "weaker"
    STRICTER = "stricter"
    NEUTRAL = "neutral"


class Status(StrEnum):
    """What became of an object."""

    ADDED = "added"
    CHANGED = "changed"
    REMOVED = "removed"


@dataclass(frozen=True)
class Change:
    """One line for the reviewer."""

    subject: str
    """What it is about: a pair, a route, an object's field."""
    field: str
    """What of it: `may call`, `timeout`, `mode`."""
    before: str | None
    """None: was not there."""
    after: str | None
    """None: is gone."""
    effect: Effect = Effect.NEUTRAL
    note: str = ""


@dataclass(frozen=True)
class Section:
    """Changes of one subject, weaker ones first."""

    key: str
    title: str
    changes: tuple[Change, ...]

    @property
    def weaker(self) -> int:
        """How many changes open or weaken something."""
        return sum(change.effect is Effect.WEAKER for change in self.changes)


@dataclass(frozen=True)
class ObjectChange:
    """One object that was added, changed or removed."""

    kind: str
    namespace: str
    name: str
    status: Status
    lines: tuple[str, ...]
    """Unified diff of the YAML, secrets redacted."""

    def __str__(self) -> str:
        place = f"{self.namespace}/" if self.namespace else ""
        return f"{self.kind} {place}{self.name}"


@dataclass(frozen=True)
class KindCount:
    """Objects of one kind that changed."""

    kind: str
    added: int = 0
    changed: int = 0
    removed: int = 0


@dataclass(frozen=True)
class Diff:
    """The whole difference, most dangerous part first."""

    sections: tuple[Section, ...]
    objects: tuple[ObjectChange, ...]
    notes: tuple[str, ...] = ()
    """What a reader has to know of how the difference was made."""
    counts: tuple[KindCount, ...] = field(default=())
    unjudged: tuple[str, ...] = ()
    """Kinds of changed objects of which no section judges everything: a person has to look."""

    @property
    def empty(self) -> bool:
        """True where not a single object differs."""
        return not self.objects

    @property
    def weaker(self) -> int:
        """How many changes open or weaken something."""
        return sum(section.weaker for section in self.sections)
