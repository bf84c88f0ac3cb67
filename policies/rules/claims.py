"""Claims of tokens, and addresses for administration: asked for where it is declared, twice."""

from __future__ import annotations

from collections.abc import Iterator

from policies.access_rules import action_of, any_covers, clauses, dry_run
from policies.exposed import exposed_paths, gateway_workloads
from policies.policy import (
    Config,
    Enforcement,
    Finding,
    Object,
    Severity,
    annotations_of,
    spec_of,
    stack_policy,
)
from policies.stack import Stack

REQUIRES_CLAIMS = "voicemesh.io/requires-claims"
"""Annotation on a Service: claims, separated by commas, without which its pods refuse a request."""
_CONDITIONS = "https://istio.io/latest/docs/reference/config/security/conditions/"


@stack_policy(
    "declared-claims-demanded",
    title="A service that declares claims demands them",
    severity=Severity.CRITICAL,
    text="The pods of a Service with the annotation voicemesh.io/requires-claims refuse, by a "
    "DENY of their own and on every path, requests whose token lacks one of those claims. This is "
    "what keeps tenants apart.",
    remedy='Add a DENY for the workload with when.key request.auth.claims[...] and notValues ["*"].',
    url=_CONDITIONS,
)
def declared_claims(stack: Stack, _: Config) -> Iterator[Finding]:
    """Looks at each Service that declares claims."""
    for (namespace, name), service in stack.services.items():
        declared = annotations_of(service).get(REQUIRES_CLAIMS) or ""
        for claim in filter(None, (part.strip() for part in declared.split(","))):
            for workload in stack.selected(spec_of(service).get("selector") or {}, namespace):
                if not any(
                    "*" in clause.negative.get(f"request.auth.claims[{claim}]", ())
                    and clause.fields.keys() <= {"ports"}
                    and len(clause.negative) == 1
                    for policy in stack.applying("AuthorizationPolicy", workload)
                    if action_of(policy) == "DENY" and not dry_run(policy)
                    for clause in clauses(policy)
                ):
                    message = f"no DENY of {name} demands the claim {claim}"
                    yield Finding(service, f"metadata.annotations[{REQUIRES_CLAIMS}]", message)


@stack_policy(
    "claims-checked-twice",
    title="What a service asks of a token, the gateway asks too, and the other way round",
    severity=Severity.MEDIUM,
    enforcement=Enforcement.MANDATORY,
    text="Where a DENY at a service needs a claim to be there, the gateway that routes to it "
    "refuses requests without that claim; where a DENY at the gateway needs a value of a claim "
    "for a path, the service behind the path does as well. One of the two removed by mistake then "
    "opens nothing.",
    remedy="Put the same DENY with when.key request.auth.claims[...] and notValues on both.",
    url="https://istio.io/latest/docs/reference/config/security/conditions/",
)
def claims_checked_twice(stack: Stack, _: Config) -> Iterator[Finding]:
    """Compares the claims that DENY policies of gateways and services name."""
    gateways = gateway_workloads(stack)
    at_gateways = {id(g): _claims(stack.applying("AuthorizationPolicy", g)) for g in gateways}
    if not gateways:
        return
    for gateway in gateways:
        mine = at_gateways[id(gateway)]
        seen: set[tuple[str, tuple[str, ...]]] = set()
        for workload in stack.workloads:
            if not workload.proxied or workload in gateways:
                continue
            for policy, key, values, _paths in _claims(
                stack.applying("AuthorizationPolicy", workload)
            ):
                if (key, values) in seen:
                    continue
                seen.add((key, values))
                if not any(k == key and set(values) <= set(v) | {"*"} for _, k, v, _ in mine):
                    yield Finding(policy, "spec.rules", f"gateway {gateway} does not ask for {key}")
        yield from _missing_at_services(stack, mine)


