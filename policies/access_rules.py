"""Reading AuthorizationPolicies: each rule as the requests it speaks of, made comparable.

Source: https://istio.io/latest/docs/reference/config/security/authorization-policy/
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from policies.policy import Object, annotations_of, spec_of

PUBLIC_WITHOUT_TOKEN = "voicemesh.io/public-without-token"  # noqa: S105 - the name of an annotation
"""Annotation `"true"`: this policy lets clients in without a token, on purpose."""
REASON = "voicemesh.io/reason"
"""Annotation: why."""

REQUIRES_CLAIMS = "voicemesh.io/requires-claims"
"""Annotation on a Service: claims, separated by commas, without which its pods refuse a request."""

PEER = ("principals", "serviceAccounts", "namespaces", "trustDomains")
"""Source fields that ask for a certificate of the mesh."""
IDENTITY = (*PEER, "requestPrincipals")
"""Source fields that ask who the caller is."""


_TRUE = {"1", "t", "T", "TRUE", "true", "True"}
"""What Istio takes for true in an annotation: https://pkg.go.dev/strconv#ParseBool."""


@dataclass(frozen=True)
class Clause:
    """One source with one operation of a rule, and the rule's conditions: all must hold.

    A field has a list of values of which one must match. Condition keys stand beside the fields.
    """

    path: str
    """Where the clause begins in the policy."""
    fields: Mapping[str, tuple[str, ...]]
    """Positive matches by field or condition key."""
    negative: Mapping[str, tuple[str, ...]]
    """Negative matches by the same names, without `not`."""

    def identified(self) -> bool:
        """Whether the clause asks who the caller is."""
        return any(name in self.fields for name in IDENTITY) or self.token()

    def token(self) -> bool:
        """Whether the clause asks for a valid token."""
        return any(
            name == "requestPrincipals" or name.startswith("request.auth.") for name in self.fields
        )


def action_of(policy: Object) -> str:
    """ALLOW where nothing is said."""
    return str(spec_of(policy).get("action") or "ALLOW")


def allows(policy: Object) -> bool:
    """Whether the policy is an ALLOW policy."""
    return action_of(policy) == "ALLOW"


def dry_run(policy: Object) -> bool:
    """Whether the policy only logs what it would do."""
    return str(annotations_of(policy).get("istio.io/dry-run", "")) in _TRUE


def declared_public(policy: Object) -> bool:
    """Whether the policy says that it opens something to clients without a token, and why."""
    annotations = annotations_of(policy)
    return annotations.get(PUBLIC_WITHOUT_TOKEN) == "true" and bool(
        (annotations.get(REASON) or "").strip()
    )


def required_claims(service: Object) -> list[str]:
    """Claims without which the pods of a Service refuse a request."""
    declared = annotations_of(service).get(REQUIRES_CLAIMS) or ""
    return [claim for part in declared.split(",") if (claim := part.strip())]


def clauses(policy: Object) -> Iterator[Clause]:
    """Every clause of every rule; a rule without `from` or `to` has an empty one in its place.

    An empty list is as good as none, as it is to Istio: it asks nothing. A clause that asks two
    things of a field which exclude each other holds for no request and is left out.
    """
    for index, entry in enumerate(spec_of(policy).get("rules") or ()):
        base, rule = f"spec.rules[{index}]", entry or {}
        sources = [
            (f"{base}.from[{i}].source", (each or {}).get("source") or {})
            for i, each in enumerate(rule.get("from") or ())
        ] or [(base, {})]
        operations = [(each or {}).get("operation") or {} for each in rule.get("to") or ()] or [{}]
        conditions = list(_conditions(rule.get("when") or ()))
        for path, source in sources:
            for operation in operations:
                clause = Clause(path, *_asked([*conditions, *_named(source), *_named(operation)]))
                if all(clause.fields.values()):
                    yield clause


_Field = tuple[str, bool, tuple[str, ...]]
"""(name, whether it is negated, values) of a field or condition that is set."""


def _named(part: Mapping[str, Any]) -> Iterator[_Field]:
    for name, values in part.items():
        if values:
            yield _positive_name(name), _is_negative(name), tuple(map(str, values))


def _conditions(conditions: Iterable[Mapping[str, Any]]) -> Iterator[_Field]:
    for condition in conditions:
        key = _FIELD_OF_KEY.get(str(condition.get("key", "")), str(condition.get("key", "")))
        for name, negated in (("values", False), ("notValues", True)):
            if condition.get(name):
                yield key, negated, tuple(map(str, condition[name]))


def _asked(
    fields: Iterable[_Field],
) -> tuple[dict[str, tuple[str, ...]], dict[str, tuple[str, ...]]]:
    """Positive and negative fields; what is asked twice must hold both times."""
    positive: dict[str, tuple[str, ...]] = {}
    negative: dict[str, tuple[str, ...]] = {}
    for name, negated, values in fields:
        if negated:
            negative[name] = (*negative.get(name, ()), *values)
        elif name in positive:
            before = positive[name]
            both = [v for v in values if any_covers(before, v)]
            both += [v for v in before if any_covers(values, v)]
            positive[name] = tuple(dict.fromkeys(both))
        else:
            positive[name] = values
    return positive, negative


_FIELD_OF_KEY = {
    "source.principal": "principals",
    "source.namespace": "namespaces",
    "source.serviceAccount": "serviceAccounts",
    "source.trustDomain": "trustDomains",
    "request.auth.principal": "requestPrincipals",
    "source.ip": "ipBlocks",
    "remote.ip": "remoteIpBlocks",
    "destination.port": "ports",
}


def _is_negative(name: str) -> bool:
    return name.startswith("not") and name[3:4].isupper()


def _positive_name(name: str) -> str:
    return name[3].lower() + name[4:] if _is_negative(name) else name


def covers(pattern: str, value: str) -> bool:
    """Whether everything that `value` matches is matched by `pattern`: exact, `x*`, `*x`, `*`."""
    if pattern == value or pattern == "*":
        return True
    if pattern.endswith("*") and not value.startswith("*"):
        return value.removesuffix("*").startswith(pattern[:-1])
    if pattern.startswith("*") and not value.endswith("*"):
        return value.removeprefix("*").endswith(pattern[1:])
    return False


def any_covers(patterns: Iterable[str], value: str) -> bool:
    """Whether one of the patterns covers the value."""
    return any(covers(pattern, value) for pattern in patterns)
