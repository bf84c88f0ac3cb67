"""The base of the generated wire types: what Kubernetes objects have in common.

The classes in components/istio and components/prometheus_operator are generated from CRDs (by
`python -m schema`) and derive from `Message` and `Manifest`. Fields have snake_case names in
Python and their own names on the wire; unknown fields and wrong types are refused when an object
is built, with the field's path in the message.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

_UNITS = {"ns": 1, "us": 1_000, "µs": 1_000, "ms": 10**6, "s": 10**9, "m": 60 * 10**9}
_UNITS["h"] = 60 * _UNITS["m"]
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")


def _nanoseconds(text: str) -> float:
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"{text!r} is not a duration; write it like 250ms, 1.5s, 2m, 1h30m")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def _duration(text: str) -> str:
    _nanoseconds(text)
    return text


def _positive_duration(text: str) -> str:
    if _nanoseconds(text) < _UNITS["ms"]:
        raise ValueError(f"{text!r} is too short; the least is 1ms")
    return text


Duration = Annotated[str, AfterValidator(_duration)]
"""Numbers with units as Go writes them: `250ms`, `1.5s`, `1h30m`; zero is `0s`."""
PositiveDuration = Annotated[str, AfterValidator(_positive_duration)]
"""A `Duration` of at least 1 ms."""
IntOrString = int | str
"""What Kubernetes marks x-kubernetes-int-or-string."""
Number = int | float
"""A JSON number, kept as written: 10 does not become 10.0."""

DnsSubdomain = Annotated[
    str,
    Field(
        max_length=253,
        pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
    ),
]
"""A Kubernetes object name (RFC 1123 subdomain)."""
DnsLabel = Annotated[str, Field(max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
"""A Kubernetes namespace name (RFC 1123 label)."""


class Message(BaseModel):
    """Part of an object on the wire: immutable, no unknown fields, no silent conversions."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        populate_by_name=True,
        serialize_by_alias=True,
        defer_build=True,  # thousands of fields: each class is built when it is first used
    )

    at_most_one: ClassVar[tuple[tuple[str, ...], ...]] = ()
    """Groups of fields of which only one may be set (protobuf's oneof)."""

    @model_validator(mode="after")
    def _only_one_of_a_group(self) -> Self:
        fields = type(self).model_fields
        for group in type(self).at_most_one:
            given = [name for name in group if getattr(self, name) is not None]
            if len(given) > 1:
                wire_names = [fields[name].alias or name for name in (*given, *group)]
                raise ValueError(
                    f"{' and '.join(wire_names[: len(given)])} exclude each other; "
                    f"set at most one of {', '.join(wire_names[len(given) :])}"
                )
        return self


class ObjectMeta(Message):
    """The part of a Kubernetes object's metadata that a client writes."""

    name: DnsSubdomain
    namespace: DnsLabel | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None


class Manifest(Message):
    """A whole Kubernetes object; a generated class gives apiVersion, kind and the type of spec."""

    def manifest(self) -> dict[str, Any]:
        """The object as it goes over the wire: plain data, wire names, a fixed order of fields.

        What was not set is left out; what was set empty stays (`spec: {}`, a rule `{}`), and
        free-form parts (an EnvoyFilter's patch value) come out as they were put in.
        """
        return self.model_dump(by_alias=True, exclude_none=True)
