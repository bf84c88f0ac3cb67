"""Runs policies over objects: the function behind the pack, `voicemesh check` and the tests."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from policies.catalogue import BY_ID, POLICIES
from policies.policy import (
    Config,
    Enforcement,
    Finding,
    Object,
    Policy,
    Severity,
    Violation,
    reference,
)
from policies.stack import Stack

_ORDER = list(Severity)
_MALFORMED = (
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
    ArithmeticError,
    RecursionError,
    re.error,
)
WHOLE_STACK: Object = {"kind": "Stack", "metadata": {"name": "as a whole"}}
"""Stands for the object where a policy on the whole stack can't name one."""


class ConfigError(ValueError):
    """The policies' configuration names something that does not exist or is not allowed."""


def check(objects: Iterable[Object], config: Mapping[str, Any] | None = None) -> list[Violation]:
    """All violations of all policies, the most severe first.

    Args:
        objects: a whole stack; references are judged within it.
        config: by policy id, as the engine's `--policy-pack-config` has it: an enforcement level
            or a mapping of settings, with `enforcementLevel` among them.

    Raises:
        ConfigError: an unknown policy or setting, a value out of bounds, or an attempt to weaken
            a policy that can't be.
    """
    chosen = resolved(config or {})
    stack = Stack(objects)
    found = [
        violation(policy, finding, enforcement)
        for policy in POLICIES
        for enforcement, settings in [chosen[policy.id]]
        if enforcement is not Enforcement.DISABLED
        for finding in findings(policy, stack, settings)
    ]
    return sorted(found, key=lambda v: (_ORDER.index(v.severity), v.policy_id, v.object, v.path))


def findings(policy: Policy, stack: Stack, settings: Config) -> Iterator[Finding]:
    """What one policy finds in a stack."""
    if policy.scope == "stack":
        yield from judged(policy, stack, settings)
    else:
        for item in stack.of(*policy.kinds):
            yield from judged(policy, item, settings)


def judged(policy: Policy, subject: Stack | Object, settings: Config) -> Iterator[Finding]:
    """What a rule finds; that it could not be judged, where an object is not of its kind's form."""
    try:
        yield from policy.rule(subject, settings)
    except _MALFORMED as problem:
        # What could not be checked has not held: silence would look like a pass.
        item = WHOLE_STACK if isinstance(subject, Stack) else subject
        message = f"could not be judged, an object does not have the form of its kind: {problem}"
        yield Finding(item, "", message)


def violation(policy: Policy, finding: Finding, enforcement: Enforcement) -> Violation:
    """A finding with what a reader needs of its policy."""
    return Violation(
        policy_id=policy.id,
        severity=policy.severity,
        enforcement=enforcement,
        object=reference(finding.object),
        path=finding.path,
        message=finding.message,
        remedy=policy.remedy,
        url=policy.url,
    )


def defaults(policy: Policy) -> dict[str, Any]:
    """The settings of a policy that nobody configured."""
    return {name: setting.default for name, setting in policy.settings.items()}


def resolved(config: Mapping[str, Any]) -> dict[str, tuple[Enforcement, dict[str, Any]]]:
    """Enforcement and settings of every policy.

    Raises:
        ConfigError: see `check`.
    """
    if unknown := sorted(str(key) for key in config if key not in BY_ID):
        raise ConfigError(f"there is no policy {', '.join(unknown)}")
    return {policy.id: _resolved(policy, config.get(policy.id, {})) for policy in POLICIES}


def _resolved(policy: Policy, value: Any) -> tuple[Enforcement, dict[str, Any]]:
    given = {"enforcementLevel": value} if isinstance(value, str) else value
    if not isinstance(given, Mapping):
        raise ConfigError(f"{policy.id}: give an enforcement level or a mapping of settings")
    level = given.get("enforcementLevel", policy.enforcement.value)
    if level not in list(Enforcement):
        allowed = ", ".join(Enforcement)
        raise ConfigError(f"{policy.id}: enforcementLevel {level!r} is none of {allowed}")
    if policy.locked and level != policy.enforcement:
        raise ConfigError(f"{policy.id} is {policy.enforcement} and can't be configured away")
    settings = defaults(policy)
    for name, chosen in given.items():
        if name == "enforcementLevel":
            continue
        if name not in policy.settings:
            known = ", ".join(policy.settings) or "none"
            raise ConfigError(f"{policy.id}: there is no setting {name!r} (settings: {known})")
        if problem := policy.settings[name].problem(chosen):
            raise ConfigError(f"{policy.id}: {name}: {problem}")
        settings[name] = chosen
    return Enforcement(level), settings
