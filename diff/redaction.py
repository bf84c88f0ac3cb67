"""Secrets leave an object before anything of it is shown.

A redacted value still shows whether it changed: equal values read `(redacted)` on both sides,
different ones `(redacted, before)` and `(redacted, after)`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from diff import secret_documents
from diff.secret_names import holds_secrets, is_password, is_secret, pairs_secret, refers
from diff.secret_texts import (
    Span,
    cookie_spans,
    follows_option,
    harmless,
    ordered,
    replaced,
    spans,
)

SAME, BEFORE, AFTER = "(redacted)", "(redacted, before)", "(redacted, after)"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
"""Annotation in which kubectl keeps the whole object once more, secrets and all."""
_WRITTEN_BY_THE_CLUSTER = frozenset(
    {"managedFields", "resourceVersion", "uid", "generation", "creationTimestamp", "selfLink"}
)

_WHOLE_OBJECTS = frozenset(
    {
        *(LAST_APPLIED, "kapp.k14s.io/original"),
        *("objectset.rio.cattle.io/applied", "banzaicloud.com/last-applied"),
    }
)
"""Annotations in which a tool keeps what it applied."""
_DOCUMENTS = 3
"""How many documents, each the text of another, are read."""
_COOKIES = frozenset({"cookie", "set-cookie"})
_OF_A_PRIVATE_JWK = frozenset({"k", "d", "p", "q", "dp", "dq", "qi", "oth"})
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
_STRUCTURED_MATCH = frozenset({"string_match", "stringMatch", "safe_regex_match", "safeRegexMatch"})
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
    notes = kept.get("annotations")
    if isinstance(notes, Mapping) and not _WHOLE_OBJECTS.isdisjoint(notes):
        kept["annotations"] = {k: v for k, v in notes.items() if k not in _WHOLE_OBJECTS}
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
    return _pair(old, new, _At())


class _At(NamedTuple):
    """Where a value stands: what its name and those above it tell of it."""

    name: str = ""
    within: bool = False
    """Below a name that is a secret's."""
    held: bool = False
    """In a mapping whose values are secrets under names of its own."""
    cookies: bool = False
    """In the value of a cookie header, or in a match on one."""
    listed: bool = False
    """An item of a list of Secrets."""
    documents: int = 0
    """In how many documents, each the text of another."""

    def below(self, key: str, *, cookies: bool = False, listed: bool = False) -> _At:
        within = self.within or (bool(self.name) and is_secret(self.name))
        return self._replace(
            name=key,
            within=within,
            held=holds_secrets(self.name) or (within and self.name == "literal"),
            cookies=self.cookies or cookies or key.lower() in _COOKIES,
            listed=listed,
        )


def _pair(old: Any, new: Any, at: _At) -> tuple[Any, Any]:
    """Both sides of a value."""
    if isinstance(old, Mapping) or isinstance(new, Mapping):
        return _mappings(old, new, at)
    if isinstance(old, list) or isinstance(new, list):
        return _lists(old, new, at)
    if at.name and is_secret(at.name):
        return _hidden(old, new, numbers=is_password(at.name))
    if (at.within and at.name in _INLINE) or (at.held and not refers(at.name)):
        return _hidden(old, new, numbers=False)
    return _texts(old, new, at)


def _mappings(old: Any, new: Any, at: _At) -> tuple[Any, Any]:
    was = old if isinstance(old, Mapping) else {}
    becomes = new if isinstance(new, Mapping) else {}
    sides = (was, becomes)
    secret = at.listed or any(_is_secret(side) for side in sides)
    left: dict[Any, Any] = {}
    right: dict[Any, Any] = {}
    hides = _hiding(sides, at)
    cookies = any(str(side.get(key, "")).lower() in _COOKIES for side in sides for key in _NAMED_BY)
    for key in dict.fromkeys((*was, *becomes)):
        a, b = was.get(key), becomes.get(key)
        if secret:
            x, y = _of_a_secret(str(key), a, b)
        elif (hide := hides(str(key))) is not None:
            x, y = hide(a, b)
        elif key == "args" and isinstance(a or b, list):
            x, y = _lists(a, b, at.below("args"), (was.get("command"), becomes.get("command")))
        else:
            listed = key == "items" and any(side.get("kind") == "SecretList" for side in sides)
            x, y = _pair(a, b, at.below(str(key), cookies=cookies, listed=listed))
        if key in was:
            left[key] = x
        if key in becomes:
            right[key] = y
    return (
        left if isinstance(old, Mapping) else _alone(old, at),
        right if isinstance(new, Mapping) else _alone(new, at),
    )


