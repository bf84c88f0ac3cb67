"""What ALLOW policies let in: named callers, and no more than their narrowest sibling."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator

from policies.access_rules import (
    PUBLIC_WITHOUT_TOKEN,
    REASON,
    allows,
    clauses,
    declared_public,
)
from policies.exposed import Ways, exposed_paths, exposures
from policies.policy import (
    Config,
    Enforcement,
    Finding,
    Object,
    Severity,
    annotations_of,
    name_of,
    namespace_of,
    object_policy,
    reference,
    spec_of,
    stack_policy,
)
from policies.regions import PEER, TOKEN, mesh_of, regions
from policies.rules.references import ports_of
from policies.stack import Stack, selector_of
from policies.widening import Comparison, Surroundings
from policies.workloads import Workload
from semantics.strings import SPIFFE

_POLICY = "https://istio.io/latest/docs/reference/config/security/authorization-policy/"
_PRACTICE = "https://istio.io/latest/docs/ops/best-practices/security/#authorization-policies"
_ANYTHING = {"hosts": {"*"}, "methods": {"*"}, "paths": {"*", "/*", "/{**}"}}
"""Values by which a rule names a field and asks nothing."""


@object_policy(
    "allow-names-callers",
    "AuthorizationPolicy",
    title="ALLOW says who may call",
    severity=Severity.CRITICAL,
    text="Every rule of an ALLOW policy names callers, by certificate or by token, unless the "
    "policy is declared public. A rule with nothing in it, which allows everything to everybody, "
    "can't be declared.",
    remedy="Name principals or requestPrincipals, or declare the opening with "
    "voicemesh.io/public-without-token and voicemesh.io/reason.",
    url=_PRACTICE,
)
def names_callers(item: Object, _: Config) -> Iterator[Finding]:
    """Looks at each clause."""
    if not allows(item):
        return
    for clause in clauses(item):
        asked = [n for n, v in clause.fields.items() if not _ANYTHING.get(n, set()) & set(v)]
        if not asked and not clause.negative:
            yield Finding(item, clause.path, "the rule allows everything to everybody")
        elif not clause.identified() and not declared_public(item):
            yield Finding(item, clause.path, "the rule allows callers without any identity")


@object_policy(
    "allow-names-accounts",
    "AuthorizationPolicy",
    title="ALLOW names service accounts, not whole namespaces",
    severity=Severity.CRITICAL,
    text="Callers are named one by one. A pattern over accounts, wherever its * stands, or a "
    "namespace or trust domain as the only thing asked, lets in whatever is deployed there next.",
    remedy="List the service accounts that call.",
    url=_POLICY + "#Source",
)
def names_accounts(item: Object, _: Config) -> Iterator[Finding]:
    """Looks for patterns that take in more than one account."""
    if not allows(item):
        return
    for clause in clauses(item):
        wide = [
            value
            for name in ("principals", "serviceAccounts")
            for value in clause.fields.get(name, ())
            if "*" in value
        ]
        for value in wide:
            yield Finding(item, clause.path, f"{value} stands for more than one service account")
        if {"principals", "serviceAccounts"} & clause.fields.keys():
            continue
        for name, place in (("namespaces", "namespace"), ("trustDomains", "trust domain")):
            if value := ", ".join(clause.fields.get(name, ())):
                yield Finding(item, clause.path, f"everything in {place} {value} may call")


@object_policy(
    "allow-names-issuers",
    "AuthorizationPolicy",
    title="ALLOW names the issuers it trusts",
    severity=Severity.MEDIUM,
    text='requestPrincipals ["*"], or a claim alone, lets in a token of any issuer that any '
    "RequestAuthentication of the workload accepts, of one added later for something else too.",
    remedy="Write issuer/* for each issuer that is meant.",
    url=_POLICY + "#Source",
)
def names_issuers(item: Object, _: Config) -> Iterator[Finding]:
    """Looks for patterns over issuers, and for claims of nobody in particular."""
    if not allows(item):
        return
    for clause in clauses(item):
        # Without a slash the pattern is one of issuers alone.
        principals = clause.fields.get("requestPrincipals", ())
        for principal in principals:
            if principal.startswith("*") or ("*" in principal and "/" not in principal):
                yield Finding(item, clause.path, f"{principal} takes in every issuer")
        issuers = clause.fields.get("request.auth.claims[iss]", ("*",))
        if clause.token() and not principals and any("*" in issuer for issuer in issuers):
            yield Finding(item, clause.path, "it takes such a token of every issuer")


@object_policy(
    "allow-positive",
    "AuthorizationPolicy",
    title="ALLOW uses positive matches",
    severity=Severity.HIGH,
    text="An ALLOW with notPrincipals lets in callers without any certificate; one with notPaths "
    "or notMethods lets in whatever is added next. Exceptions belong into a DENY.",
    remedy="List what is allowed; move the exception into a DENY policy.",
    url=_PRACTICE,
)
def positive(item: Object, _: Config) -> Iterator[Finding]:
    """Looks at the negative fields."""
    if allows(item):
        for clause in clauses(item):
            for name in clause.negative:
                negative = (
                    f"not{name[0].upper()}{name[1:]}" if "." not in name else f"{name} notValues"
                )
                yield Finding(item, clause.path, f"it allows by exception: {negative}")


@object_policy(
    "header-is-no-identity",
    "AuthorizationPolicy",
    title="No request is let in because of a header",
    severity=Severity.HIGH,
    text="A rule of an ALLOW policy that looks at a request header also asks for a certificate "
    "or a token. Every client can write a header.",
    remedy="Use request.auth.claims[...] or a principal.",
    url="https://istio.io/latest/docs/reference/config/security/conditions/",
)
def header_is_no_identity(item: Object, _: Config) -> Iterator[Finding]:
    """Looks at conditions on headers; what is declared public asks for no identity anyway."""
    if not allows(item) or declared_public(item):
        return
    for clause in clauses(item):
        headers = [key for key in clause.fields if key.startswith("request.headers[")]
        if headers and not clause.identified():
            yield Finding(item, clause.path, f"{headers[0]} alone lets the request in")


@stack_policy(
    "allow-not-undone",
    title="No broad ALLOW undoes a narrow one",
    severity=Severity.CRITICAL,
    text="ALLOW policies of one workload are ORed. Where one asks for a caller, a token, a path or "
    "a method, no other lets the same requests in without asking. One namespace-wide ALLOW for the "
    "gateway makes all rules by path and token ineffective. Fields that ask nothing, such as any "
    "host, all ports there are or a claim that every token has, make no rule narrow.",
    remedy="Narrow the broader rule until it no longer takes in the requests of the other, or "
    "delete the one that has no effect.",
    url="https://istio.io/latest/docs/concepts/security/#implicit-enablement",
)
def not_undone(stack: Stack, _: Config) -> Iterator[Finding]:
    """Compares every clause with those of the policies that share a workload with it."""
    mesh, comparison = mesh_of(stack), Comparison()
    parsed = {id(p): list(regions(p, mesh)) for p in stack.of("AuthorizationPolicy") if allows(p)}
    reported: set[int] = set()
    for broad, narrow, around in _siblings(stack, parsed.keys()):
        declared = declared_public(broad)
        for clause in parsed[id(broad)]:
            if id(clause) in reported:
                continue
            others = (other for other in parsed[id(narrow)] if other is not clause)
            found = (comparison.lost(clause, each, around, declared=declared) for each in others)
            if lost := next(filter(None, found), None):
                reported.add(id(clause))
                own = "a rule of its own" if broad is narrow else reference(narrow)
                message = f"what {own} lets in with {' and '.join(lost)} is let in here without"
                yield Finding(broad, clause.path, message)


def _siblings(
    stack: Stack, allowing: Collection[int]
) -> Iterator[tuple[Object, Object, Surroundings]]:
    """Every two ALLOW policies of one workload, with what is known of its pods.

    A declared opening is never the narrow one: it asks for nothing that could be undone.
    """
    ways = exposures(stack)
    compared: set[tuple[int, int, Surroundings]] = set()
    for workload in stack.workloads:
        siblings = [p for p in stack.applying("AuthorizationPolicy", workload) if id(p) in allowing]
        around = _surroundings(stack, workload, ways) if siblings else Surroundings()
        narrow = [p for p in siblings if not declared_public(p)]
        for one, other in itertools.product(siblings, narrow):
            pair = (id(one), id(other), around)
            if pair not in compared:
                compared.add(pair)
                yield one, other, around


def _surroundings(stack: Stack, workload: Workload, ways: Ways) -> Surroundings:
    behind = (
        ways.values()
        if stack.is_gateway(workload.labels)
        else [
            ways.get((namespace_of(s), name_of(s)), ()) for s in stack.services_selecting(workload)
        ]
    )
    return Surroundings(
        routed=frozenset(
            way.uri.rstrip("/")
            for leading in behind
            for way in leading
            if way.how != "regex" and not way.rewritten
        ),
        ports=frozenset(int(port) for port in ports_of(stack, workload) if port.isdigit()),
        audiences=frozenset(
            str(audience)
            for item in stack.applying("RequestAuthentication", workload)
            for rule in spec_of(item).get("jwtRules") or ()
            for audience in rule.get("audiences") or ()
        ),
    )


@stack_policy(
    "public-declared",
    title="What is open without a token says so",
    severity=Severity.CRITICAL,
    text="A policy that lets requests from outside pass without a token, at the gateway or from "
    "the gateway to a service, carries the annotation voicemesh.io/public-without-token and a "
    "voicemesh.io/reason.",
    remedy="Ask for requestPrincipals, or declare the opening and its reason.",
    url="https://istio.io/latest/docs/tasks/security/authentication/authn-policy/#require-a-valid-token",
)
def public_is_declared(stack: Stack, _: Config) -> Iterator[Finding]:
    """Looks at ALLOW policies of gateways, and at those for the gateways' accounts."""
    mesh = mesh_of(stack)
    gateways = [
        f"{SPIFFE}{domain}/ns/{account.replace('/', '/sa/')}"
        for account in stack.gateway_accounts
        for domain in stack.trust_domains
    ]
    exposed = set(exposed_paths(stack))
    for item in stack.of("AuthorizationPolicy"):
        if not allows(item) or declared_public(item):
            continue
        reached = stack.taken_by(item)
        routed = not exposed or any(
            (namespace_of(service), name_of(service)) in exposed
            for workload in reached
            for service in stack.services_selecting(workload)
        )
        at_gateway = bool(selector_of(item)) and stack.is_gateway(selector_of(item))
        for region in regions(item, mesh):
            if any(c.dimension == TOKEN and not c.negated for c in region.conditions):
                continue
            callers = region.on(PEER)
            named = any(not c.negated for c in callers)
            from_gateway = named and any(
                all(c.holds(gateway) for c in callers) for gateway in gateways
            )
            if (at_gateway and not named) or (from_gateway and routed and not at_gateway):
                where = "the gateway" if at_gateway else "the service"
                message = f"requests without a token pass {where}, and the policy does not say so"
                yield Finding(item, region.path, message)


@object_policy(
    "public-has-reason",
    "AuthorizationPolicy",
    title="An opening without token has a reason",
    severity=Severity.MEDIUM,
    text="The annotation voicemesh.io/public-without-token comes with voicemesh.io/reason, in "
    "words that a reviewer can judge, and only on policies that open something.",
    remedy="Write the reason, or remove the declaration.",
    url=_PRACTICE,
    enforcement=Enforcement.MANDATORY,
)
def public_has_reason(item: Object, _: Config) -> Iterator[Finding]:
    """Looks at the two annotations."""
    annotations = annotations_of(item)
    if PUBLIC_WITHOUT_TOKEN not in annotations:
        return
    path = f"metadata.annotations[{PUBLIC_WITHOUT_TOKEN}]"
    if len((annotations.get(REASON) or "").split()) < 3:
        yield Finding(item, f"metadata.annotations[{REASON}]", "there is no reason given")
    if not allows(item):
        yield Finding(item, path, "the policy allows nothing, so there is nothing to declare")
    elif all(clause.token() for clause in clauses(item)):
        yield Finding(item, path, "every rule asks for a token")
