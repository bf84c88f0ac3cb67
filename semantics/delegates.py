"""VirtualServices that another one hands requests to: their routes as Istio merges them.

Source: https://istio.io/latest/docs/reference/config/networking/virtual-service/#Delegate
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_INHERITED = (
    "rewrite",
    "directResponse",
    "timeout",
    "retries",
    "fault",
    "mirror",
    "mirrors",
    "mirrorPercentage",
    "corsPolicy",
)
"""What a delegate's route takes over where it says nothing itself."""
_TEXTS = ("uri", "scheme", "method", "authority")
_BY_NAME = ("headers", "queryParams", "withoutHeaders", "sourceLabels")


def merged(root: Mapping[str, Any], own: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """A delegate's route with what the route that hands over to it says; None where Istio drops it.

    Istio drops a route whose matches are not within those of the root.
    """
    asked, wanted = tuple(root.get("match") or ()), tuple(own.get("match") or ())
    matches = [narrowed(wide, narrow) for wide in asked or ({},) for narrow in wanted or ({},)]
    kept = [match for match in matches if match is not None]
    if not kept:
        return None
    inherited = {key: root[key] for key in _INHERITED if key in root}
    route = {**inherited, **own, "match": kept}
    names = [str(part["name"]) for part in (root, own) if part.get("name")]
    if names:
        route["name"] = "-".join(names)
    if root.get("headers") or own.get("headers"):
        route["headers"] = _headers(root.get("headers") or {}, own.get("headers") or {})
    return route


def narrowed(wide: Mapping[str, Any], narrow: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Both matches at once; None where the narrow one is not within the wide one."""
    found = {**wide, **narrow}
    for key in _TEXTS:
        if not _within(wide.get(key), narrow.get(key)):
            return None
    for key in _BY_NAME:
        first, second = wide.get(key) or {}, narrow.get(key) or {}
        if not all(_within(first.get(name), second.get(name)) for name in first):
            return None
        if first or second:
            found[key] = {**first, **second}
    return found


def _within(wide: Any, narrow: Any) -> bool:
    """Whether a text match lies in another, as far as Istio compares them."""
    if not wide or not narrow or wide == narrow:
        return True
    if not isinstance(wide, Mapping) or not isinstance(narrow, Mapping):
        return False
    if "prefix" not in wide:
        return False
    value = narrow.get("exact", narrow.get("prefix"))
    return value is not None and str(value).startswith(str(wide["prefix"]))


def _headers(root: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for part in ("request", "response"):
        first, second = root.get(part) or {}, own.get(part) or {}
        changes: dict[str, Any] = {}
        for how in ("set", "add"):
            if first.get(how) or second.get(how):
                changes[how] = {**(first.get(how) or {}), **(second.get(how) or {})}
        if first.get("remove") or second.get("remove"):
            changes["remove"] = [*(first.get("remove") or ()), *(second.get("remove") or ())]
        if changes:
            found[part] = changes
    return found
