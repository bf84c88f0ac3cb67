"""What the gateway lets in, and what it refuses whatever is behind it."""

from __future__ import annotations

from collections.abc import Iterator

from components.gateway_workload import (
    EAST_WEST_PORT,
    GATEWAY_SELECTOR,
    HTTP_PORT,
    HTTPS_PORT,
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
    authorities,
    claim,
    paths_below,
    policy,
    policy_rule,
    request_principals,
    route_operations,
    without_tenant,
)

_INTERNAL_PATHS = ("/metrics", "/debug", "/actuator", "/stats", "/config_dump")


def gateway_policies(args: AuthorizationArgs) -> Iterator[Manifest]:
    """Every policy on the gateway's pods."""
    catalogue, api = args.catalogue, [args.public_hosts[0]]
    tls_ports = [str(HTTPS_PORT), *([str(EAST_WEST_PORT)] if args.east_west else [])]
    public = [exposure for exposure in catalogue.exposures if exposure.route.access == "public"]
    public_paths = paths_below(*(route.path for _, route in public))

    yield _gateway(
        args,
        "gateway-redirect",
        "ALLOW",
        [policy_rule(to=[Operation(ports=[str(HTTP_PORT)])])],
        public="plain HTTP is answered with a redirect to HTTPS and never forwarded",
    )
    if args.preflights:
        yield _gateway(
            args,
            "gateway-preflight",
            "ALLOW",
            [
                policy_rule(
                    to=[
                        Operation(
                            hosts=authorities(api),
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
                [policy_rule(to=route_operations(routes, hosts=authorities(api), ports=tls_ports))],
                public="; ".join(dict.fromkeys(route.public_reason for route in routes)),
            )
    yield _gateway(
        args,
        "gateway-token",
        "ALLOW",
        [
            policy_rule(
                source=[Source(request_principals=request_principals(args))],
                to=list(_token_operations(args, tls_ports)),
            )
        ],
    )
    if audited := [route for _, route in catalogue.exposures if route.audit]:
        # What the gateway refuses never reaches the service, whose own policy records the rest.
        yield _gateway(
            args,
            "gateway-audit",
            "AUDIT",
            [
                policy_rule(
                    to=[
                        Operation(
                            hosts=authorities(api),
                            methods=list(route.audit),
                            ports=tls_ports,
                            paths=paths_below(route.path),
                        )
                    ]
                )
                for route in audited
            ],
        )
    yield _gateway(
        args,
        "gateway-require-token",
        "DENY",
        [
            policy_rule(
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
        without_tenant(
            args,
            Operation(ports=tls_ports, not_paths=public_paths or None),
            source=[Source(request_principals=["*"])],
        ),
    )
    yield _gateway(
        args,
        "gateway-internal-paths",
        "DENY",
        [policy_rule(to=[Operation(paths=paths_below(*_INTERNAL_PATHS), ports=tls_ports)])],
    )
    if denied := args.authorization.denied_addresses:
        yield _gateway(
            args,
            "gateway-denied-addresses",
            "DENY",
            [policy_rule(source=[Source(remote_ip_blocks=list(denied))])],
        )
    yield from _administration(args, tls_ports)
    if args.east_west:
        yield _gateway(
            args,
            "gateway-east-west-identity",
            "DENY",
            [
                policy_rule(
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
        [
            policy_rule(
                source=[Source(not_remote_ip_blocks=allowed)] if allowed else None, to=operations
            )
        ],
    )
    yield _gateway(
        args,
        "gateway-roles",
        "DENY",
        [
            policy_rule(
                to=[operation],
                when=[
                    Condition(
                        key=claim(args.authentication.role.claim), not_values=list(rule.roles)
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
    yield from route_operations(routes, hosts=authorities(api), ports=ports)
    if sockets := [socket.path for s in services for socket in s.websockets]:
        yield Operation(
            hosts=authorities(ws), methods=["GET"], paths=paths_below(*sockets), ports=ports
        )
    if names := [f"/{g.name}/*" for s in services for g in s.grpc]:
        yield Operation(hosts=authorities(grpc), methods=["POST"], paths=names, ports=ports)


def _gateway(
    args: AuthorizationArgs,
    name: str,
    action: Action,
    rules: list[Rule],
    public: str = "",
) -> Manifest:
    return policy(name, args.namespaces.mesh, GATEWAY_SELECTOR, action, rules, public)
