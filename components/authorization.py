"""Who may do what: AuthorizationPolicies derived from the catalogue, on top of deny by default.

ALLOW policies of one workload are ORed, so none here is broader than one caller group: the
callers by service account, the gateway by route. What must hold for all of them (roles, tenant,
addresses) is a DENY, which no ALLOW can undo.
Source: https://istio.io/latest/docs/concepts/security/#implicit-enablement
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

from components.component import ComponentArgs, MeshComponent
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
from components.objects import PUBLIC_WITHOUT_TOKEN, REASON, Manifest, labelled
from components.wire import ObjectMeta
from model.access import Catalogue
from model.service import Route, Service
from model.settings import Authentication, Authorization, Namespaces
from model.values import Method

GATEWAY = "istio-ingressgateway"
"""Service account and release name of the ingress gateway."""
GATEWAY_SELECTOR = {"istio": "ingressgateway"}
HTTP_PORT, HTTPS_PORT, EAST_WEST_PORT = 80, 443, 15443
"""Ports the gateway's pods listen on, which are those that policies match."""

Action = Literal["ALLOW", "DENY", "AUDIT"]

_INTERNAL_PATHS = ("/metrics", "/debug", "/actuator", "/stats", "/config_dump")


class AuthorizationArgs(ComponentArgs):
    """Arguments of `Authorizations`."""

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


class Authorizations(MeshComponent[AuthorizationArgs]):
    """All AuthorizationPolicies of the stack."""

    token = "voicemesh:istio:Authorizations"  # noqa: S105 - a Pulumi type token

    @staticmethod
    def build(args: AuthorizationArgs) -> tuple[Manifest, ...]:
        """Deny by default, then the gateway's policies, then each service's."""
        policies = [_deny_all(args), *_gateway_policies(args)]
        for service in args.catalogue.services:
            policies += _service_policies(args, service)
        return labelled(args.stack, "authorization", policies)


def principal(trust_domain: str, namespace: str, account: str) -> str:
    """The identity of a service account as policies and certificates name it, without spiffe://."""
    return f"{trust_domain}/ns/{namespace}/sa/{account}"


def paths_below(*prefixes: str) -> list[str]:
    """Path matches for whole segments: the prefix itself and everything below it."""
    return [path for prefix in prefixes for path in (prefix, f"{prefix}/*")]


def _deny_all(args: AuthorizationArgs) -> Manifest:
    # An ALLOW policy without rules matches nothing; in the root namespace it covers the mesh.
    return AuthorizationPolicy(
        metadata=ObjectMeta(name="deny-all", namespace=args.namespaces.mesh),
        spec=AuthorizationPolicySpec(),
    ).manifest()


def _gateway_policies(args: AuthorizationArgs) -> Iterator[Manifest]:
    catalogue, api = args.catalogue, [args.public_hosts[0]]
    tls_ports = [str(HTTPS_PORT), *([str(EAST_WEST_PORT)] if args.east_west else [])]
    public = [exposure for exposure in catalogue.exposures if exposure.route.access == "public"]
    public_paths = paths_below(*(route.path for _, route in public))

    yield _gateway(
        args,
        "gateway-redirect",
        "ALLOW",
        [_rule(to=[Operation(ports=[str(HTTP_PORT)])])],
        public="plain HTTP is answered with a redirect to HTTPS and never forwarded",
    )
    if args.preflights:
        yield _gateway(
            args,
            "gateway-preflight",
            "ALLOW",
            [
                _rule(
                    to=[
                        Operation(
                            hosts=_authorities(api),
                            methods=["OPTIONS"],
                            ports=tls_ports,
                            paths=paths_below(*(route.path for _, route in catalogue.exposures)),
                        )
                    ],
                    when=[
                        Condition(key="request.headers[origin]", values=["*"]),
                        Condition(
                            key="request.headers[access-control-request-method]", values=["*"]
                        ),
                    ],
                )
            ],
            public="browsers send CORS preflights without a token; the gateway answers them itself",
        )
    for service in catalogue.services:
        if routes := [route for route in service.routes if route.access == "public"]:
            yield _gateway(
                args,
                f"gateway-public-{service.name}",
                "ALLOW",
                [_rule(to=_operations(routes, hosts=_authorities(api), ports=tls_ports))],
                public="; ".join(dict.fromkeys(route.public_reason for route in routes)),
            )
    yield _gateway(
        args,
        "gateway-token",
        "ALLOW",
        [
            _rule(
                source=[Source(request_principals=_request_principals(args))],
                to=list(_token_operations(args, tls_ports)),
            )
        ],
    )
    yield _gateway(
        args,
        "gateway-require-token",
        "DENY",
        [
            _rule(
                source=[Source(not_request_principals=["*"])],
                to=[
                    Operation(
                        ports=tls_ports,
                        not_methods=["OPTIONS"],
                        not_paths=public_paths or None,
                    )
                ],
            )
        ],
    )
    yield _gateway(
        args,
        "gateway-require-tenant",
        "DENY",
        [
            _rule(
                source=[Source(request_principals=["*"])],
                to=[Operation(ports=tls_ports, not_paths=public_paths or None)],
                when=[Condition(key=_claim(args.authentication.tenant.claim), not_values=["*"])],
            )
        ],
    )
    yield _gateway(
        args,
        "gateway-internal-paths",
        "DENY",
        [_rule(to=[Operation(paths=paths_below(*_INTERNAL_PATHS), ports=tls_ports)])],
    )
    if denied := args.authorization.denied_addresses:
        yield _gateway(
            args,
            "gateway-denied-addresses",
            "DENY",
            [_rule(source=[Source(remote_ip_blocks=list(denied))])],
        )
    yield from _administration(args, tls_ports)
    if args.east_west:
        yield _gateway(
            args,
            "gateway-east-west-identity",
            "DENY",
            [
                _rule(
                    source=[Source(not_principals=[f"{args.trust_domain}/ns/*"])],
                    to=[Operation(ports=[str(EAST_WEST_PORT)])],
                )
            ],
        )


