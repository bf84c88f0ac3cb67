"""Identity that is true: certificates where policies name them, tokens that someone checks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from policies.access_rules import (
    PEER,
    action_of,
    any_covers,
    clauses,
    covers,
    declared_public,
    required_claims,
)
from policies.exposed import gateway_workloads
from policies.policy import (
    Config,
    Finding,
    Severity,
    namespace_of,
    reference,
    spec_of,
    stack_policy,
)
from policies.routing import public_routes, uri_of
from policies.stack import Stack, by_reference, selector_of
from policies.workloads import Workload

_REQUEST_AUTHENTICATION = (
    "https://istio.io/latest/docs/reference/config/security/request_authentication/"
)
_PRINCIPALS = "https://istio.io/latest/docs/reference/config/security/authorization-policy/#Source"


@stack_policy(
    "identity-needs-mtls",
    title="Policies ask for certificates only where callers must show one",
    severity=Severity.HIGH,
    codes=("KIA0105",),
    text="principals, serviceAccounts and namespaces are known only over mutual TLS. Where a "
    "selected workload takes plain text or has no proxy, an ALLOW never matches and a DENY with "
    "principals lets plain text through.",
    remedy="Make mutual TLS STRICT for the workload, and inject a proxy.",
    url=_PRINCIPALS,
)
def identity_needs_mtls(stack: Stack, _: Config) -> Iterator[Finding]:
    """Finds the mode of each selected workload."""
    for item in stack.of("AuthorizationPolicy"):
        path = next((c.path for c in clauses(item) if _asks_peer(c.fields, c.negative)), None)
        if path is None:
            continue
        for workload in stack.taken_by(item):
            mode = _mode(stack, workload)
            if not workload.proxied:
                yield Finding(item, path, f"{workload} has no proxy that would check it")
            elif mode != "STRICT":
                yield Finding(item, path, f"mutual TLS of {workload} is {mode}")


def _asks_peer(*fields: object) -> bool:
    return any(name in named for name in PEER for named in fields if isinstance(named, dict))


def _mode(stack: Stack, workload: Workload) -> str:
    """The effective mode: workload before namespace before mesh; ports may only be stricter."""
    ranked = sorted(
        stack.applying("PeerAuthentication", workload),
        key=lambda p: (bool(selector_of(p)), namespace_of(p) == workload.namespace),
        reverse=True,
    )
    if stack.is_gateway(workload.labels):
        return "STRICT"  # its Gateway servers say who must show a certificate
    for item in ranked:
        for port in (spec_of(item).get("portLevelMtls") or {}).values():
            if (port or {}).get("mode") in ("PERMISSIVE", "DISABLE"):
                return f"{port['mode']} on some port"
        mode = (spec_of(item).get("mtls") or {}).get("mode")
        if mode and mode != "UNSET":
            return str(mode)
    return "PERMISSIVE"


@stack_policy(
    "claims-need-issuer",
    title="Rules about tokens stand where tokens are checked",
    severity=Severity.HIGH,
    codes=("IST0149",),
    text="Every workload with a rule about requestPrincipals or claims has a RequestAuthentication "
    "that lists the issuers named. Elsewhere no token is read: an ALLOW refuses all, a DENY on a "
    "claim's value does not see it. The same holds for routing on claims at a gateway.",
    remedy="Add a RequestAuthentication for the workload with the issuers that are meant.",
    url=_REQUEST_AUTHENTICATION,
)
def claims_need_issuer(stack: Stack, _: Config) -> Iterator[Finding]:
    """Compares rules with the issuers known to each selected workload."""
    for item in stack.of("AuthorizationPolicy"):
        named = {
            (clause.path, principal)
            for clause in clauses(item)
            for each in (clause.fields, clause.negative)
            for name, values in each.items()
            if name == "requestPrincipals" or name.startswith("request.auth.")
            for principal in (values if name == "requestPrincipals" else ("*",))
        }
        if not named:
            continue
        problems: dict[tuple[str, str], None] = {}
        for workload in stack.taken_by(item):
            issuers = issuers_of(stack, workload)
            if not issuers:
                path = min(path for path, _ in named)
                problems[path, f"no RequestAuthentication checks tokens for {workload}"] = None
                continue
            for path, principal in sorted(named):
                if not any(
                    covers(principal, f"{issuer}/*") or principal.startswith(f"{issuer}/")
                    for issuer in issuers
                ):
                    problems[
                        path,
                        f"no RequestAuthentication of {workload} lists the issuer of {principal}",
                    ] = None
        for path, message in problems:
            yield Finding(item, path, message)
    for route in public_routes(stack):
        headers = [str(h) for m in route.matches for h in m.get("headers") or {}]
        claim = next((h for h in headers if h.startswith("@request.auth.claims")), None)
        if claim and not any(
            stack.is_gateway(selector_of(r)) for r in stack.of("RequestAuthentication")
        ):
            message = f"no RequestAuthentication of a gateway provides {claim}"
            yield Finding(route.virtual_service, f"{route.path}.match", message)


def issuers_of(stack: Stack, workload: Workload) -> set[str]:
    """Issuers whose tokens the RequestAuthentications of a workload take."""
    return {
        str(rule.get("issuer"))
        for item in stack.applying("RequestAuthentication", workload)
        for rule in spec_of(item).get("jwtRules") or ()
    }


@stack_policy(
    "token-demanded",
    title="Where tokens are checked, some rule demands one",
    severity=Severity.CRITICAL,
    text="A RequestAuthentication refuses bad tokens and lets requests without any token pass. "
    "Only an AuthorizationPolicy with requestPrincipals or claims for the same workloads makes "
    "tokens mandatory.",
    remedy='Ask for requestPrincipals in the ALLOW, or DENY notRequestPrincipals ["*"].',
    url=_REQUEST_AUTHENTICATION,
)
def token_demanded(stack: Stack, _: Config) -> Iterator[Finding]:
    """Looks for one policy about tokens among those of the selected workloads."""
    for item in stack.of("RequestAuthentication"):
        if by_reference(item):
            continue
        reached = {
            id(policy): policy
            for workload in stack.taken_by(item)
            for policy in stack.applying("AuthorizationPolicy", workload)
        }
        demanding = (
            clause
            for policy in reached.values()
            for clause in clauses(policy)
            if (action_of(policy) == "ALLOW" and clause.token())
            or (action_of(policy) == "DENY" and "*" in clause.negative.get("requestPrincipals", ()))
        )
        if next(demanding, None) is None:
            yield Finding(item, "spec.jwtRules", "no AuthorizationPolicy demands such a token")


@stack_policy(
    "claim-headers-guarded",
    title="A header that carries a claim can't be written by a client",
    severity=Severity.CRITICAL,
    text="A header that one issuer's rule fills from a claim, or from all of them, is filled by the "
    "rule of every issuer of every RequestAuthentication, for one issuer from the same claim, and "
    "routes that are open without a token remove it. A claim that a Service requires (voicemesh.io/requires-claims) is "
    "put into some header by every rule of its pods. Otherwise a client writes the header itself "
    "and is believed.",
    remedy="Give every jwtRule the same outputClaimToHeaders, with the claims that services "
    "require, and remove these headers on routes that are open without a token.",
    url=_REQUEST_AUTHENTICATION + "#ClaimToHeader",
)
def claim_headers_guarded(stack: Stack, _: Config) -> Iterator[Finding]:
    """Compares the rules with each other, then looks at the routes that need no token."""
    rules = [
        (item, index, rule)
        for item in stack.of("RequestAuthentication")
        for index, rule in enumerate(spec_of(item).get("jwtRules") or ())
    ]
    headers = {header for _, _, rule in rules for header in _filled(rule)}
    meant: dict[tuple[str, str], str] = {}
    required = _required_claims(stack)
    for item, index, rule in rules:
        path, filled = f"spec.jwtRules[{index}].outputClaimToHeaders", _filled(rule)
        issuer = str(rule.get("issuer"))
        for header in sorted(headers - filled.keys()):
            message = f"with a token of {issuer} the client writes {header} itself"
            yield Finding(item, path, message)
        for header, claim in filled.items():
            first = meant.setdefault((issuer, header), claim)
            if first != claim:
                yield Finding(
                    item, path, f"{header} is filled from {claim}, elsewhere from {first}"
                )
        for claim, service in required.get(id(item), {}).items():
            if claim not in filled.values():
                message = f"no header tells {service} the claim {claim} which it requires"
                yield Finding(item, path, message)
    yield from _open_routes(stack, headers)


def _filled(rule: Mapping[str, Any]) -> dict[str, str]:
    """Headers that an issuer's rule fills, each with its claim; all claims at once count as one."""
    filled = {
        str(out.get("header", "")).lower(): str(out.get("claim", ""))
        for out in rule.get("outputClaimToHeaders") or ()
    }
    if payload := rule.get("outputPayloadToHeader"):
        filled[str(payload).lower()] = "the whole payload"
    return filled


