"""The EnvoyFilters of the gateway as one component."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from components.component import ComponentArgs, MeshComponent
from components.edge.bodies import body_limit, compression
from components.edge.headers import response_headers
from components.edge.rate_limits import global_rate_limit, local_rate_limit
from components.edge.routes import gateway_routes
from components.edge.timeouts import stream_timeouts
from components.edge.user_agents import denied_user_agents
from components.limits import limited_routes
from components.objects import Manifest, labelled
from components.rate_limit_workload import GRPC_PORT, NAME
from components.service_traffic import service_host
from model.access import Catalogue
from model.settings import Edge, Namespaces, RateLimits, Split


class EdgeArgs(ComponentArgs):
    """Arguments of `EdgeFilters`."""

    namespaces: Namespaces
    edge: Edge
    rate_limits: RateLimits
    tenant_claim: str
    denied_user_agents: tuple[str, ...]
    catalogue: Catalogue
    traffic: Mapping[str, Split]
    """Splits by service: each cohort is a route of its own."""
    east_west: bool


class EdgeFilters(MeshComponent[EdgeArgs]):
    """What the gateway does to every request, where Istio has no API for it."""

    token = "voicemesh:istio:EdgeFilters"  # noqa: S105 - a Pulumi type token

    @staticmethod
    def build(args: EdgeArgs) -> tuple[Manifest, ...]:
        """One EnvoyFilter for each subject."""
        return labelled(args.stack, "edge", _filters(args))


def _filters(args: EdgeArgs) -> Iterator[Manifest]:
    mesh = args.namespaces.mesh
    routes = gateway_routes(args.catalogue, args.traffic)
    host = service_host(NAME, args.namespaces.apps)
    if args.denied_user_agents:
        yield denied_user_agents(mesh, args.denied_user_agents)
    yield local_rate_limit(mesh, args.rate_limits)
    yield response_headers(mesh, args.edge, east_west=args.east_west)
    yield global_rate_limit(
        mesh,
        cluster=f"outbound|{GRPC_PORT}||{host}",
        authority=host,
        tenant_claim=args.tenant_claim,
        timeout=args.rate_limits.timeout,
        routes=limited_routes(routes, args.rate_limits),
    )
    yield body_limit(mesh, args.edge.bodies, routes)
    yield compression(mesh, args.edge.compression_from, routes)
    yield stream_timeouts(mesh, routes)
