"""Claims of tokens, and addresses for administration: asked for where it is declared, twice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from policies.access_rules import (
    REQUIRES_CLAIMS,
    action_of,
    any_covers,
    clauses,
    dry_run,
    required_claims,
)
from policies.claim_rules import (
    CLIENT,
    ClaimRule,
    Edge,
    Hole,
    claim_rules,
    known_addresses,
    open_ports,
)
from policies.exposed import Ways, exposures, gateway_workloads
from policies.policy import (
    Config,
    Enforcement,
    Finding,
    Severity,
    name_of,
    namespace_of,
    spec_of,
    stack_policy,
)
from policies.regions import (
    HOST,
    METHOD,
    OTHER_ISSUER,
    PATH,
    PEER,
    PORT,
    TOKEN,
    mesh_of,
    missed,
    regions,
    token,
)
from policies.stack import Stack
from semantics.conditions import Dimension
from semantics.request import Token
from semantics.strings import SPIFFE

_CONDITIONS = "https://istio.io/latest/docs/reference/config/security/conditions/"


@stack_policy(
    "declared-claims-demanded",
    title="A service that declares claims demands them",
    severity=Severity.CRITICAL,
    text="The pods of a Service with the annotation voicemesh.io/requires-claims refuse, by a "
    "DENY of their own, on every path and on every port that an ALLOW opens, requests whose token "
    "lacks one of those claims. This is what keeps tenants apart.",
    remedy='Add a DENY for the workload with when.key request.auth.claims[...] and notValues ["*"].',
    url=_CONDITIONS,
)
def declared_claims(stack: Stack, _: Config) -> Iterator[Finding]:
    """Looks at each Service that declares claims."""
    mesh = mesh_of(stack)
    for (namespace, name), service in stack.services.items():
        for claim in required_claims(service):
            for workload in stack.selected(spec_of(service).get("selector") or {}, namespace):
                policies = stack.applying("AuthorizationPolicy", workload)
                asking = [
                    rule.region
                    for rule in claim_rules(policies, mesh)
                    if rule.key == f"request.auth.claims[{claim}]" and "*" in rule.values
                ]
                everybody = [None, Token({"iss": OTHER_ISSUER}), token()]
                hole = missed(asking, {PORT: open_ports(stack, workload, mesh), TOKEN: everybody})
                if hole is not None:
                    where = f", {_described(hole)}" if asking else ""
                    message = f"no DENY of {name} demands the claim {claim}{where}"
                    yield Finding(service, f"metadata.annotations[{REQUIRES_CLAIMS}]", message)


@stack_policy(
    "claims-checked-twice",
    title="What a service asks of a token, the gateway asks too, and the other way round",
    severity=Severity.MEDIUM,
    enforcement=Enforcement.MANDATORY,
    text="Where a DENY at a service needs a claim to be there, the gateway that routes to it "
    "refuses requests without that claim; where a DENY at the gateway needs a value of a claim "
    "for a path, the service behind the path does as well. Both do so for the same methods, paths, "
    "hosts and ports, and whoever calls. One of the two removed by mistake then opens nothing.",
    remedy="Put the same DENY with when.key request.auth.claims[...] and notValues on both.",
    url="https://istio.io/latest/docs/reference/config/security/conditions/",
)
def claims_checked_twice(stack: Stack, _: Config) -> Iterator[Finding]:
    """Compares the claims that DENY policies of gateways and services name, request by request."""
    mesh, ways = mesh_of(stack), exposures(stack)
    for gateway in gateway_workloads(stack):
        edge = Edge(stack, gateway)
        mine = claim_rules(stack.applying("AuthorizationPolicy", gateway), mesh)
        yield from _missing_at_gateway(stack, edge, mine, ways)
        yield from _missing_at_services(stack, edge, mine, ways)


def _missing_at_gateway(
    stack: Stack, edge: Edge, mine: list[ClaimRule], ways: Ways
) -> Iterator[Finding]:
    reported: set[tuple[str, frozenset[str]]] = set()
    gateways, mesh = gateway_workloads(stack), mesh_of(stack)
    for workload in stack.workloads:
        if not workload.proxied or workload in gateways:
            continue
        leading = [
            way
            for service in stack.services_selecting(workload)
            for way in ways.get((namespace_of(service), name_of(service)), ())
        ]
        for rule in claim_rules(stack.applying("AuthorizationPolicy", workload), mesh):
            if (rule.key, rule.values) in reported:
                continue
            asking = [
                each.region
                for each in mine
                if each.key == rule.key and rule.values <= each.values | {"*"}
            ]
            if not ways:
                hole: Hole = None if asking else {}
            else:
                hole = edge.missed_at_gateway(rule.region, leading, asking)
            if hole is not None:
                reported.add((rule.key, rule.values))
                where = f", {_described(hole)}" if asking else ""
                message = f"gateway {edge.gateway} does not ask for {rule.key}{where}"
                yield Finding(rule.policy, "spec.rules", message)


def _missing_at_services(
    stack: Stack, edge: Edge, mine: list[ClaimRule], ways: Ways
) -> Iterator[Finding]:
    mesh = mesh_of(stack)
    for rule in mine:
        if all(condition.negated for condition in rule.region.on(PATH)):
            continue
        for (namespace, name), leading in ways.items():
            service = stack.services.get((namespace, name))
            asked = [way for way in leading if edge.leads(rule.region, way)]
            if not asked or service is None:
                continue
            for workload in stack.selected(spec_of(service).get("selector") or {}, namespace):
                theirs = [
                    each.region
                    for each in claim_rules(stack.applying("AuthorizationPolicy", workload), mesh)
                    if each.key == rule.key and each.values == rule.values
                ]
                hole = edge.missed_at_service(rule.region, asked, theirs, workload)
                if hole is not None:
                    message = f"{workload} does not ask for {rule.key} itself, {_described(hole)}"
                    yield Finding(rule.policy, "spec.rules", message)


def _described(hole: Mapping[Dimension, Any]) -> str:
    """A request in a few words."""
    method, path = hole.get(METHOD), hole.get(PATH)
    words = [str(each) for each in (method, path) if each is not None]
    for dimension, word in ((HOST, "at host"), (PORT, "on port")):
        if dimension in hole:
            words.append(f"{word} {hole[dimension]}")
    if hole.get(PEER) is not None:
        words.append(f"from {str(hole[PEER]).removeprefix(SPIFFE)}")
    return " ".join(["not for", *words]) if words else "not for every request"


@stack_policy(
    "admin-from-known-addresses",
    title="Operations that need a role are limited to known addresses",
    severity=Severity.MEDIUM,
    enforcement=Enforcement.ADVISORY,
    reason="not every platform has fixed addresses for its administrators",
    text="Where a DENY at the gateway asks for a role on some paths, another refuses these paths to "
    "client addresses that are not listed, with the same methods. A range wider than /8 is no list. "
    "A stolen administrator's token is then of no use elsewhere.",
    remedy="Add a DENY with notRemoteIpBlocks for the same paths.",
    url="https://istio.io/latest/docs/tasks/security/authorization/authz-ingress/",
)
def admin_addresses(stack: Stack, _: Config) -> Iterator[Finding]:
    """Compares role rules with address rules at each gateway, request by request."""
    mesh = mesh_of(stack)
    for gateway in gateway_workloads(stack):
        policies = stack.applying("AuthorizationPolicy", gateway)
        limited = [
            region.without(*region.on(CLIENT))
            for policy in policies
            if action_of(policy) == "DENY" and not dry_run(policy)
            for region in regions(policy, mesh)
            # A rule about tokens refuses some, from whatever address they come.
            if not any(c.negated for c in region.on(TOKEN))
            if all(c.negated and known_addresses(c.values) for c in region.on(CLIENT))
        ]
        for rule in claim_rules(policies, mesh):
            if "*" in rule.values:
                continue
            hole = Edge(stack, gateway).missed_everywhere(rule.region, limited)
            if hole is not None:
                where = hole.get(PATH, "every path")
                message = f"{where} needs {rule.key} and is open to every address"
                if limited and METHOD in hole:
                    message = f"{hole[METHOD]} {message}"
                yield Finding(rule.policy, "spec.rules", message)


@stack_policy(
    "mesh-entry-demands-identity",
    title="The entry for other clusters refuses callers without a mesh certificate's identity",
    severity=Severity.HIGH,
    text="For each port on which a gateway takes ISTIO_MUTUAL, a DENY refuses callers whose "
    "principal is not of the mesh's trust domain. The ALLOW rules of the gateway speak of tokens "
    "only.",
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
            if all(
                p.partition("/")[0] in stack.trust_domains for p in clause.negative["principals"]
            )
            for port in clause.fields.get("ports", ("*",))
        }
        for index, server in enumerate(spec_of(item).get("servers") or ()):
            number = str((server.get("port") or {}).get("number"))
            mutual = (server.get("tls") or {}).get("mode") == "ISTIO_MUTUAL"
            if mutual and not any_covers(refused, number):
                message = f"no DENY asks callers on port {number} for a principal of the mesh"
                yield Finding(item, f"spec.servers[{index}].tls", message)