_Hide = Callable[[Any, Any], tuple[Any, Any]]


def _hiding(sides: Sequence[Mapping[Any, Any]], at: _At) -> Callable[[str], _Hide | None]:
    """What a mapping's other fields and its name tell of a field: how to hide it, None if not."""
    named = any(_names_a_secret(side) for side in sides)
    compared = any(_compares_a_secret(side) for side in sides)
    matched = bool(at.name) and is_secret(at.name)
    key_of_a_client = holds_secrets(at.name) and any("client" in side for side in sides)
    jwk = any("kty" in side for side in sides)
    elsewhere = all("remoteRef" in side or "sourceRef" in side for side in sides if side)

    def hide(key: str) -> _Hide | None:
        if (named and key in _VALUES) or (matched and key in _STRING_MATCH):
            return _hidden
        if key in _WHOLE_OBJECTS or (jwk and key in _OF_A_PRIVATE_JWK):
            return _hidden
        if key_of_a_client and key == "key":
            return _hidden
        if named and key in _STRUCTURED_MATCH:
            return _each_hidden
        if compared and key in ("values", "notValues"):
            return _listed_hidden
        # An ExternalSecret's: a key of the Secret that will be made.
        return _as_they_are if elsewhere and key == "secretKey" else None

    return hide


def _as_they_are(old: Any, new: Any) -> tuple[Any, Any]:
    return old, new


def _alone(value: Any, at: _At) -> Any:
    """A side that is no mapping (or list) while the other one is."""
    return value if value is None else _pair(value, value, at._replace(within=True))[0]


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
    return any(pairs_secret(str(pair.get(key, ""))) for key in _NAMED_BY)


def _compares_a_secret(condition: Mapping[Any, Any]) -> bool:
    """Whether a condition of an AuthorizationPolicy compares a header that is a credential."""
    header = _HEADER_KEY.match(str(condition.get("key", "")))
    return header is not None and is_secret(header["name"])


def _lists(
    old: Any, new: Any, at: _At, commands: tuple[Any, Any] = (None, None)
) -> tuple[Any, Any]:
    """Both sides of a list; `commands` are what stands before it where it is one of arguments."""
    was = old if isinstance(old, list) else []
    becomes = new if isinstance(new, list) else []
    left = [
        _entry(e, _twin(e, becomes, i), at, _is_argument(commands[0], was, i))[0]
        for i, e in enumerate(was)
    ]
    right = [
        _entry(_twin(e, was, i), e, at, _is_argument(commands[1], becomes, i))[1]
        for i, e in enumerate(becomes)
    ]
    return (
        left if isinstance(old, list) else _alone(old, at),
        right if isinstance(new, list) else _alone(new, at),
    )


def _entry(old: Any, new: Any, at: _At, hidden: bool) -> tuple[Any, Any]:
    return _hidden(old, new) if hidden else _pair(old, new, at)


def _is_argument(command: Any, values: list[Any], index: int) -> bool:
    """Whether a value of a list is an argument that the option before it makes a secret."""
    first = command if isinstance(command, list) else []
    return follows_option((*first, *values), len(first) + index)


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


def _texts(old: Any, new: Any, at: _At) -> tuple[Any, Any]:
    """Secrets inside longer texts."""
    left, right = (
        _spans(side, cookies=at.cookies, documents=at.documents) if isinstance(side, str) else ()
        for side in (old, new)
    )
    if not left and not right:
        return old, new
    same = _values(old, left) & _values(new, right)
    return _cleaned(old, left, same, BEFORE), _cleaned(new, right, same, AFTER)


@lru_cache(maxsize=256)  # Most texts are the same on both sides.
def _spans(text: str, *, cookies: bool = False, documents: int = 0) -> tuple[Span, ...]:
    """Where the secrets of a text stand, those included that it holds as a YAML document."""
    found = cookie_spans(text) if cookies else spans(text)
    if documents == _DOCUMENTS:
        return tuple(found)
    at = _At(documents=documents + 1)
    within = secret_documents.places(
        text,
        lambda value: _pair(value, value, at)[0],
        lambda part: _spans(part, documents=documents + 1),
        SAME,
    )
    return tuple(ordered((*found, *within)))


def _values(text: Any, places: Sequence[Span]) -> set[str]:
    return {text[p.start : p.end] for p in places}


def _cleaned(text: Any, places: Sequence[Span], same: set[str], mark: str) -> Any:
    if not places:
        return text
    return replaced(text, places, [SAME if text[p.start : p.end] in same else mark for p in places])
