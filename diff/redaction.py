"""Secrets leave an object before anything of it is shown.

A redacted value still shows whether it changed: equal values read `(redacted)` on both sides,
different ones `(redacted, before)` and `(redacted, after)`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from diff.secret_texts import WORDS, Span, harmless, is_option, replaced, spans

SAME, BEFORE, AFTER = "(redacted)", "(redacted, before)", "(redacted, after)"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
"""Annotation in which kubectl keeps the whole object once more, secrets and all."""
_WRITTEN_BY_THE_CLUSTER = frozenset(
    {"managedFields", "resourceVersion", "uid", "generation", "creationTimestamp", "selfLink"}
)

_FILES = r"\.?dockerconfigjson|\.?dockercfg|htpasswd|\.pgpass|\.netrc|id_(?:rsa|dsa|ecdsa|ed25519)"
_FILES += r"|(?:tls|ssl|ca|server|client|private)[-_.]key|session_ticket_keys|auth"
_SECRET_NAME = re.compile(rf"(?:^|[-_.a-z0-9])(?:{WORDS})s?$|^(?:{_FILES})$", re.IGNORECASE)
_NAME = re.compile(rf"(?:{WORDS}|(?:^|_)KEY(?:$|_)|[._]auth$)", re.IGNORECASE)
"""Names in a pair of name and value: of variables, of headers, of Helm values with dots."""
_OF_TOKENS = re.compile(
    r"tokens?[-_.]?(?:count|limit|total|used|type|ttl|lifetime|audience|issuer|ur[il]|endpoint)s?",
    re.IGNORECASE,
)
"""What is said of tokens without one being in it."""
_PASSWORD_NAME = re.compile(r"pass(?:word|wd|phrase)?s?$|pwd$|secrets?$|^auth$", re.IGNORECASE)
_HEADER_KEY = re.compile(r"^request\.headers\[(?P<name>.*)\]$")
_NAMED_BY = (
    "name",
    "key",
    "header_name",
    "headerName",
    "header",
    "descriptor_key",
    "descriptorKey",
)
_VALUES = frozenset(
    {
        *("value", "raw_value", "rawValue", "default_value", "defaultValue"),
        *("descriptor_value", "descriptorValue"),
        *("exact_match", "prefix_match", "suffix_match", "contains_match"),
    }
)
_STRING_MATCH = frozenset({"exact", "prefix", "suffix", "contains", "regex"})
_INLINE = frozenset({"inline_string", "inlineString", "inline_bytes", "inlineBytes"})
_OF_A_SECRET = frozenset({"apiVersion", "kind", "type", "immutable"})
_OF_ITS_METADATA = frozenset({"name", "namespace", "labels"})
_NO_CREDENTIAL = frozenset({"basic", "enabled", "disabled", "required", "optional"})


def declared(item: Mapping[str, Any]) -> Mapping[str, Any]:
    """The object without what the cluster and kubectl write into it, status included."""
    metadata = item.get("metadata")
    if not isinstance(metadata, Mapping):
        return item
    kept = {k: v for k, v in metadata.items() if k not in _WRITTEN_BY_THE_CLUSTER}
    if isinstance(kept.get("annotations"), Mapping) and LAST_APPLIED in kept["annotations"]:
        kept["annotations"] = {k: v for k, v in kept["annotations"].items() if k != LAST_APPLIED}
        if not kept["annotations"]:
            del kept["annotations"]
    status = "status" in item and "spec" in item
    if len(kept) == len(metadata) and kept == metadata and not status:
        return item
    return {
        k: kept if k == "metadata" else v for k, v in item.items() if k != "status" or not status
    }


def redacted(old: Any, new: Any) -> tuple[Any, Any]:
    """Both sides of an object without their secrets; None stands for an object that is not there."""
    return _pair(old, new, "", within=False)


def _pair(old: Any, new: Any, name: str, *, within: bool) -> tuple[Any, Any]:
    """Both sides of a value. `within` is true below a name that is a secret's."""
    if isinstance(old, Mapping) or isinstance(new, Mapping):
        return _mappings(old, new, name, within=within)
    if isinstance(old, list) or isinstance(new, list):
        return _lists(old, new, name, within=within)
    if name and _SECRET_NAME.search(name):
        return _hidden(old, new, numbers=bool(_PASSWORD_NAME.search(name)))
    if within and name in _INLINE:
        return _hidden(old, new)
    return _texts(old, new)


def _mappings(old: Any, new: Any, name: str, *, within: bool) -> tuple[Any, Any]:
    was = old if isinstance(old, Mapping) else {}
    becomes = new if isinstance(new, Mapping) else {}
    secret = _is_secret(was) or _is_secret(becomes)
    named = _names_a_secret(was) or _names_a_secret(becomes)
    matched = bool(name) and _SECRET_NAME.search(name) is not None
    compared = any(_compares_a_secret(side) for side in (was, becomes))
    left: dict[Any, Any] = {}
    right: dict[Any, Any] = {}
    for key in dict.fromkeys((*was, *becomes)):
        a, b = was.get(key), becomes.get(key)
        if secret:
            x, y = _of_a_secret(str(key), a, b)
        elif (named and key in _VALUES) or (matched and key in _STRING_MATCH):
            x, y = _hidden(a, b)
        elif named and key in ("string_match", "stringMatch"):
            x, y = _each_hidden(a, b)
        elif key in ("values", "notValues") and compared:
            x, y = _listed_hidden(a, b)
        else:
            x, y = _pair(a, b, str(key), within=within or matched)
        if key in was:
            left[key] = x
        if key in becomes:
            right[key] = y
    return (
        left if isinstance(old, Mapping) else _alone(old, name),
        right if isinstance(new, Mapping) else _alone(new, name),
    )


