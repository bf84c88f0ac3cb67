"""What an apply does or did to each object, told from the objects themselves."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, NamedTuple

from components.objects import IGNORE_CHANGES, Manifest, reference

_SERVERS_OWN = ("managedFields", "resourceVersion", "generation", "uid", "creationTimestamp")
_BOOKKEEPING = "applyset.kubernetes.io/part-of"


class Action(StrEnum):
    """What happens to one object."""

    CREATED = "created"
    CHANGED = "changed"
    PRUNED = "pruned"
    UNCHANGED = "unchanged"


class Change(NamedTuple):
    """One object and what happens to it."""

    action: Action
    object: str
    """`Kind namespace/name`."""
    kind: str


def changes(before: Iterable[Manifest], after: Iterable[Manifest]) -> list[Change]:
    """How two states of one stack's objects differ; what is only in `before` was pruned."""
    old = {reference(one): one for one in before}
    new = {reference(one): one for one in after}
    found = []
    for name, one in new.items():
        if name not in old:
            action = Action.CREATED
        elif content(one) != content(old[name]):
            action = Action.CHANGED
        else:
            action = Action.UNCHANGED
        found.append(Change(action, name, one["kind"]))
    gone = [name for name in old if name not in new]
    return found + [Change(Action.PRUNED, name, old[name]["kind"]) for name in gone]


def content(manifest: Manifest) -> Manifest:
    """The object without what the API server and controllers keep in it for themselves."""
    stripped = {key: value for key, value in manifest.items() if key != "status"}
    metadata = {k: v for k, v in manifest["metadata"].items() if k not in _SERVERS_OWN}
    metadata["labels"] = {
        k: v for k, v in (metadata.get("labels") or {}).items() if k != _BOOKKEEPING
    }
    metadata["annotations"] = {
        key: value
        for key, value in (metadata.get("annotations") or {}).items()
        if not key.startswith("deployment.kubernetes.io/")
    }
    return {**stripped, "metadata": metadata}


def strays(declared: Iterable[Manifest], live: Iterable[Manifest]) -> list[Manifest]:
    """Declared objects of Istio's whose live spec says something else than they do.

    Server-side apply leaves fields alone that someone else has added, and an added `rules: [{}]`
    undoes a policy. Istio's kinds have no defaults that the server fills in, so whatever is not
    declared is such a field.
    """
    by_name = {reference(one): one for one in live}
    return [
        one
        for one in declared
        if is_istios(one)
        and (found := by_name.get(reference(one))) is not None
        and found.get("spec") != one.get("spec")
    ]


def is_istios(one: Manifest) -> bool:
    """True for Istio's own kinds."""
    group: str = one["apiVersion"].rpartition("/")[0]
    return group.endswith(".istio.io")


def keeping_ignored(manifest: Manifest, live: Manifest | None) -> Manifest:
    """The object with the live values at the paths that a controller owns.

    The paths stand in the annotation `voicemesh.io/ignore-changes`. Where the live object has
    another shape (a list of another length), the declared value stays.
    """
    paths = manifest["metadata"].get("annotations", {}).get(IGNORE_CHANGES, "")
    if not paths or live is None:
        return manifest
    kept = copy.deepcopy(manifest)
    for path in paths.split(","):
        _keep(kept, live, re.findall(r"\[\*\]|[^.\[\]]+", path))
    return kept


def _keep(declared: Any, live: Any, path: list[str]) -> None:
    match path:
        case ["[*]", *rest]:
            same = isinstance(declared, list) and isinstance(live, list)
            if same and len(declared) == len(live):
                for mine, theirs in zip(declared, live, strict=True):
                    _keep(mine, theirs, rest)
        case [key] if isinstance(live, Mapping) and isinstance(declared, dict):
            if key in live and key in declared:
                declared[key] = live[key]
        case [key, *rest] if isinstance(live, Mapping) and isinstance(declared, dict):
            if key in live and key in declared:
                _keep(declared[key], live[key], rest)
        case _:
            pass
