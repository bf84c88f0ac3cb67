"""Two sets of objects compared: the sections, then every object that differs."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml

from diff import access, mutual_tls, protection, rate_limits, routing, telemetry, wellformed
from diff.changes import Diff, KindCount, ObjectChange, Status
from diff.facts import Object
from diff.redaction import declared, redacted
from semantics import exposure
from semantics.objects import MeshObjects

Key = tuple[str, str, str, str]
"""(API group, kind, namespace, name): what stays when an object's version or content changes."""

CONTEXT = 3
"""Unchanged lines shown around a changed one."""


def diff_objects(
    old: Sequence[Object], new: Sequence[Object], *, notes: Iterable[str] = ()
) -> Diff:
    """What changes for people when `new` takes the place of `old`.

    Objects are plain dicts in any order. The same objects give an empty Diff.

    Raises:
        InvalidInput: an object's fields have other types than its kind's.
    """
    wellformed.check((*old, *new))
    before, after = _keyed(old), _keyed(new)
    changed = [k for k in {**before, **after} if before.get(k) != after.get(k)]
    if not changed:
        return Diff((), (), tuple(notes))
    pairs = {key: redacted(before.get(key), after.get(key)) for key in changed}
    # What is told of fields is told of redacted ones; policies are judged as they are.
    shown = (
        [pairs[key][0] if key in pairs else item for key, item in before.items()],
        [pairs[key][1] if key in pairs else item for key, item in after.items()],
    )
    views = (MeshObjects(old), MeshObjects(new))
    sections = (
        access.section(*views),
        mutual_tls.section(*shown, views),
        protection.section(*shown),
        routing.section(*shown),
        rate_limits.section(*shown),
        telemetry.section(*shown),
    )
    objects = tuple(_object_change(key, *pairs[key]) for key in sorted(changed))
    unjudged = (
        *protection.unjudged(change.kind for change in objects),
        *exposure.unjudged(*views),
    )
    return Diff(sections, objects, tuple(notes), _counts(objects), unjudged)


def _keyed(objects: Iterable[Object]) -> dict[Key, Object]:
    found: dict[Key, Object] = {}
    for item in objects:
        metadata = item.get("metadata") or {}
        group, slash, _ = str(item.get("apiVersion", "")).partition("/")
        key = (
            group if slash else "",
            str(item.get("kind", "")),
            str(metadata.get("namespace", "")),
            str(metadata.get("name", "")),
        )
        found[key] = declared(item)
    return found


def _object_change(key: Key, left: Object | None, right: Object | None) -> ObjectChange:
    _, kind, namespace, name = key
    status = Status.ADDED if left is None else Status.REMOVED if right is None else Status.CHANGED
    lines = difflib.unified_diff(_yaml(left), _yaml(right), lineterm="", n=CONTEXT)
    return ObjectChange(kind, namespace, name, status, tuple(lines)[2:])


class _Dumper(yaml.CSafeDumper):
    """Block text for several lines, so that a changed line of a file is one changed line."""


def _text(dumper: _Dumper, value: str) -> yaml.ScalarNode:
    style = "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


def _yaml(item: Mapping[str, Any] | None) -> list[str]:
    if item is None:
        return []
    text = yaml.dump(
        item,
        Dumper=_Dumper,
        sort_keys=True,
        default_flow_style=False,
        allow_unicode=True,
        width=1000,
    )
    return str(text).splitlines()


def _counts(objects: Iterable[ObjectChange]) -> tuple[KindCount, ...]:
    counts: dict[str, dict[str, int]] = {}
    for change in objects:
        of_kind = counts.setdefault(change.kind, {"added": 0, "changed": 0, "removed": 0})
        of_kind[change.status.value] += 1
    return tuple(KindCount(kind, **counts[kind]) for kind in sorted(counts))
