"""Facts about objects, and what changed among them: the common ground of the sections."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import takewhile
from typing import Any, NamedTuple

from diff.changes import Change, Effect

Object = Mapping[str, Any]


class Fact(NamedTuple):
    """One thing that is so: the subject's field has a value."""

    subject: str
    field: str
    value: str


Judge = Callable[[str, str | None, str | None], Effect]
"""Which way a field's change goes: (field, before, after)."""


def neutral(_field: str, _before: str | None, _after: str | None) -> Effect:
    """The judge of fields that protect nothing."""
    return Effect.NEUTRAL


def compare(
    old: Iterable[Fact], new: Iterable[Fact], judge: Judge = neutral, whole: Judge | None = None
) -> list[Change]:
    """The facts that changed, the weakening ones first.

    Where a subject as a whole came or went, its fields are told in one line, and `whole` judges
    each of them (without it, `judge`).
    """
    before, after = _by_subject(old), _by_subject(new)
    changes: list[Change] = []
    for subject in sorted({*before, *after}):
        was, becomes = before.get(subject, {}), after.get(subject, {})
        if not was or not becomes:
            changes.append(_whole(subject, was, becomes, whole or judge))
            continue
        for field in dict.fromkeys((*was, *becomes)):
            if was.get(field) != becomes.get(field):
                effect = judge(field, was.get(field), becomes.get(field))
                values = shortened(was.get(field), becomes.get(field))
                changes.append(Change(subject, field, *values, effect))
    return _grouped(changes)


def _grouped(changes: Iterable[Change]) -> list[Change]:
    """Changes that are the same but for their subject in one line, the weakening ones first."""
    order = list(Effect)
    groups: dict[Change, list[str]] = {}
    for change in sorted(changes, key=lambda c: (order.index(c.effect), c.subject)):
        groups.setdefault(replace(change, subject=""), []).append(change.subject)
    return [replace(change, subject=together(subjects)) for change, subjects in groups.items()]


SUBJECTS = 12
"""How many subjects of one line are named."""


def together(subjects: Sequence[str]) -> str:
    """Several subjects as one text; those with the same first words say these once."""
    shown = [subject.split(" ") for subject in subjects[:SUBJECTS]]
    groups: dict[str, list[list[str]]] = {}
    for words in shown:
        groups.setdefault(words[0], []).append(words)
    texts = []
    for group in groups.values():
        alike = takewhile(lambda words: len(set(words)) == 1, zip(*group, strict=False))
        shared = [words[0] for words in alike]
        rest = [" ".join(words[len(shared) :]) or "(itself)" for words in group]
        first = " ".join(shared)
        texts.append(first if len(group) == 1 else f"{first}: {', '.join(rest)}")
    if len(subjects) > SUBJECTS:
        texts.append(f"and {len(subjects) - SUBJECTS} more")
    return "; ".join(texts)


LONG_LIST = 3
"""Lists of more values are shown by what differs only."""


def shortened(before: str | None, after: str | None) -> tuple[str | None, str | None]:
    """Two long lists reduced to what left the one and what came into the other."""
    if before is None or after is None:
        return before, after
    was, becomes = before.split(", "), after.split(", ")
    if max(len(was), len(becomes)) <= LONG_LIST or sorted(was) == sorted(becomes):
        return before, after
    gone, come = ([v for v in a if v not in b] for a, b in ((was, becomes), (becomes, was)))
    same = len(was) - len(gone)
    rest = f"{same} others" if same != 1 else "1 other"
    return ", ".join([*gone, rest]), ", ".join([*come, rest])


def _whole(
    subject: str, was: Mapping[str, str], becomes: Mapping[str, str], judge: Judge
) -> Change:
    effects = {judge(f, was.get(f), becomes.get(f)) for f in (*was, *becomes)}
    worst = next(effect for effect in Effect if effect in effects)
    if becomes:
        return Change(subject, "", None, _listed(becomes), worst)
    return Change(subject, "", _listed(was), None, worst)


TOLD = 6
"""How many fields of a subject that is new or gone are told; its object shows the others."""


def _listed(fields: Mapping[str, str]) -> str:
    texts = [f"{field} {value}" for field, value in fields.items()]
    more = len(texts) - TOLD
    return "; ".join([*texts[:TOLD], *([f"and {more} more settings"] if more > 0 else [])])


def _by_subject(facts: Iterable[Fact]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for fact in facts:
        found.setdefault(fact.subject, {})[fact.field] = fact.value
    return found


def flat(value: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every scalar below a value with its path; lists of scalars are one value."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from flat(inner, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(value, list | tuple):
        if all(not isinstance(each, Mapping | list | tuple) for each in value):
            yield prefix, ", ".join(scalar(each) for each in value)
        else:
            for index, inner in enumerate(value):
                yield from flat(inner, f"{prefix}[{_mark(inner, index)}]")
    elif value is not None:
        yield prefix, scalar(value)


def _mark(entry: Any, index: int) -> str:
    """What tells an entry of a list from its neighbours: its name where it has one."""
    if isinstance(entry, Mapping):
        for key in ("name", "match", "header", "key"):
            if isinstance(entry.get(key), str):
                return str(entry[key])
    return str(index)


def scalar(value: Any) -> str:
    """A scalar as YAML writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def label(item: Object) -> str:
    """How an object is named to people: `Kind namespace/name`."""
    metadata = item.get("metadata") or {}
    namespace = f"{metadata['namespace']}/" if metadata.get("namespace") else ""
    return f"{item.get('kind')} {namespace}{metadata.get('name', '')}"


def spec(item: Object) -> Mapping[str, Any]:
    """The object's spec, empty where it has none."""
    return item.get("spec") or {}


def of_kind(objects: Iterable[Object], kind: str) -> list[Object]:
    """The objects of a kind."""
    return [item for item in objects if item.get("kind") == kind]
