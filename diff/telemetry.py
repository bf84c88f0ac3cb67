"""The telemetry section: sampling, providers, tags, what is logged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from diff.changes import Effect, Section
from diff.facts import Fact, Object, compare, flat, label, of_kind, scalar, spec
from diff.mutual_tls import mesh_settings

_MESH_SETTINGS = (
    "accessLogFile",
    "accessLogEncoding",
    "enableTracing",
    "defaultProviders",
    "extensionProviders",
)


def section(old: Sequence[Object], new: Sequence[Object]) -> Section:
    """What the mesh tells of itself."""
    return Section("telemetry", "Telemetry", tuple(compare(facts(old), facts(new), judge)))


def judge(field: str, _before: str | None, after: str | None) -> Effect:
    """Access logs that are switched off leave no trace of an intruder."""
    if field.startswith("access log") and field.endswith("disabled") and after == "true":
        return Effect.WEAKER
    return Effect.NEUTRAL


def facts(objects: Sequence[Object]) -> Iterator[Fact]:
    """Each Telemetry object's settings, and meshConfig's providers."""
    for item in of_kind(objects, "Telemetry"):
        body = spec(item)
        for field, name in (
            ("tracing", "tracing"),
            ("metrics", "metrics"),
            ("accessLogging", "access log"),
        ):
            for index, entry in enumerate(body.get(field) or ()):
                nth = f" {index + 1}" if index else ""
                yield from _entry(label(item), f"{name}{nth}", entry)
        for path, value in flat(body.get("selector")):
            yield Fact(label(item), f"selector {path}", value)
    yield from mesh_settings(objects, _MESH_SETTINGS)


def _entry(subject: str, name: str, entry: Any) -> Iterator[Fact]:
    providers = ", ".join(str(p.get("name")) for p in entry.get("providers") or ())
    if providers:
        yield Fact(subject, f"{name} providers", providers)
    if "randomSamplingPercentage" in entry:
        yield Fact(subject, f"{name} sampling", f"{scalar(entry['randomSamplingPercentage'])} %")
    known = {"providers", "randomSamplingPercentage"}
    for path, value in flat({k: v for k, v in entry.items() if k not in known}):
        yield Fact(subject, f"{name} {path}", value)
