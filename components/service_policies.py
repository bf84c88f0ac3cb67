"""What each service lets in, checked at its own proxy."""

from __future__ import annotations

from collections.abc import Iterator

from components.gateway_workload import (
    GATEWAY,
)
from components.istio.authorization_policy import (
    Condition,
    Operation,
    Rule,
    Source,
)
from components.objects import Manifest
from components.policy_rules import (
    Action,
    AuthorizationArgs,
    claim,
    paths_below,
    policy,
    policy_rule,
    principal,
    request_principals,
    route_operations,
    without_tenant,
)
from model.service import Service


def service_policies(args: AuthorizationArgs, service: Service) -> Iterator[Manifest]:
    """Every policy on one service's pods."""
    ports = [str(port.number) for port in service.ports if not port.metrics]
    gateway = [principal(args.trust_domain, args.namespaces.mesh, GATEWAY)]
    if callers := args.catalogue.callers(service):
        yield _service(
            args,
            service,
            "callers",
            "ALLOW",
            [
                policy_rule(
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
            without_tenant(args, Operation(ports=ports)),
        )
    if audited := [route for route in service.routes if route.audit]:
        yield _service(
            args,
            service,
            "audit",
            "AUDIT",
            [
                policy_rule(
                    to=[Operation(methods=list(route.audit), paths=paths_below(route.path))]
                )
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
                policy_rule(
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
        operation
        for route in tokens
        for operation in route_operations([route], ports=ports(route.port))
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
        source = Source(principals=gateway, request_principals=request_principals(args))
        yield _service(
            args, service, "gateway", "ALLOW", [policy_rule(source=[source], to=operations)]
        )
    if public := [route for route in service.routes if route.access == "public"]:
        yield _service(
            args,
            service,
            "gateway-public",
            "ALLOW",
            [
                policy_rule(
                    source=[Source(principals=gateway)],
                    to=[
                        operation
                        for route in public
                        for operation in route_operations([route], ports=ports(route.port))
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
                policy_rule(
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
                            key=claim(args.authentication.role.claim), not_values=list(rule.roles)
                        )
                    ],
                )
                for route, rule in restricted
            ],
        )


def _service(
    args: AuthorizationArgs,
    service: Service,
    subject: str,
    action: Action,
    rules: list[Rule],
    public: str = "",
) -> Manifest:
    name, selector = f"{service.name}-{subject}", {"app": service.name}
    return policy(name, args.namespaces.apps, selector, action, rules, public)
