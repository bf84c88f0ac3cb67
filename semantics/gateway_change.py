"""Which requests a change of a gateway's policies can concern: those that a changed rule may match."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from semantics.authorization import Guard
from semantics.conditions import Condition, Dimension, Policy, Rule

HOST, PATH = Dimension("host"), Dimension("path")


@dataclass(frozen=True)
class GatewayChange:
    """The rules that came, went or changed at the servers of one host."""

    host: str
    everything: bool
    """True where more than rules changed: every request may be concerned."""
    rules: tuple[Rule, ...] = ()

    @classmethod
    def between(
        cls,
        old: Sequence[tuple[Guard, tuple[object, ...]]],
        new: Sequence[tuple[Guard, tuple[object, ...]]],
        host: str,
    ) -> GatewayChange:
        """The change from one revision's servers (each with what else describes it) to another's."""
        if [about for _, about in old] != [about for _, about in new]:
            return cls(host, everything=True)
        rules: list[Rule] = []
        for (before, _), (after, _) in zip(old, new, strict=True):
            if before.fingerprint == after.fingerprint:
                continue
            if before.fingerprint[1:] != after.fingerprint[1:] or _allows(before) != _allows(after):
                return cls(host, everything=True)
            rules += _changed(before.http_policies, after.http_policies)
        return cls(host, everything=False, rules=tuple(rules))

    def touches(self, path: str) -> bool:
        """Whether a changed rule may match a request for the path, whatever else it brings."""
        return self.everything or any(
            any(all(self._possible(c, path) for c in group) for group in rule.operations)
            for rule in self.rules
        )

    def _possible(self, condition: Condition, path: str) -> bool:
        if condition.dimension == PATH:
            return condition.holds(path)
        if condition.dimension == HOST:
            return condition.holds(self.host)
        return True


def _allows(guard: Guard) -> bool:
    """Whether any ALLOW policy applies: without one, everything is let in."""
    return any(policy.action == "ALLOW" for policy in guard.http_policies)


def _changed(old: Sequence[Policy], new: Sequence[Policy]) -> list[Rule]:
    """The rules of policies that are not the same in both."""
    before, after = ({_content(policy): policy for policy in side} for side in (old, new))
    return [
        rule
        for mine, other in ((before, after), (after, before))
        for content, policy in mine.items()
        if content not in other
        for rule in policy.rules
    ]


def _content(policy: Policy) -> tuple[object, ...]:
    return (
        policy.name,
        policy.action,
        policy.provider,
        tuple(
            tuple(
                tuple((c.dimension, c.key, c.values, c.negated) for c in group) for group in groups
            )
            for rule in policy.rules
            for groups in (rule.sources, rule.operations)
        ),
    )
