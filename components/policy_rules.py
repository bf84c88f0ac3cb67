"""What AuthorizationPolicies are put together from: identities, paths, hosts, rules."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from components.component import ComponentArgs
from components.istio.authorization_policy import (
    AuthorizationPolicy,
    AuthorizationPolicySpec,
    Condition,
    Operation,
    Rule,
    RuleFrom,
    RuleTo,
    Source,
)
from components.istio.selector import WorkloadSelector
from components.objects import PUBLIC_WITHOUT_TOKEN, REASON, Manifest
from components.wire import ObjectMeta
from model.access import Catalogue
from model.service import Route
from model.settings import Authentication, Authorization, Namespaces
from model.values import Method

Action = Literal["ALLOW", "DENY", "AUDIT"]
_PADDED = (" *", "* ", "\t*", "*\t")


class AuthorizationArgs(ComponentArgs):
    """What all policies are derived from; arguments of `Authorizations`."""

    namespaces: Namespaces
    trust_domain: str
    public_hosts: tuple[str, str, str]
    """Hosts for HTTP, WebSocket and gRPC, in this order."""
    authentication: Authentication
    authorization: Authorization
    catalogue: Catalogue
    east_west: bool
    preflights: bool
    """True where browsers of other origins may call, so that their preflights must pass."""


def principal(trust_domain: str, namespace: str, account: str) -> str:
    """The identity of a service account as policies and certificates name it, without spiffe://."""
    return f"{trust_domain}/ns/{namespace}/sa/{account}"


def paths_below(*prefixes: str) -> list[str]:
    """Path matches for whole segments: the prefix itself and everything below it."""
    return [path for prefix in prefixes for path in (prefix, f"{prefix}/*")]


def policy(
    name: str,
    namespace: str,
    selector: dict[str, str],
    action: Action,
    rules: list[Rule],
    public: str = "",
) -> Manifest:
    """An AuthorizationPolicy; `public` says why it lets clients in without a token."""
    annotations = {PUBLIC_WITHOUT_TOKEN: "true", REASON: public} if public else None
    return AuthorizationPolicy(
        metadata=ObjectMeta(name=name, namespace=namespace, annotations=annotations),
        spec=AuthorizationPolicySpec(
            selector=WorkloadSelector(match_labels=selector), action=action, rules=rules
        ),
    ).manifest()


def route_operations(
    routes: Iterable[Route], *, ports: list[str], hosts: list[str] | None = None
) -> list[Operation]:
    """One operation for each set of methods that the routes serve."""
    grouped: dict[tuple[Method, ...], list[str]] = {}
    for route in routes:
        grouped.setdefault(route.methods, []).append(route.path)
    return [
        Operation(
            hosts=hosts,
            methods=list(methods) or None,
            paths=paths_below(*paths),
            ports=ports,
        )
        for methods, paths in grouped.items()
    ]


def authorities(hosts: Iterable[str]) -> list[str]:
    """Host matches for an authority with and without a port."""
    return [match for host in hosts for match in (host, f"{host}:*")]


def request_principals(args: AuthorizationArgs) -> list[str]:
    """Any subject of any listed issuer; a token of another issuer has no principal here."""
    return [f"{issuer.issuer}/*" for issuer in args.authentication.issuers]


def claim(name: str) -> str:
    """A claim of the verified token as the key of a condition."""
    return f"request.auth.claims[{name}]"


def without_tenant(
    args: AuthorizationArgs, operation: Operation, *, source: list[Source] | None = None
) -> list[Rule]:
    """Rules about requests whose token, if it is from `source`, names no tenant.

    Nor is a name with blanks around it one: HTTP drops the blanks around a header's value, so that
    services would take " acme" for "acme".
    Source: https://www.rfc-editor.org/rfc/rfc9110#section-5.5
    """
    key = claim(args.authentication.tenant.claim)
    return [
        policy_rule(source=source, to=[operation], when=[Condition(key=key, not_values=["*"])]),
        policy_rule(to=[operation], when=[Condition(key=key, values=list(_PADDED))]),
    ]


def policy_rule(
    *,
    source: list[Source] | None = None,
    to: list[Operation] | None = None,
    when: list[Condition] | None = None,
) -> Rule:
    """One rule: any of the sources, any of the operations, all of the conditions."""
    return Rule(
        from_=[RuleFrom(source=one) for one in source] if source else None,
        to=[RuleTo(operation=one) for one in to] if to else None,
        when=when,
    )
