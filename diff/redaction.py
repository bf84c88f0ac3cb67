"""Secrets leave an object before anything of it is shown.

A redacted value still shows whether it changed: equal values read `(redacted)` on both sides,
different ones `(redacted, before)` and `(redacted, after)`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

SAME, BEFORE, AFTER = "(redacted)", "(redacted, before)", "(redacted, after)"

_WORDS = r"pass(?:word|wd|phrase)?|pwd|secret|token|credentials?|api[-_]?key|private[-_]?key"
_WORDS += (
    r"|authorization|access[-_]?key(?:[-_]?id)?|client[-_]?secret|auth[-_]?key|signing[-_]?key"
)
_HEADER_KEY = re.compile(r"^request\.headers\[(?P<name>.*)\]$")
_STRING_MATCH = frozenset({"exact", "prefix", "regex"})
_SECRET_NAME = re.compile(rf"(?:^|[-_.a-z0-9])(?:{_WORDS})s?$", re.IGNORECASE)
_PASSWORD_NAME = re.compile(r"pass(?:word|wd|phrase)?s?$|pwd$|secrets?$", re.IGNORECASE)
_ENV_NAME = re.compile(rf"(?:{_WORDS}|(?:^|_)KEY(?:$|_))", re.IGNORECASE)
_IN_TEXT = re.compile(
    rf"(?P<name>[\w.-]*(?:{_WORDS})[\"']?\s*[:=]\s*[\"']?)(?P<value>[^\s\"',;}}]+)", re.IGNORECASE
)
_USERINFO = re.compile(r"(?P<name>[a-z][a-z0-9+.-]*://[^/\s:@]*:)(?P<value>[^@/\s]+)(?=@)", re.I)
_BEARER = re.compile(r"(?P<name>\b(?:Bearer|Basic)\s+)(?P<value>[A-Za-z0-9._~+/=-]{8,})")
_PEM = re.compile(
    r"(?P<name>-----BEGIN [A-Z ]*PRIVATE KEY-----)(?P<value>.*?)(?=-----END)", re.DOTALL
)
_REFERENCE = re.compile(r"^(?:\$\{[^}]*\}|\{\{.*\}\}|%[A-Z_(].*%)$")


def redacted(old: Any, new: Any) -> tuple[Any, Any]:
    """Both sides of an object without their secrets; None stands for an object that is not there."""
    everything = any(isinstance(o, Mapping) and o.get("kind") == "Secret" for o in (old, new))
    return _pair(old, new, "", everything=everything)


def _pair(old: Any, new: Any, name: str, *, everything: bool) -> tuple[Any, Any]:
    if isinstance(old, Mapping) or isinstance(new, Mapping):
        return _mappings(old, new, name, everything=everything)
    if isinstance(old, list) or isinstance(new, list):
        return _lists(old, new, name, everything=everything)
    if name and _SECRET_NAME.search(name):
        return _hidden(old, new, numbers=bool(_PASSWORD_NAME.search(name)))
    return _texts(old, new)


def _mappings(old: Any, new: Any, name: str, *, everything: bool) -> tuple[Any, Any]:
    was = old if isinstance(old, Mapping) else {}
    becomes = new if isinstance(new, Mapping) else {}
    left: dict[Any, Any] = {}
    right: dict[Any, Any] = {}
    env = _ENV_NAME.search(str(becomes.get("name", was.get("name", ""))))
    header = _HEADER_KEY.match(str(becomes.get("key", was.get("key", ""))))
    compared = header is not None and _SECRET_NAME.search(header["name"]) is not None
    matched = bool(name) and _SECRET_NAME.search(name) is not None
    for key in dict.fromkeys((*was, *becomes)):
        a, b = was.get(key), becomes.get(key)
        if everything and key in ("data", "stringData"):
            x, y = _all_hidden(a, b)
        elif (key == "value" and env) or (key in _STRING_MATCH and matched):
            x, y = _hidden(a, b)
        elif key in ("values", "notValues") and compared:
            x, y = (_each_hidden(side, a == b, mark) for side, mark in ((a, BEFORE), (b, AFTER)))
        else:
            x, y = _pair(a, b, str(key), everything=False)
        if key in was:
            left[key] = x
        if key in becomes:
            right[key] = y
    return (
        left if isinstance(old, Mapping) else old,
        right if isinstance(new, Mapping) else new,
    )


def _lists(old: Any, new: Any, name: str, *, everything: bool) -> tuple[Any, Any]:
    was = old if isinstance(old, list) else []
    becomes = new if isinstance(new, list) else []
    by_name = {e["name"]: e for e in was if isinstance(e, Mapping) and "name" in e}
    left = [
        _pair(e, _twin(e, becomes, i), name, everything=everything)[0] for i, e in enumerate(was)
    ]
    right = [
        _pair(
            by_name.get(e["name"]) if isinstance(e, Mapping) and "name" in e else _at(was, i),
            e,
            name,
            everything=everything,
        )[1]
        for i, e in enumerate(becomes)
    ]
    return (left if isinstance(old, list) else old, right if isinstance(new, list) else new)


def _twin(entry: Any, others: list[Any], index: int) -> Any:
    """The entry of the other list that goes with this one: by name, else by place."""
    if isinstance(entry, Mapping) and "name" in entry:
        return next(
            (o for o in others if isinstance(o, Mapping) and o.get("name") == entry["name"]), None
        )
    return _at(others, index)


def _at(values: list[Any], index: int) -> Any:
    return values[index] if index < len(values) else None


def _all_hidden(old: Any, new: Any) -> tuple[Any, Any]:
    was, becomes = old or {}, new or {}
    if not isinstance(was, Mapping) or not isinstance(becomes, Mapping):
        return _hidden(old, new)
    pairs = {key: _hidden(was.get(key), becomes.get(key)) for key in (*was, *becomes)}
    return (
        {key: pairs[key][0] for key in was} if old is not None else None,
        {key: pairs[key][1] for key in becomes} if new is not None else None,
    )


def _each_hidden(values: Any, same: bool, mark: str) -> Any:
    return [SAME if same else mark for _ in values] if isinstance(values, list) else values


def _hidden(old: Any, new: Any, *, numbers: bool = True) -> tuple[Any, Any]:
    """Both values hidden; truth values and references to a secret hide nothing.

    Numbers stay where the name may well be a count (`maxTokens`).
    """

    def hide(value: Any, mark: str) -> Any:
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int | float) and not numbers:
            return value
        return value if isinstance(value, str) and _REFERENCE.match(value) else mark

    if old == new:
        return hide(old, SAME), hide(new, SAME)
    return hide(old, BEFORE), hide(new, AFTER)


def _texts(old: Any, new: Any) -> tuple[Any, Any]:
    """Secrets inside longer text: configuration files, addresses with a password, PEM keys."""
    left, right = _secrets(old), _secrets(new)
    if not left and not right:
        return old, new
    same = left & right
    return _cleaned(old, same, BEFORE), _cleaned(new, same, AFTER)


def _secrets(text: Any) -> set[str]:
    if not isinstance(text, str):
        return set()
    return {
        match["value"]
        for pattern in (_IN_TEXT, _USERINFO, _BEARER, _PEM)
        for match in pattern.finditer(text)
        if not _harmless(match["value"])
    }


def _cleaned(text: Any, same: set[str], mark: str) -> Any:
    if not isinstance(text, str):
        return text

    def replace(match: re.Match[str]) -> str:
        if _harmless(match["value"]):
            return match[0]
        return match["name"] + (SAME if match["value"] in same else mark)

    for pattern in (_PEM, _USERINFO, _BEARER, _IN_TEXT):
        text = pattern.sub(replace, text)
    return text


def _harmless(value: str) -> bool:
    return bool(_REFERENCE.match(value)) or value in ("true", "false", "null")
