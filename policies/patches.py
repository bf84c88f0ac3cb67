"""Reading EnvoyFilters: their patches, with Envoy's fields under one name however they are written.

Source: https://istio.io/latest/docs/reference/config/networking/envoy-filter/
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from policies.policy import Object, spec_of

CHANGING = ("REMOVE", "REPLACE", "MERGE", "MERGE_AND_REPLACE_LIST")
"""Operations on what is there already."""
_CAPITAL = re.compile(r"(?<=[a-z0-9])([A-Z])")
_NAMES_BELOW = {"typed_per_filter_config", "filter_metadata", "typed_filter_metadata"}
"""Fields whose keys are names that somebody chose, and no fields of Envoy."""


def patches(item: Object) -> Iterator[tuple[str, str, Mapping[str, Any], Mapping[str, Any]]]:
    """(path, what it applies to, match, patch) of each patch; values have Envoy's own field names."""
    for index, entry in enumerate(spec_of(item).get("configPatches") or ()):
        path = f"spec.configPatches[{index}]"
        patch = dict(entry.get("patch") or {})
        patch["value"] = _by_own_name(patch.get("value") or {})
        yield path, str(entry.get("applyTo")), entry.get("match") or {}, patch


def _by_own_name(value: Any, *, names: bool = False) -> Any:
    """The value with `typedConfig` as `typed_config`: Envoy reads both."""
    if isinstance(value, Mapping):
        renamed = {}
        for key, entry in value.items():
            own = str(key) if names else _CAPITAL.sub(r"_\1", str(key)).lower()
            renamed[own] = _by_own_name(entry, names=own in _NAMES_BELOW and not names)
        return renamed
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_by_own_name(entry) for entry in value]
    return value


def typed(patch: Mapping[str, Any]) -> Mapping[str, Any]:
    """The configuration of the filter that a patch brings, with its type under `@type`."""
    return opened((patch.get("value") or {}).get("typed_config") or {})


def opened(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """A typed configuration; one inside a TypedStruct is taken out."""
    if str(config.get("@type", "")).endswith(".TypedStruct"):
        return {**(config.get("value") or {}), "@type": str(config.get("type_url", ""))}
    return config


def anchors(match: Mapping[str, Any]) -> tuple[str, str]:
    """(network filter, HTTP filter) that a patch is anchored at; empty where it takes any."""
    chain = (match.get("listener") or {}).get("filterChain") or {}
    network = chain.get("filter") or {}
    return str(network.get("name", "")), str((network.get("subFilter") or {}).get("name", ""))


def fields(path: str, value: Any) -> Iterator[tuple[str, str, Any]]:
    """(path, name, value) of every field below a value."""
    if isinstance(value, Mapping):
        for key, entry in value.items():
            yield f"{path}.{key}", str(key), entry
            yield from fields(f"{path}.{key}", entry)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for index, entry in enumerate(value):
            yield from fields(f"{path}[{index}]", entry)