def _administration(args: AuthorizationArgs, ports: list[str]) -> Iterator[Manifest]:
    """Operations that need a role: who has it, and from which addresses."""
    restricted = args.catalogue.restricted
    if not restricted:
        return
    operations = [
        Operation(
            methods=list(rule.methods) or None,
            not_methods=None if rule.methods else ["OPTIONS"],
            paths=paths_below(rule.path),
            ports=ports,
        )
        for rule in restricted
    ]
    allowed = list(args.authorization.admin_addresses)
    yield _gateway(
        args,
        "gateway-admin-addresses",
        "DENY",
        [_rule(source=[Source(not_remote_ip_blocks=allowed)] if allowed else None, to=operations)],
    )
    yield _gateway(
        args,
        "gateway-roles",
        "DENY",
        [
            _rule(
                to=[operation],
                when=[
                    Condition(
                        key=_claim(args.authentication.role.claim), not_values=list(rule.roles)
                    )
                ],
            )
            for rule, operation in zip(restricted, operations, strict=True)
        ],
    )


def _token_operations(args: AuthorizationArgs, ports: list[str]) -> Iterator[Operation]:
    api, ws, grpc = ([host] for host in args.public_hosts)
    services = args.catalogue.services
    routes = [r for s in services for r in s.routes if r.access == "token"]
    yield from _operations(routes, hosts=_authorities(api), ports=ports)
    if sockets := [socket.path for s in services for socket in s.websockets]:
        yield Operation(
            hosts=_authorities(ws), methods=["GET"], paths=paths_below(*sockets), ports=ports
        )
    if names := [f"/{g.name}/*" for s in services for g in s.grpc]:
        yield Operation(hosts=_authorities(grpc), methods=["POST"], paths=names, ports=ports)


def _service_policies(args: AuthorizationArgs, service: Service) -> Iterator[Manifest]:
    ports = [str(port.number) for port in service.ports if not port.metrics]
    gateway = [principal(args.trust_domain, args.namespaces.mesh, GATEWAY)]
    if callers := args.catalogue.callers(service):
        yield _service(
            args,
            service,
            "callers",
            "ALLOW",
            [
                _rule(
                    source=[
                        Source(
                            principals=[
                                principal(args.trust_domain, args.namespaces.apps, caller)
                                for caller in callers
                            ]
                        )
                    ],
                    to=[Operation(ports=ports)],
                )
            ],
        )
    if service.exposed:
        yield from _through_the_gateway(args, service, gateway)
    if service.tenant_isolated:
        # Every proxy strips the tenant header and sets it from the token it has verified, so that
        # even a caller inside the mesh can't name a tenant: it must hand on its client's token.
        yield _service(
            args,
            service,
            "tenant",
            "DENY",
            [
                _rule(
                    to=[Operation(ports=ports)],
                    when=[
                        Condition(key=_claim(args.authentication.tenant.claim), not_values=["*"])
                    ],
                )
            ],
        )
    if audited := [route for route in service.routes if route.audit]:
        yield _service(
            args,
            service,
            "audit",
            "AUDIT",
            [
                _rule(to=[Operation(methods=list(route.audit), paths=paths_below(route.path))])
                for route in audited
            ],
        )
    metrics = [str(port.number) for port in service.ports if port.metrics]
    if metrics and args.authorization.metrics_readers:
        yield _service(
            args,
            service,
            "metrics",
            "ALLOW",
            [
                _rule(
                    source=[
                        Source(
                            principals=[
                                principal(args.trust_domain, *reader.split("/"))
                                for reader in args.authorization.metrics_readers
                            ]
                        )
                    ],
                    to=[Operation(methods=["GET"], paths=["/metrics"], ports=metrics)],
                )
            ],
        )


