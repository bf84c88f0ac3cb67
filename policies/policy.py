"""What a policy is: its text for people, its rule for machines, and what the rule finds."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

Object = Mapping[str, Any]
"""A Kubernetes object as plain data."""
Config = Mapping[str, Any]
"""The settings of one policy, defaults filled in."""


class Severity(StrEnum):
    """How bad a violation is; the names are those of pulumi-policy."""

    CRITICAL = "critical"
    """Opens the mesh: encryption, identity or authorization no longer holds somewhere."""
    HIGH = "high"
    """Weakens a protection or breaks a service."""
    MEDIUM = "medium"
    """Makes an outage or a mistake likely."""
    LOW = "low"
    """Makes the configuration harder to read or to keep right."""


class Enforcement(StrEnum):
    """What a violation does to a preview, an update or a check."""

    MANDATORY = "mandatory"
    """It fails."""
    ADVISORY = "advisory"
    """It is shown."""
    DISABLED = "disabled"
    """The policy is not run."""


SettingType = Literal["number", "string", "array"]


@dataclass(frozen=True)
class Setting:
    """One threshold or list of a policy that a team may choose."""

    type: SettingType
    default: Any
    description: str
    minimum: float | None = None
    maximum: float | None = None
    regexes: bool = False
    """Whether the texts of an array are regular expressions."""

    @property
    def schema(self) -> dict[str, Any]:
        """The setting as JSON schema, as the engine wants it."""
        schema: dict[str, Any] = {
            "type": self.type,
            "default": self.default,
            "description": self.description,
        }
        if self.type == "array":
            schema["items"] = {"type": "string"}
        if self.minimum is not None:
            schema["minimum"] = self.minimum
        if self.maximum is not None:
            schema["maximum"] = self.maximum
        return schema

    def problem(self, value: Any) -> str | None:
        """What is wrong with a value, None if nothing is."""
        match self.type:
            case "number":
                if isinstance(value, bool) or not isinstance(value, int | float):
                    return f"{value!r} is not a number"
                if not math.isfinite(value):
                    return f"{value!r} is no bound"
                if self.minimum is not None and value < self.minimum:
                    return f"{value} is below {self.minimum:g}"
                if self.maximum is not None and value > self.maximum:
                    return f"{value} is above {self.maximum:g}"
            case "string":
                if not isinstance(value, str):
                    return f"{value!r} is not a text"
            case "array":
                if not isinstance(value, list) or any(not isinstance(v, str) for v in value):
                    return f"{value!r} is not a list of texts"
                if self.regexes:
                    return next((problem for v in value if (problem := _no_regex(v))), None)
        return None


def _no_regex(text: str) -> str | None:
    try:
        re.compile(text)
    except re.error as problem:
        return f"{text!r} is no regular expression: {problem}"
    return None


@dataclass(frozen=True)
class Finding:
    """One place where a rule does not hold."""

    object: Object
    path: str
    """Where in the object: `spec.servers[0].tls.mode`; empty for the object as a whole."""
    message: str


@dataclass(frozen=True)
class Policy:
    """A rule with everything a reader of its violations needs."""

    id: str
    title: str
    severity: Severity
    text: str
    """What must hold, and what happens where it does not."""
    remedy: str
    """What to do about a violation."""
    url: str
    """The page that the rule rests on."""
    rule: Callable[[Any, Config], Iterable[Finding]]
    """Of one object for scope `object`, of the indexed `Stack` for scope `stack`."""
    codes: tuple[str, ...] = ()
    """The same check elsewhere: IST = istioctl analyze, KIA = Kiali, TIS = Tetrate's Kyverno set."""
    scope: Literal["object", "stack"] = "object"
    kinds: tuple[str, ...] = ()
    """Kinds that an object policy looks at."""
    enforcement: Enforcement = Enforcement.MANDATORY
    reason: str = ""
    """Why the policy is only advisory."""
    locked: bool = False
    """True: no configuration turns it off or down."""
    settings: Mapping[str, Setting] = field(default_factory=dict)


@dataclass(frozen=True)
class Violation:
    """What a reviewer reads."""

    policy_id: str
    severity: Severity
    enforcement: Enforcement
    object: str
    """`Kind namespace/name`."""
    path: str
    message: str
    remedy: str
    url: str


def name_of(item: Object) -> str:
    """The object's name."""
    return str((item.get("metadata") or {}).get("name", ""))


def namespace_of(item: Object) -> str:
    """The object's namespace; `default` where a namespaced object leaves it out."""
    return str((item.get("metadata") or {}).get("namespace") or "default")


def annotations_of(item: Object) -> Mapping[str, str]:
    """The object's annotations."""
    return (item.get("metadata") or {}).get("annotations") or {}


def spec_of(item: Object) -> Mapping[str, Any]:
    """The object's spec, empty where there is none."""
    return item.get("spec") or {}


def reference(item: Object) -> str:
    """How messages name an object."""
    metadata = item.get("metadata") or {}
    namespace = f"{metadata['namespace']}/" if metadata.get("namespace") else ""
    return f"{item.get('kind', '?')} {namespace}{metadata.get('name', '?')}"


_Rule = Callable[[Any, Config], Iterable[Finding]]


def object_policy(
    policy_id: str, *kinds: str, **texts: Any
) -> Callable[[Callable[[Object, Config], Iterable[Finding]]], Policy]:
    """Makes a policy of a rule on single objects of some kinds."""
    return lambda rule: Policy(id=policy_id, rule=rule, kinds=kinds, scope="object", **texts)


def stack_policy(policy_id: str, **texts: Any) -> Callable[[_Rule], Policy]:
    """Makes a policy of a rule on the whole stack."""
    return lambda rule: Policy(id=policy_id, rule=rule, scope="stack", **texts)
