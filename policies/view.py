"""Turns what the engine hands to policies into plain data.

The engine's properties are proxies: mappings and sequences that are no dict and no list, whole
numbers that arrive as floats, and values that are not known before the update. A value that is not
known stays in its place and raises `UnknownValue` when a rule reads it, so that exactly the
policies that need it fail, and none is skipped in silence.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pulumi_policy import PolicyResource, ResourceValidationArgs
from pulumi_policy.proxy import UnknownValueError

from policies.policy import Object

RELEASE = "kubernetes:helm.sh/v3:Release"


class UnknownValue(Exception):
    """A rule read a value that is known only after the update."""

    def __init__(self, path: str) -> None:
        super().__init__(f"the value at {path or 'the object'} is not known before the update")
        self.path = path


class _Unknown:
    """Stands where a value is not known."""

    def __init__(self, path: str) -> None:
        self.path = path


class _PartlyKnown(Mapping[str, Any]):
    """A mapping in which some values are not known."""

    def __init__(self, entries: dict[str, Any]) -> None:
        self._entries = entries

    def __getitem__(self, key: str) -> Any:
        return _known(self._entries[key])

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


class _PartlyKnownList(Sequence[Any]):
    """A sequence in which some values are not known."""

    def __init__(self, members: list[Any]) -> None:
        self._members = members

    def __getitem__(self, index: Any) -> Any:
        value = self._members[index]
        return [_known(one) for one in value] if isinstance(index, slice) else _known(value)

    def __len__(self) -> int:
        return len(self._members)


def _known(value: Any) -> Any:
    if isinstance(value, _Unknown):
        raise UnknownValue(value.path)
    return value


def plain(value: Any, path: str = "") -> Any:
    """The value as dicts, lists, whole numbers, texts and truth values."""
    if isinstance(value, Mapping):
        entries = {str(key): _entry(value, key, f"{path}.{key}".lstrip(".")) for key in value}
        unknown = any(isinstance(entry, _Unknown) for entry in entries.values())
        return _PartlyKnown(entries) if unknown else entries
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        members = [_entry(value, index, f"{path}[{index}]") for index in range(len(value))]
        unknown = any(isinstance(member, _Unknown) for member in members)
        return _PartlyKnownList(members) if unknown else members
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _entry(holder: Any, key: Any, path: str) -> Any:
    try:
        return plain(holder[key], path)
    except UnknownValueError:
        return _Unknown(path)


def object_of(resource: PolicyResource | ResourceValidationArgs) -> Object | None:
    """The Kubernetes object that a resource declares, None for anything else.

    A Helm release becomes a virtual object of kind Release with chart and values as its spec.
    """
    if resource.resource_type == RELEASE:
        properties = plain(resource.props)
        return {
            "apiVersion": "helm.sh/v3",
            "kind": "Release",
            "metadata": {
                "name": properties.get("name") or resource.name,
                "namespace": properties.get("namespace") or "default",
            },
            "spec": properties,
        }
    if not resource.resource_type.startswith("kubernetes:"):
        return None
    if resource.resource_type.endswith("Patch") and ".istio.io/" not in resource.resource_type:
        return None  # a few fields of an object that someone else declares
    properties = plain(resource.props)
    if "apiVersion" not in properties or "kind" not in properties:
        return None
    assert isinstance(properties, Mapping)
    return properties


def objects_of(
    resources: Iterable[PolicyResource],
) -> list[tuple[PolicyResource, Object]]:
    """Every resource that declares a Kubernetes object, with the object."""
    return [(each, item) for each in resources if (item := object_of(each)) is not None]