def _through_the_gateway(
    args: AuthorizationArgs, service: Service, gateway: list[str]
) -> Iterator[Manifest]:
    """What the gateway may ask of a service, checked once more at the service's own proxy."""

    def ports(name: str) -> list[str]:
        return [str(service.port(name).number)]

    tokens = [route for route in service.routes if route.access == "token"]
    operations = [
        operation for route in tokens for operation in _operations([route], ports=ports(route.port))
    ]
    operations += [
        Operation(methods=["GET"], paths=paths_below(socket.path), ports=ports(socket.port))
        for socket in service.websockets
    ]
    operations += [
        Operation(methods=["POST"], paths=[f"/{grpc.name}/*"], ports=ports(grpc.port))
        for grpc in service.grpc
    ]
    if operations:
        source = Source(principals=gateway, request_principals=_request_principals(args))
        yield _service(args, service, "gateway", "ALLOW", [_rule(source=[source], to=operations)])
    if public := [route for route in service.routes if route.access == "public"]:
        yield _service(
            args,
            service,
            "gateway-public",
            "ALLOW",
            [
                _rule(
                    source=[Source(principals=gateway)],
                    to=[
                        operation
                        for route in public
                        for operation in _operations([route], ports=ports(route.port))
                    ],
                )
            ],
            public="; ".join(dict.fromkeys(route.public_reason for route in public)),
        )
    restricted = [(route, rule) for route in service.routes for rule in route.restricted]
    if restricted:
        yield _service(
            args,
            service,
            "roles",
            "DENY",
            [
                _rule(
                    source=[Source(principals=gateway)],
                    to=[
                        Operation(
                            methods=list(rule.methods or route.methods) or None,
                            paths=paths_below(route.path),
                            ports=ports(route.port),
                        )
                    ],
                    when=[
                        Condition(
                            key=_claim(args.authentication.role.claim), not_values=list(rule.roles)
                        )
                    ],
                )
                for route, rule in restricted
            ],
        )


def _gateway(
    args: AuthorizationArgs,
    name: str,
    action: Action,
    rules: list[Rule],
    public: str = "",
) -> Manifest:
    return _policy(name, args.namespaces.mesh, GATEWAY_SELECTOR, action, rules, public)


def _service(
    args: AuthorizationArgs,
    service: Service,
    subject: str,
    action: Action,
    rules: list[Rule],
    public: str = "",
) -> Manifest:
    name, selector = f"{service.name}-{subject}", {"app": service.name}
    return _policy(name, args.namespaces.apps, selector, action, rules, public)


def _policy(
    name: str,
    namespace: str,
    selector: dict[str, str],
    action: Action,
    rules: list[Rule],
    public: str,
) -> Manifest:
    annotations = {PUBLIC_WITHOUT_TOKEN: "true", REASON: public} if public else None
    return AuthorizationPolicy(
        metadata=ObjectMeta(name=name, namespace=namespace, annotations=annotations),
        spec=AuthorizationPolicySpec(
            selector=WorkloadSelector(match_labels=selector), action=action, rules=rules
        ),
    ).manifest()


def _operations(
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


def _authorities(hosts: Iterable[str]) -> list[str]:
    """Host matches for an authority with and without a port."""
    return [match for host in hosts for match in (host, f"{host}:*")]


def _request_principals(args: AuthorizationArgs) -> list[str]:
    """Any subject of any listed issuer; a token of another issuer has no principal here."""
    return [f"{issuer.issuer}/*" for issuer in args.authentication.issuers]


def _claim(name: str) -> str:
    return f"request.auth.claims[{name}]"


def _rule(
    *,
    source: list[Source] | None = None,
    to: list[Operation] | None = None,
    when: list[Condition] | None = None,
) -> Rule:
    return Rule(
        from_=[RuleFrom(source=one) for one in source] if source else None,
        to=[RuleTo(operation=one) for one in to] if to else None,
        when=when,
    )
