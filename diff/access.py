"""The access section: who can newly talk to whom, what became public or lost its token."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from diff.changes import Change, Effect, Section
from semantics import access, exposure
from semantics.describe import listed, paths_text, values_text
from semantics.objects import MeshObjects
from semantics.requirements import Level

UNNAMED = "any port not named"
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
    methods = f" ({values_text(exposure.METHODS, change.methods)})" if change.methods else ""
    service = f" → {change.service}" if change.service else ""
    paths = listed(paths_text(change.paths))
    instead = f", answered by {change.instead_of}" if change.instead_of else ""
    return Change(
        subject=f"client → {change.host} {paths}{methods}{service}",
        field="newly reached from outside" if instead else "from outside the mesh",
        before=change.before.text + instead,
        after=change.after.text,
        effect=Effect.WEAKER if change.opens else _tightened(change),
        note="" if change.opens else change.after.by,
    )


def _tightened(change: exposure.ExposureChange) -> Effect:
    """Less than before is stricter; the same level in other words has to be looked at."""
    if max(change.before.level, change.after.level) <= Level.REFUSED:
        return Effect.NEUTRAL
    return Effect.STRICTER if change.after.level < change.before.level else Effect.WEAKER


_FIELDS = {
    access.Change.OPENED: "can newly talk",
    access.Change.WIDENED: "may say more",
    access.Change.CHANGED: "may say other things",
    access.Change.NARROWED: "may say less",
    access.Change.CLOSED: "can no longer talk",
}
_AT_GATEWAY = {
    access.Change.OPENED: "newly get past the gateway",
    access.Change.WIDENED: "get past the gateway with more",
    access.Change.CHANGED: "get past the gateway with other things",
    access.Change.NARROWED: "get past the gateway with less",
    access.Change.CLOSED: "no longer get past the gateway",
}
_EFFECTS = {
    access.Change.OPENED: Effect.WEAKER,
    access.Change.WIDENED: Effect.WEAKER,
    access.Change.CHANGED: Effect.WEAKER,
    access.Change.NARROWED: Effect.STRICTER,
    access.Change.CLOSED: Effect.STRICTER,
}


_Alike = tuple[str, Effect, str, str, bool]


def _merged(changes: Iterable[access.PairChange]) -> list[Change]:
    """One line for all pairs whose access changed alike."""
    callers: dict[tuple[str, _Alike], list[str]] = {}
    for change in changes:
        alike = (
            (_AT_GATEWAY if change.workload.gateway else _FIELDS)[change.change],
            _EFFECTS[change.change],
            _requests(change.gained),
            _requests(change.lost),
            change.complete,
        )
        callers.setdefault((str(change.workload), alike), []).append(change.caller)
    workloads: dict[tuple[str, _Alike], list[str]] = {}
    for (workload, alike), who in callers.items():
        workloads.setdefault(("; ".join(dict.fromkeys(who)), alike), []).append(workload)
    return [
        Change(
            subject=f"{who} → {_places(places)}",
            field=field,
            before=lost or None,
            after=gained or None,
            effect=effect,
            note="" if complete else "more kinds of requests than could be compared",
        )
        for (who, (field, effect, gained, lost, complete)), places in workloads.items()
    ]


def _places(workloads: Sequence[str]) -> str:
    """Workloads, the namespace said once: `apps/{a, b}`."""
    by_namespace: dict[str, list[str]] = {}
    for workload in workloads:
        namespace, _, name = workload.partition("/")
        by_namespace.setdefault(namespace, []).append(name)
    return "; ".join(
        f"{namespace}/{names[0]}" if len(names) == 1 else f"{namespace}/{{{', '.join(names)}}}"
        for namespace, names in by_namespace.items()
    )


def _requests(boxes: Sequence[access.Box]) -> str:
    texts = list(dict.fromkeys(str(box) for box in boxes))
    # What may be said to ports that nothing names only counts where there is nothing else.
    texts = [text for text in texts if not text.startswith(UNNAMED)] or texts
    more = f"; and {len(texts) - BOXES} more kinds" if len(texts) > BOXES else ""
    return "; ".join(texts[:BOXES]) + more