def _missing_at_services(stack: Stack, mine: list[_Claim]) -> Iterator[Finding]:
    by_service = exposed_paths(stack)
    for policy, key, values, paths in mine:
        for (namespace, name), routed in by_service.items():
            asked = [p for p in paths if p != "*" and any(p.rstrip("/*") == r for r in routed)]
            service = stack.services.get((namespace, name))
            if not asked or service is None:
                continue
            for workload in stack.selected(spec_of(service).get("selector") or {}, namespace):
                theirs = _claims(stack.applying("AuthorizationPolicy", workload))
                if not any(
                    k == key and v == values and any_covers(ps, asked[0]) for _, k, v, ps in theirs
                ):
                    message = f"{workload} does not ask for {key} on {asked[0]} itself"
                    yield Finding(policy, "spec.rules", message)


_Claim = tuple[Object, str, tuple[str, ...], tuple[str, ...]]


def _claims(policies: list[Object]) -> list[_Claim]:
    """(policy, claim, values without which it refuses, paths) of all DENY policies."""
    return [
        (policy, key, values, clause.fields.get("paths", ("*",)))
        for policy in policies
        if action_of(policy) == "DENY" and not dry_run(policy)
        for clause in clauses(policy)
        for key, values in clause.negative.items()
        if key.startswith("request.auth.claims[")
    ]


@stack_policy(
    "admin-from-known-addresses",
    title="Operations that need a role are limited to known addresses",
    severity=Severity.MEDIUM,
    enforcement=Enforcement.ADVISORY,
    reason="not every platform has fixed addresses for its administrators",
    text="Where a DENY at the gateway asks for a role on some paths, another refuses these paths to "
    "client addresses that are not listed. A stolen administrator's token is then of no use "
    "elsewhere.",
    remedy="Add a DENY with notRemoteIpBlocks for the same paths.",
    url="https://istio.io/latest/docs/tasks/security/authorization/authz-ingress/",
)
def admin_addresses(stack: Stack, _: Config) -> Iterator[Finding]:
    """Compares the paths of role rules with those of address rules at each gateway."""
    for gateway in gateway_workloads(stack):
        policies = stack.applying("AuthorizationPolicy", gateway)
        limited = [
            path
            for policy in policies
            if action_of(policy) == "DENY" and not dry_run(policy)
            for clause in clauses(policy)
            if clause.negative.keys() <= {"remoteIpBlocks"}
            if clause.fields.keys() <= {"paths", "methods", "ports"}
            for path in clause.fields.get("paths", ("*",))
        ]
        for policy, key, values, paths in _claims(policies):
            open_paths = [p for p in paths if not any_covers(limited, p)]
            if "*" not in values and open_paths:
                message = f"{open_paths[0]} needs {key} and is open to every address"
                yield Finding(policy, "spec.rules", message)


@stack_policy(
    "mesh-entry-demands-identity",
    title="The entry for other clusters refuses callers without a mesh certificate's identity",
    severity=Severity.HIGH,
    text="For each port on which a gateway takes ISTIO_MUTUAL, a DENY refuses callers whose "
    "principal is not of the mesh. The ALLOW rules of the gateway speak of tokens only.",
    remedy="Add a DENY with notPrincipals of the trust domain for the port.",
    url="https://istio.io/latest/docs/reference/config/security/authorization-policy/#Source",
)
def mesh_entry(stack: Stack, _: Config) -> Iterator[Finding]:
    """Looks at each server in mode ISTIO_MUTUAL."""
    for item in stack.of("Gateway"):
        selector = spec_of(item).get("selector") or {}
        refused = {
            port
            for workload in stack.selected(selector, None)
            for policy in stack.applying("AuthorizationPolicy", workload)
            if action_of(policy) == "DENY" and not dry_run(policy)
            for clause in clauses(policy)
            if clause.negative.keys() == {"principals"} and clause.fields.keys() <= {"ports"}
            for port in clause.fields.get("ports", ("*",))
        }
        for index, server in enumerate(spec_of(item).get("servers") or ()):
            number = str((server.get("port") or {}).get("number"))
            mutual = (server.get("tls") or {}).get("mode") == "ISTIO_MUTUAL"
            if mutual and not any_covers(refused, number):
                message = f"no DENY asks callers on port {number} for a principal of the mesh"
                yield Finding(item, f"spec.servers[{index}].tls", message)
