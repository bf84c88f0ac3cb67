"""The requests that a rule speaks of, as sets that can be compared.

Each source with each operation of a rule is a region: conditions on what is read of a request.
They are compared on sample values (`semantics.witnesses`): one at, beside and beyond each pattern
that either rule names. So `hosts: ["*"]`, or all ports that a pod has, ask for nothing, however
they are written.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from policies.access_rules import action_of
from policies.policy import Object, name_of, namespace_of, spec_of
from policies.stack import Stack
from semantics import witnesses
from semantics.conditions import Condition, Dimension, Rule, compile_policy
from semantics.mesh import Mesh
from semantics.request import Token

PEER, PORT, TOKEN = Dimension("peer"), Dimension("port"), Dimension("token")
METHOD, PATH, HOST = Dimension("method"), Dimension("path"), Dimension("host")
OTHER_PORT = 65000
"""Stands for every port that nobody names."""
OTHER_ISSUER = "https://some-issuer"


@dataclass(frozen=True)
class Region:
    """The requests of one clause: those for which all conditions hold."""

    path: str
    """Where the clause begins in the policy."""
    conditions: tuple[Condition, ...]

    def on(self, dimension: Dimension) -> tuple[Condition, ...]:
        """The conditions that read one dimension."""
        return tuple(c for c in self.conditions if c.dimension == dimension)

    def dimensions(self) -> tuple[Dimension, ...]:
        """What of a request the region depends on."""
        return tuple(dict.fromkeys(c.dimension for c in self.conditions))

    def without(self, *gone: Condition) -> Region:
        """The wider region that lacks some conditions."""
        return replace(self, conditions=tuple(c for c in self.conditions if c not in gone))


def mesh_of(stack: Stack) -> Mesh:
    """What of the mesh the meaning of a rule depends on."""
    aliases = tuple(sorted(stack.trust_domains - {"cluster.local"}))
    return Mesh(root_namespace=stack.root_namespace, trust_domain_aliases=aliases)


def regions(policy: Object, mesh: Mesh) -> Iterator[Region]:
    """Every clause of every rule that istiod takes; paths are those of `access_rules.clauses`."""
    metadata = {"name": name_of(policy), "namespace": namespace_of(policy)}
    for index, rule in enumerate(spec_of(policy).get("rules") or ()):
        alone = {"metadata": metadata, "spec": {"action": action_of(policy), "rules": [rule]}}
        for compiled in compile_policy(alone, mesh).rules:
            yield from _regions(f"spec.rules[{index}]", bool((rule or {}).get("from")), compiled)


def _regions(base: str, sources: bool, rule: Rule) -> Iterator[Region]:
    for number, source in enumerate(rule.sources):
        path = f"{base}.from[{number}].source" if sources else base
        for operation in rule.operations:
            yield Region(path, (*source, *operation))


def field_name(condition: Condition) -> str:
    """The field of a condition as the policy writes it."""
    if not condition.negated:
        return condition.key
    if "." in condition.key:
        return f"{condition.key} notValues"
    return f"not{condition.key[0].upper()}{condition.key[1:]}"


def samples(
    dimension: Dimension, conditions: Sequence[Condition], ports: Iterable[int] = ()
) -> list[Any]:
    """Values of a dimension such that every two sets that the conditions make differ on one."""
    if dimension == PEER:
        return list(witnesses.peers(conditions, (), Mesh().trust_domain))
    if dimension == PORT:
        named = {int(v) for c in conditions for v in c.values if v.isdigit()}
        return [*sorted({*ports, *named}), OTHER_PORT]
    if dimension == TOKEN:
        return list(witnesses.tokens(conditions, {OTHER_ISSUER, *_issuers(conditions)}))
    found = witnesses.candidates(dimension, conditions)
    return [*found, "/some/deeper/path"] if dimension == PATH else found


def _issuers(conditions: Iterable[Condition]) -> Iterator[str]:
    for condition in conditions:
        for value in condition.values:
            if condition.key in ("requestPrincipals", "request.auth.principal"):
                issuer = value.rpartition("/")[0]
                if issuer.strip("*"):
                    yield issuer.replace("*", "some")
            elif condition.key == "request.auth.claims[iss]" and value.strip("*"):
                yield value.replace("*", "some")


def holding(conditions: Iterable[Condition], values: Sequence[Any]) -> int:
    """Which of the values all conditions take, one bit for each."""
    conditions = tuple(conditions)
    return sum(1 << i for i, v in enumerate(values) if all(c.holds(v) for c in conditions))


def parts(conditions: Sequence[Condition], values: Sequence[Any]) -> list[int]:
    """Which of the values each single pattern takes, as far as the other conditions let it."""
    whole = holding(conditions, values)
    positive = [c for c in conditions if not c.negated]
    found = [holding((single,), values) & whole for c in positive for single in _one_by_one(c)] or [
        whole
    ]
    return [part for part in dict.fromkeys(found) if part]


def _one_by_one(condition: Condition) -> Iterator[Condition]:
    """One condition for each value; aliases make several tests of one value."""
    if len(condition.tests) == len(condition.values):
        for value, test in zip(condition.values, condition.tests, strict=True):
            yield replace(condition, values=(value,), tests=(test,))
    else:
        for test in condition.tests:
            yield replace(condition, tests=(test,))


def missed(
    regions: Iterable[Region], box: Mapping[Dimension, Sequence[Any]]
) -> Mapping[Dimension, Any] | None:
    """A request of the box that none of the regions takes; None where together they take all.

    The box holds every value in the dimensions that it does not name.
    """
    taking = list(regions)
    asked: dict[Dimension, list[Condition]] = {}
    for condition in (c for region in taking for c in region.conditions):
        asked.setdefault(condition.dimension, []).append(condition)
    whole = {d: box[d] if d in box else samples(d, asked[d]) for d in {**box, **asked}}
    classes: list[dict[int, Any]] = []
    for dimension, values in whole.items():
        own = [region.on(dimension) for region in taking]
        found: dict[int, Any] = {}
        for value in values:
            mask = sum(1 << i for i, conds in enumerate(own) if all(c.holds(value) for c in conds))
            found.setdefault(mask, value)
        classes.append(found)
    everything = (1 << len(taking)) - 1
    for cell in itertools.product(*classes):
        left = everything
        for mask in cell:
            left &= mask
        if not left:
            return {d: c[m] for d, c, m in zip(whole, classes, cell, strict=True)}
    return None


def token(issuer: str = OTHER_ISSUER, **claims: str) -> Token:
    """A valid token of some user."""
    return Token({"iss": issuer, "sub": witnesses.SUBJECT, **claims})
