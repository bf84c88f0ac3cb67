"""From a CRD's nested OpenAPI schema to flat, named definitions that the generator can read.

Kubernetes inlines every part of an object where it is used and says "only one of these" with
oneOf/not or CEL. Here each part gets one name and is defined once; exclusions become groups of
fields; what CEL says about a single value becomes a plain constraint where JSON schema has one.
Other CEL rules are left to the API server. Deprecated fields and values are left out: Istio takes
them without a word and some do nothing.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from schema.proto import Message, Messages

Schema = Mapping[str, Any]

_CONSTRAINTS = ("minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "pattern")
_CEL_CONSTRAINTS: Mapping[str, dict[str, Any]] = {
    "0 < self && self <= 65535": {"minimum": 1, "maximum": 65535},
    '!self.contains("*")': {"pattern": r"^[^*]*$"},
    "self.size() == 0": {"maxLength": 0},
}
_CEL_AT_LEAST_1MS = "duration(self) >= duration('1ms')"
_CEL_AT_MOST_ONE = re.compile(r"^(?:\(has\(self\.\w+\) \? 1 : 0\)(?: \+ )?)+ <= 1$")


@dataclass
class Definition:
    """One class to be."""

    properties: dict[str, Any] = field(default_factory=dict)
    """Wire name → JSON schema."""
    required: tuple[str, ...] = ()
    python_names: dict[str, str] = field(default_factory=dict)
    """Wire name → field name."""
    at_most_one: tuple[tuple[str, ...], ...] = ()
    """Groups of wire names."""


Modules = dict[str, dict[str, Definition]]
"""Module name → class name → definition."""


@dataclass(frozen=True)
class Place:
    """Where in an object a schema stands, and what names its class."""

    module: str
    path: tuple[str, ...]
    """Property names from `spec` down."""
    message: Message | None = None


class Flattener:
    """Collects definitions from the specs of several kinds."""

    def __init__(
        self, package: str, messages: Messages | None, class_name: Callable[[Place], str]
    ) -> None:
        """`package` is where the modules will live; `class_name` proposes a class's name."""
        self.modules: Modules = {}
        self._package = package
        self._messages = messages
        self._class_name = class_name

    def add(self, schema: Schema, place: Place, name: str | None = None) -> tuple[str, str]:
        """Defines the class of an object schema; returns its module and name.

        Raises ValueError when one name would stand for two different shapes.
        """
        module = place.message.file if place.message else place.module
        definition = self._definition(schema, place)
        classes = self.modules.setdefault(module, {})
        chosen = name or self._class_name(place)
        if place.message is None:  # nothing but the path tells equal names apart
            parent = len(place.path) - 1
            while classes.get(chosen, definition) != definition and parent > 0:
                parent -= 1
                chosen = self._class_name(Place(module, place.path[: parent + 1])) + chosen
        if classes.setdefault(chosen, definition) != definition:
            raise ValueError(f"{module}.{chosen} has two shapes, the second at {place.path}")
        return module, chosen

    def _definition(self, schema: Schema, place: Place) -> Definition:
        deprecated = place.message.deprecated if place.message else set()
        definition = Definition(required=tuple(sorted(schema.get("required", ()))))
        for wire_name, property_schema in schema.get("properties", {}).items():
            camel_case = _camel_case(wire_name)
            if camel_case != wire_name and camel_case in schema["properties"]:
                continue  # Istio keeps an old spelling of some fields beside the right one
            if wire_name in deprecated:
                continue
            python_name = self._python_name(place.message, wire_name)
            if python_name in definition.python_names.values():
                raise ValueError(f"{place.path}: two fields {python_name}")
            definition.python_names[wire_name] = python_name
            definition.properties[wire_name] = self._value(
                property_schema, place, wire_name, (*place.path, wire_name)
            )
        definition.at_most_one = _exclusions(schema, definition.properties)
        return definition

    @staticmethod
    def _python_name(message: Message | None, wire_name: str) -> str:
        if message and wire_name in message.fields:
            name = _snake_case(message.fields[wire_name][0])
        else:
            name = _snake_case(wire_name)
        return f"{name}_" if keyword.iskeyword(name) else name

    def _value(
        self, schema: Schema, place: Place, wire_name: str, path: tuple[str, ...]
    ) -> dict[str, Any]:
        if schema.get("x-kubernetes-int-or-string"):
            return {"customTypePath": "components.wire.IntOrString"}
        constraints = {key: schema[key] for key in _CONSTRAINTS if key in schema}
        for rule in _cel(schema):
            constraints |= _CEL_CONSTRAINTS.get(rule, {})
        kind = schema["type"]
        if kind == "array":
            items = self._value(schema["items"], place, wire_name, path)
            return {"type": "array", "items": _titled(items, wire_name), **constraints}
        if kind == "object" and "properties" in schema:
            message = None
            if self._messages and place.message:
                message = self._messages.type_of(place.message, wire_name)
                if message is None:
                    raise LookupError(f"no message for {path}")
            module, name = self.add(schema, Place(place.module, path, message))
            return {"customTypePath": f"{self._package}.{module}.{name}"}
        if kind == "object":
            if "additionalProperties" not in schema:
                return {"type": "object"}
            values = self._value(schema["additionalProperties"], place, wire_name, path)
            return {"type": "object", "additionalProperties": _titled(values, wire_name)}
        if kind == "number":
            return {"customTypePath": "components.wire.Number", **constraints}
        if "enum" in schema:
            deprecated = place.message.deprecated if place.message else set()
            return {"type": "string", "enum": [v for v in schema["enum"] if v not in deprecated]}
        if _CEL_AT_LEAST_1MS in _cel(schema):
            return {"customTypePath": "components.wire.PositiveDuration"}
        if place.message and place.message.fields[wire_name][1] == "google.protobuf.Duration":
            return {"customTypePath": "components.wire.Duration"}
        return {"type": kind, **constraints}


def _titled(schema: dict[str, Any], wire_name: str) -> dict[str, Any]:
    """A name for the constrained values of a list or map."""
    return {"title": f"{wire_name[:1].upper()}{wire_name[1:]}Value", **schema}


def _cel(schema: Schema) -> list[str]:
    return [validation["rule"] for validation in schema.get("x-kubernetes-validations", ())]


def _exclusions(schema: Schema, properties: Collection[str]) -> tuple[tuple[str, ...], ...]:
    """Groups of which the API server takes one, without the fields that are not among properties."""
    groups = []
    for part in (schema, *schema.get("allOf", ())):
        branches = part.get("oneOf", ())
        groups.append([branch["required"][0] for branch in branches if "required" in branch])
    for rule in _cel(schema):
        if _CEL_AT_MOST_ONE.match(rule):
            groups.append(re.findall(r"self\.(\w+)", rule))
    kept = (tuple(name for name in group if name in properties) for group in groups)
    return tuple(dict.fromkeys(group for group in kept if len(group) > 1))


def _camel_case(name: str) -> str:
    return re.sub(r"_(\w)", lambda match: match[1].upper(), name)


def _snake_case(name: str) -> str:
    words = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name)
    return re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", words).lower()