def _required_claims(stack: Stack) -> dict[int, dict[str, str]]:
    """Claims that Services require of their pods' RequestAuthentications, with the Service."""
    found: dict[int, dict[str, str]] = {}
    for (namespace, name), service in stack.services.items():
        for claim in required_claims(service):
            for workload in stack.selected(spec_of(service).get("selector") or {}, namespace):
                for item in stack.applying("RequestAuthentication", workload):
                    found.setdefault(id(item), {}).setdefault(claim, f"{namespace}/{name}")
    return found


def _open_routes(stack: Stack, headers: set[str]) -> Iterator[Finding]:
    open_paths = {
        path
        for item in stack.of("AuthorizationPolicy")
        if declared_public(item) and not stack.is_gateway(selector_of(item))
        for clause in clauses(item)
        for path in clause.fields.get("paths", ())
    }
    for route in public_routes(stack) if headers and open_paths else ():
        paths = {uri_of(match)[1] for match in route.matches}
        if not route.forwards or not any(p and any_covers(open_paths, p) for p in paths):
            continue
        request = (route.route.get("headers") or {}).get("request") or {}
        kept = headers - {str(name).lower() for name in request.get("remove") or ()}
        if kept:
            message = (
                f"route {route.named} is open without a token and keeps {', '.join(sorted(kept))}"
            )
            yield Finding(route.virtual_service, f"{route.path}.headers.request.remove", message)