def _alone(value: Any, name: str) -> Any:
    """A side that is no mapping (or list) while the other one is."""
    return value if value is None else _pair(value, value, name, within=True)[0]


def _is_secret(item: Mapping[Any, Any]) -> bool:
    """Whether a mapping is a Secret, at whatever depth it stands."""
    return item.get("kind") == "Secret" and bool({"metadata", "data", "stringData"} & set(item))


def _of_a_secret(key: str, old: Any, new: Any) -> tuple[Any, Any]:
    """A field of a Secret: all but what names it is hidden."""
    if key in _OF_A_SECRET:
        return old, new
    if key != "metadata":
        return _each_hidden(old, new)
    pairs = {}
    was, becomes = (side if isinstance(side, Mapping) else {} for side in (old, new))
    for field in dict.fromkeys((*was, *becomes)):
        a, b = was.get(field), becomes.get(field)
        pairs[field] = (a, b) if field in _OF_ITS_METADATA else _each_hidden(a, b)
    return (
        {f: pairs[f][0] for f in was} if isinstance(old, Mapping) else None,
        {f: pairs[f][1] for f in becomes} if isinstance(new, Mapping) else None,
    )


def _names_a_secret(pair: Mapping[Any, Any]) -> bool:
    """Whether a mapping pairs the name of a variable, a header or a setting with a secret value."""
    names = (_OF_TOKENS.sub("", str(pair.get(key, ""))) for key in _NAMED_BY)
    return any(_NAME.search(name) for name in names)


def _compares_a_secret(condition: Mapping[Any, Any]) -> bool:
    """Whether a condition of an AuthorizationPolicy compares a header that is a credential."""
    header = _HEADER_KEY.match(str(condition.get("key", "")))
    return header is not None and _SECRET_NAME.search(header["name"]) is not None


def _lists(old: Any, new: Any, name: str, *, within: bool) -> tuple[Any, Any]:
    was = old if isinstance(old, list) else []
    becomes = new if isinstance(new, list) else []
    left = [
        _entry(e, _twin(e, becomes, i), name, _option_before(was, i), within=within)[0]
        for i, e in enumerate(was)
    ]
    right = [
        _entry(_twin(e, was, i), e, name, _option_before(becomes, i), within=within)[1]
        for i, e in enumerate(becomes)
    ]
    return (
        left if isinstance(old, list) else _alone(old, name),
        right if isinstance(new, list) else _alone(new, name),
    )


def _entry(old: Any, new: Any, name: str, hidden: bool, *, within: bool) -> tuple[Any, Any]:
    return _hidden(old, new) if hidden else _pair(old, new, name, within=within)


def _option_before(values: list[Any], index: int) -> bool:
    """Whether the value before is an option of a command line that takes a secret."""
    before = values[index - 1] if index else None
    if not isinstance(before, str) or not isinstance(values[index], str | int):
        return False
    # redis-cli's own word for a password is a letter.
    return is_option(before) or (before == "-a" and "redis-cli" in values[:index])


def _twin(entry: Any, others: list[Any], index: int) -> Any:
    """The entry of the other list that goes with this one: the same, else by name, else by place."""
    if entry in others:
        return entry
    if isinstance(entry, Mapping) and "name" in entry:
        named = (o for o in others if isinstance(o, Mapping) and o.get("name") == entry["name"])
        return next(named, None)
    return others[index] if index < len(others) else None


def _each_hidden(old: Any, new: Any) -> tuple[Any, Any]:
    """The values of a mapping hidden, its keys shown; anything else hidden whole."""
    if not all(side is None or isinstance(side, Mapping) for side in (old, new)):
        return _hidden(old, new)
    was, becomes = old or {}, new or {}
    pairs = {key: _hidden(was.get(key), becomes.get(key)) for key in (*was, *becomes)}
    return (
        {key: pairs[key][0] for key in was} if old is not None else None,
        {key: pairs[key][1] for key in becomes} if new is not None else None,
    )


def _listed_hidden(old: Any, new: Any) -> tuple[Any, Any]:
    def hide(values: Any, mark: str) -> Any:
        shown = [SAME if old == new else mark for _ in values] if isinstance(values, list) else mark
        return None if values is None else shown

    return hide(old, BEFORE), hide(new, AFTER)


def _hidden(old: Any, new: Any, *, numbers: bool = True) -> tuple[Any, Any]:
    """Both values hidden; truth values and references to a secret hide nothing.

    Numbers stay where the name may well be a count (`maxTokens`).
    """

    def hide(value: Any, mark: str) -> Any:
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int | float) and not numbers:
            return value
        if isinstance(value, str) and (harmless(value) or value.lower() in _NO_CREDENTIAL):
            return value
        return mark

    if old == new:
        return hide(old, SAME), hide(new, SAME)
    return hide(old, BEFORE), hide(new, AFTER)


def _texts(old: Any, new: Any) -> tuple[Any, Any]:
    """Secrets inside longer texts."""
    left, right = (spans(side) if isinstance(side, str) else [] for side in (old, new))
    if not left and not right:
        return old, new
    same = _values(old, left) & _values(new, right)
    return _cleaned(old, left, same, BEFORE), _cleaned(new, right, same, AFTER)


def _values(text: Any, places: list[Span]) -> set[str]:
    return {text[p.start : p.end] for p in places}


def _cleaned(text: Any, places: list[Span], same: set[str], mark: str) -> Any:
    if not places:
        return text
    return replaced(text, places, [SAME if text[p.start : p.end] in same else mark for p in places])
