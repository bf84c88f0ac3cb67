"""The access section: who can newly talk to whom, what became public or lost its token."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from diff.changes import Change, Effect, Section
from semantics import access, exposure
from semantics.describe import listed
from semantics.objects import MeshObjects

BOXES = 4
"""How many kinds of requests are written out for one pair."""


def section(old: MeshObjects, new: MeshObjects) -> Section:
    """Access as the policies of both revisions grant it, the opened first."""
    public = [_public(change) for change in exposure.compare(old, new)]
    pairs = _merged(access.compare(old, new))
    order = list(Effect)
    return Section(
        "access",
        "Access",
        tuple(sorted([*public, *pairs], key=lambda change: order.index(change.effect))),
    )


def _public(change: exposure.ExposureChange) -> Change:
    methods = listed(change.methods) if len(change.methods) < 8 else "any method"
    service = f" → {change.service}" if change.service else ""
    return Change(
        subject=f"client → {change.host} {listed(change.paths)} ({methods}){service}",
        field="from outside the mesh",
        before=change.before.text,
        after=change.after.text,
        effect=Effect.WEAKER if change.opens else _tightened(change),
        note="" if change.opens else change.after.by,
    )


def _tightened(change: exposure.ExposureChange) -> Effect:
    """Less than before is stricter; the same level in other words has to be looked at."""
    if change.after.level < change.before.level:
        return Effect.STRICTER
    return Effect.WEAKER


_FIELDS = {
    access.Change.OPENED: "can newly talk",
    access.Change.WIDENED: "may say more",
    access.Change.CHANGED: "may say other things",
    access.Change.NARROWED: "may say less",
    access.Change.CLOSED: "can no longer talk",
}


def _merged(changes: Iterable[access.PairChange]) -> list[Change]:
    """One line for all callers whose access to a workload changed alike."""
    groups: dict[tuple[str, access.Change, str, str, bool], list[str]] = {}
    for change in changes:
        key = (
            str(change.workload),
            change.change,
            _requests(change.gained),
            _requests(change.lost),
            change.complete,
        )
        groups.setdefault(key, []).append(change.caller)
    return [
        Change(
            subject=f"{'; '.join(dict.fromkeys(callers))} → {workload}",
            field=_FIELDS[kind],
            before=lost or None,
            after=gained or None,
            effect=(
                Effect.STRICTER
                if kind in (access.Change.NARROWED, access.Change.CLOSED)
                else Effect.WEAKER
            ),
            note="" if complete else "more kinds of requests than could be compared",
        )
        for (workload, kind, gained, lost, complete), callers in groups.items()
    ]


def _requests(boxes: Sequence[access.Box]) -> str:
    texts = list(dict.fromkeys(str(box) for box in boxes))
    more = f"; and {len(texts) - BOXES} more kinds" if len(texts) > BOXES else ""
    return "; ".join(texts[:BOXES]) + more