@stack_policy(
    "token-forwarded",
    title="The gateway hands tokens on to services that demand them",
    severity=Severity.MEDIUM,
    text="Where policies of services ask for requestPrincipals or claims, the gateway's "
    "RequestAuthentication has forwardOriginalToken; else the service never sees the token.",
    remedy="Set forwardOriginalToken: true on the gateway's jwtRules.",
    url=_REQUEST_AUTHENTICATION + "#JWTRule",
)
def token_forwarded(stack: Stack, _: Config) -> Iterator[Finding]:
    """Looks for a service that demands a token, then at the gateways' rules."""
    asking = next(
        (
            item
            for item in stack.of("AuthorizationPolicy")
            if not stack.is_gateway(selector_of(item))
            and any(clause.token() for clause in clauses(item))
        ),
        None,
    )
    if asking is None:
        return
    at_gateways = {
        id(item): item
        for gateway in gateway_workloads(stack)
        for item in stack.applying("RequestAuthentication", gateway)
    }
    for item in at_gateways.values():
        for index, rule in enumerate(spec_of(item).get("jwtRules") or ()):
            if not rule.get("forwardOriginalToken"):
                path = f"spec.jwtRules[{index}].forwardOriginalToken"
                yield Finding(item, path, f"{reference(asking)} never sees the token")
