"""The limits section: local and global rate limits, body limits, and what happens on failure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from diff.changes import Effect, Section
from diff.facts import Fact, Object, compare, flat, label, of_kind, scalar, spec

_BODY = {"max_request_bytes", "maxRequestBytes"}
_BUCKET = {"token_bucket", "tokenBucket"}
_FAILURE = {"failure_mode_deny", "failureModeDeny", "failure_mode_allow", "failureModeAllow"}
_STREAM = {"max_concurrent_streams", "maxConcurrentStreams"}
_BYPASS = {"disabled"}


def section(old: Sequence[Object], new: Sequence[Object]) -> Section:
    """Every limit that an EnvoyFilter or the rate-limit service's configuration sets."""
    return Section("limits", "Rate and size limits", tuple(compare(facts(old), facts(new), judge)))


def judge(field: str, before: str | None, after: str | None) -> Effect:
    """A limit that goes or grows is weaker; one that comes or shrinks, stricter."""
    if field.endswith(tuple(_FAILURE)):
        deny = "deny" in field.lower()
        return Effect.STRICTER if (after == "true") == deny else Effect.WEAKER
    if field.endswith("disabled"):
        return Effect.WEAKER if after == "true" else Effect.STRICTER
    if after is None:
        return Effect.WEAKER
    if before is None:
        return Effect.STRICTER
    low, high = _rate(before), _rate(after)
    if low is None or high is None or low == high:
        return Effect.NEUTRAL
    return Effect.WEAKER if high > low else Effect.STRICTER


_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "ms": 0.001}


def _rate(text: str) -> float | None:
    """Requests a second of `100 per second, burst 50`, or the plain number."""
    words = text.replace(",", "").split()
    try:
        amount = float(words[0])
    except (IndexError, ValueError):
        return None
    if len(words) >= 3 and words[1] == "per":
        return amount / (_SECONDS.get(words[2]) or _duration(words[2]) or 1.0)
    return amount


def _duration(text: str) -> float | None:
    digits = text.rstrip("smh")
    try:
        return float(digits) * _UNITS.get(text[len(digits) :], 1.0)
    except ValueError:
        return None


def facts(objects: Sequence[Object]) -> Iterator[Fact]:
    """Limits by the object they stand in and the way to them."""
    for item in of_kind(objects, "EnvoyFilter"):
        for patch in spec(item).get("configPatches") or ():
            yield from _limits(label(item), patch.get("patch") or {}, _place(patch))
    for item in of_kind(objects, "ConfigMap"):
        for name, text in (item.get("data") or {}).items():
            if isinstance(text, str) and "requests_per_unit" in text:
                yield from _service_limits(label(item), name, text)


def _place(patch: Mapping[str, Any]) -> str:
    """Which route or listener a patch is for."""
    match = patch.get("match") or {}
    configuration = match.get("routeConfiguration") or {}
    host = configuration.get("vhost") or {}
    names = (configuration.get("name"), host.get("name"), (host.get("route") or {}).get("name"))
    return " ".join(str(name) for name in names if name)


def _limits(subject: str, value: Any, where: str) -> Iterator[Fact]:
    if isinstance(value, list):
        for entry in value:
            yield from _limits(subject, entry, f"{where} {_entries(entry)}".strip())
        return
    if not isinstance(value, Mapping):
        return
    for key, inner in value.items():
        if key in _BUCKET and isinstance(inner, Mapping):
            yield Fact(f"{subject} {where}".strip(), "requests", _bucket(inner))
        elif key in _BODY:
            number = inner.get("value") if isinstance(inner, Mapping) else inner
            yield Fact(f"{subject} {where}".strip(), "largest body", f"{number} bytes")
        elif key in _FAILURE | _STREAM | _BYPASS:
            number = inner.get("value") if isinstance(inner, Mapping) else inner
            yield Fact(f"{subject} {where}".strip(), key, scalar(number))
        elif key == "descriptors" and isinstance(inner, list):
            for descriptor in inner:
                yield from _limits(subject, descriptor, f"{where} {_entries(descriptor)}".strip())
        elif key == "name" and isinstance(inner, str):
            continue
        else:
            yield from _limits(subject, inner, where)


def _entries(value: Any) -> str:
    """A descriptor's keys, to tell it from its neighbours."""
    entries = value.get("entries") if isinstance(value, Mapping) else None
    if not isinstance(entries, list):
        return ""
    return ",".join(
        f"{e.get('key')}={e['value']}" if e.get("value") else f"{e.get('key')}"
        for e in entries
        if isinstance(e, Mapping)
    )


def _bucket(bucket: Mapping[str, Any]) -> str:
    def number(*keys: str) -> Any:
        for key in keys:
            if key in bucket:
                value = bucket[key]
                return value.get("value") if isinstance(value, Mapping) else value
        return None

    most = number("max_tokens", "maxTokens")
    fill = number("tokens_per_fill", "tokensPerFill") or 1
    every = number("fill_interval", "fillInterval")
    return f"{fill} per {every}, at once {most}"


def _service_limits(subject: str, name: str, text: str) -> Iterator[Fact]:
    """The rate-limit service's own configuration: domain, nested descriptors, unit and number."""
    config = yaml.safe_load(text)
    if not isinstance(config, Mapping):
        return
    domain = config.get("domain", name)

    def walk(descriptors: Any, way: str) -> Iterator[Fact]:
        for descriptor in descriptors or ():
            here = str(descriptor.get("key"))
            if descriptor.get("value") is not None:
                here += f"={descriptor['value']}"
            place = f"{way} {here}".strip()
            limit = descriptor.get("rate_limit")
            if limit:
                rate = f"{limit.get('requests_per_unit')} per {limit.get('unit')}"
                if limit.get("unlimited"):
                    rate = "unlimited"
                yield Fact(f"{subject} domain {domain} {place}", "requests", rate)
                others = {k: v for k, v in limit.items() if k not in ("unit", "requests_per_unit")}
                for path, value in flat(others):
                    yield Fact(f"{subject} domain {domain} {place}", path, value)
            if descriptor.get("shadow_mode"):
                yield Fact(f"{subject} domain {domain} {place}", "shadow_mode", "true")
            yield from walk(descriptor.get("descriptors"), place)

    yield from walk(config.get("descriptors"), "")
