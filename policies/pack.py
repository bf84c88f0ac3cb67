"""The catalogue as policies of a Pulumi policy pack."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pulumi_policy import (
    EnforcementLevel,
    PolicyConfigSchema,
    ReportViolation,
    ResourceValidationArgs,
    ResourceValidationPolicy,
    Severity,
    StackValidationArgs,
    StackValidationPolicy,
)
from pulumi_policy import (
    Policy as PulumiPolicy,
)

from policies.catalogue import POLICIES
from policies.policy import Finding, Policy, reference
from policies.run import defaults, judged
from policies.stack import Stack
from policies.view import UnknownValue, object_of, objects_of

NAME = "voicemesh"


class Unconfigurable(str):
    """Name of a policy for which no configuration of the pack is found.

    The pack's server looks up enforcement levels and settings by name in a dict; a name with
    another hash is not there, so its own level stands. On the wire it is the same text.
    """

    __slots__ = ()

    def __hash__(self) -> int:
        return hash(("unconfigurable", str(self)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Unconfigurable) and str(self) == str(other)


def pulumi_policies() -> list[PulumiPolicy]:
    """Every policy of the catalogue, as the engine runs it."""
    return [_pulumi_policy(policy) for policy in POLICIES]


def _pulumi_policy(policy: Policy) -> PulumiPolicy:
    shared: dict[str, Any] = {
        "name": Unconfigurable(policy.id) if policy.locked else policy.id,
        "description": policy.text,
        "display_name": policy.title,
        "enforcement_level": EnforcementLevel(policy.enforcement.value),
        "severity": Severity(policy.severity.value),
        "tags": ["istio", *policy.codes],
        "remediation_steps": policy.remedy,
        "url": policy.url,
        "config_schema": PolicyConfigSchema({n: s.schema for n, s in policy.settings.items()})
        if policy.settings
        else None,
    }
    if policy.scope == "stack":
        return StackValidationPolicy(validate=_stack_rule(policy), **shared)
    return ResourceValidationPolicy(validate=_object_rule(policy), **shared)


def _object_rule(policy: Policy) -> Callable[[ResourceValidationArgs, ReportViolation], None]:
    def validate(args: ResourceValidationArgs, report: ReportViolation) -> None:
        item = object_of(args)
        if item is None:
            return
        try:
            # The index knows which `Gateway` or `Service` is meant.
            for each in Stack([item]).of(*policy.kinds):
                for finding in judged(policy, each, _settings(policy, args.get_config())):
                    report(_text(policy, finding), None)
        except UnknownValue as unknown:
            report(_not_run(policy, unknown), None)

    return validate


def _stack_rule(policy: Policy) -> Callable[[StackValidationArgs, ReportViolation], None]:
    def validate(args: StackValidationArgs, report: ReportViolation) -> None:
        try:
            declared = objects_of(args.resources)
            urns = {id(item): resource.urn for resource, item in declared}
            stack = Stack(item for _, item in declared)
            for finding in judged(policy, stack, _settings(policy, args.get_config())):
                report(_text(policy, finding), urns.get(id(finding.object)))
        except UnknownValue as unknown:
            report(_not_run(policy, unknown), None)

    return validate


def _settings(policy: Policy, config: Mapping[str, Any]) -> dict[str, Any]:
    chosen = {name: config[name] for name in policy.settings if name in config}
    return {**defaults(policy), **chosen}


def _text(policy: Policy, finding: Finding) -> str:
    where = f" at {finding.path}" if finding.path else ""
    return f"{reference(finding.object)}{where}: {finding.message}\nRemedy: {policy.remedy}"


def _not_run(policy: Policy, unknown: UnknownValue) -> str:
    # The SDK would make a mere advisory of this; a policy that could not run has not held.
    return f"{policy.id} could not run: {unknown}. Names, hosts and policies must be plain values."
