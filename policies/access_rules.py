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

IDENTITY = ("principals", "serviceAccounts", "namespaces", "requestPrincipals")
"""Source fields that ask who the caller is."""
PEER = ("principals", "serviceAccounts", "namespaces")
"""Those that ask for a certificate of the mesh."""


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
            name == "requestPrincipals"
            or name.startswith(("request.auth.claims", "request.auth.principal"))
            for name in self.fields
        )


def action_of(policy: Object) -> str:
    """ALLOW where nothing is said."""
    return str(spec_of(policy).get("action") or "ALLOW")


def allows(policy: Object) -> bool:
    """Whether the policy is an ALLOW policy."""
    return action_of(policy) == "ALLOW"


def dry_run(policy: Object) -> bool:
    """Whether the policy only logs what it would do."""
    return annotations_of(policy).get("istio.io/dry-run") == "true"


def declared_public(policy: Object) -> bool:
    """Whether the policy says that it opens something to clients without a token, and why."""
    annotations = annotations_of(policy)
    return annotations.get(PUBLIC_WITHOUT_TOKEN) == "true" and bool(
        (annotations.get(REASON) or "").strip()
    )


def clauses(policy: Object) -> Iterator[Clause]:
    """Every clause of every rule; a rule without `from` or `to` has an empty one in its place."""
    for index, rule in enumerate(spec_of(policy).get("rules") or ()):
        base = f"spec.rules[{index}]"
        sources = [
            (f"{base}.from[{i}].source", each.get("source") or {})
            for i, each in enumerate(rule.get("from") or ())
        ] or [(base, {})]
        operations = [each.get("operation") or {} for each in rule.get("to") or ()] or [{}]
        positive, negative = _conditions(rule.get("when") or ())
        for path, source in sources:
            for operation in operations:
                clause_fields, clause_negative = dict(positive), dict(negative)
                for part in (source, operation):
                    for name, values in part.items():
                        target = clause_negative if _is_negative(name) else clause_fields
                        target[_positive_name(name)] = tuple(map(str, values or ()))
                yield Clause(path, clause_fields, clause_negative)


def _conditions(
    conditions: Iterable[Mapping[str, Any]],
) -> tuple[dict[str, tuple[str, ...]], dict[str, tuple[str, ...]]]:
    positive: dict[str, tuple[str, ...]] = {}
    negative: dict[str, tuple[str, ...]] = {}
    for condition in conditions:
        key = _FIELD_OF_KEY.get(str(condition.get("key", "")), str(condition.get("key", "")))
        if condition.get("values"):
            positive[key] = tuple(map(str, condition["values"]))
        if condition.get("notValues"):
            negative[key] = tuple(map(str, condition["notValues"]))
    return positive, negative


_FIELD_OF_KEY = {
    "source.principal": "principals",
    "source.namespace": "namespaces",
    "source.serviceAccount": "serviceAccounts",
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
