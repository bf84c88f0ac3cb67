"""The composition, written once: which components make the mesh, with what, in which order.

`__main__.py` registers these parts with the engine; rendering, policies and lab read their objects.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from components.alerts import AlertsArgs
from components.authentication import AuthenticationArgs, Authentications
from components.authorization import Authorizations
from components.component import ComponentArgs, MeshComponent
from components.control_plane import ControlPlaneArgs, IstioControlPlane
from components.edge.component import EdgeArgs, EdgeFilters
from components.gateway import GatewayArgs, Gateways, bound
from components.gateway_proxy import gateway_proxy_config
from components.mesh_config import gateway_topology, mesh_config
from components.monitoring import Monitors
from components.namespaces import MeshNamespaces, NamespacesArgs
from components.objects import Declared
from components.policy_rules import AuthorizationArgs
from components.rate_limit import RateLimitArgs, RateLimitService
from components.service_traffic import ServiceTraffic, ServiceTrafficArgs
from components.telemetry import MeshTelemetry, TelemetryArgs
from components.workloads import Workloads, WorkloadsArgs
from model.access import Catalogue
from model.settings import Settings
from model.stack_file import adapted


@dataclass(frozen=True)
class Part:
    """One component of the mesh, with its arguments and what must be there before it."""

    name: str
    component: type[MeshComponent[Any]]
    args: ComponentArgs
    after: tuple[str, ...] = ()

    def objects(self) -> tuple[Declared, ...]:
        """What the component declares, without registering anything."""
        return self.component.build(self.args)


class Mesh(NamedTuple):
    """What every part is made from."""

    stack: str
    settings: Settings
    catalogue: Catalogue


def parts(stack: str, settings: Settings, catalogue: Catalogue) -> tuple[Part, ...]:
    """The whole mesh of one stack, each part after those it depends on."""
    mesh = Mesh(stack, settings, adapted(catalogue, settings))
    return (
        *_foundation(mesh),
        *_security(mesh),
        *_workloads(mesh),
        *_edge(mesh),
        *_telemetry(mesh),
        *_routes(mesh),
        *_monitoring(mesh),
    )


def _foundation(mesh: Mesh) -> Iterator[Part]:
    """Namespaces and control plane."""
    stack, settings, _ = mesh
    yield Part(
        "namespaces",
        MeshNamespaces,
        NamespacesArgs(
            stack=stack,
            namespaces=settings.namespaces,
            owns_mesh_namespace=settings.control_plane.mode == "install",
            collector=settings.telemetry.collector,
        ),
    )
    yield Part(
        "control-plane",
        IstioControlPlane,
        ControlPlaneArgs(
            stack=stack,
            namespaces=settings.namespaces,
            control_plane=settings.control_plane,
            gateway=settings.gateway,
            gateway_proxy_config=gateway_proxy_config(settings.edge, gateway_topology(settings)),
            mesh_config=mesh_config(settings),
            trace_sampling=settings.telemetry.sampling.default,
        ),
        after=("namespaces",),
    )


def _security(mesh: Mesh) -> Iterator[Part]:
    """Who is who, who may do what: before anything that a policy protects."""
    stack, settings, catalogue = mesh
    yield Part(
        "authentication",
        Authentications,
        AuthenticationArgs(
            stack=stack, namespaces=settings.namespaces, authentication=settings.authentication
        ),
        after=("control-plane",),
    )
    yield Part(
        "authorization",
        Authorizations,
        AuthorizationArgs(
            stack=stack,
            namespaces=settings.namespaces,
            trust_domain=settings.control_plane.trust_domain,
            public_hosts=settings.public_hosts,
            authentication=settings.authentication,
            authorization=settings.authorization,
            catalogue=catalogue,
            east_west=settings.gateway.east_west,
            preflights=bool(settings.edge.cors.allowed_origins),
        ),
        after=("authentication",),
    )


def _workloads(mesh: Mesh) -> Iterator[Part]:
    """Service accounts, Services and, where the stack runs them, the pods behind them."""
    stack, settings, catalogue = mesh
    yield Part(
        "workloads",
        Workloads,
        WorkloadsArgs(
            stack=stack,
            namespaces=settings.namespaces,
            catalogue=catalogue,
            workloads=settings.workloads,
            overrides=settings.services,
            tenant_claim=settings.authentication.tenant.claim,
        ),
        after=("authorization",),
    )


def _edge(mesh: Mesh) -> Iterator[Part]:
    """Rate-limit service, then what the gateway does to every request."""
    stack, settings, catalogue = mesh
    yield Part(
        "rate-limit",
        RateLimitService,
        RateLimitArgs(
            stack=stack,
            namespaces=settings.namespaces,
            trust_domain=settings.control_plane.trust_domain,
            rate_limits=settings.rate_limits,
            catalogue=catalogue,
            traffic=settings.traffic,
            collector=settings.telemetry.collector,
        ),
        after=("authorization",),
    )
    yield Part(
        "edge",
        EdgeFilters,
        EdgeArgs(
            stack=stack,
            namespaces=settings.namespaces,
            edge=settings.edge,
            rate_limits=settings.rate_limits,
            tenant_claim=settings.authentication.tenant.claim,
            denied_user_agents=settings.authorization.denied_user_agents,
            catalogue=catalogue,
            traffic=settings.traffic,
            east_west=settings.gateway.east_west,
        ),
        # Routes that stay closed without the rate-limit service would be closed until it is there.
        after=("rate-limit",),
    )


def _telemetry(mesh: Mesh) -> Iterator[Part]:
    """Traces, metrics, access log."""
    stack, settings, catalogue = mesh
    yield Part(
        "telemetry",
        MeshTelemetry,
        TelemetryArgs(
            stack=stack,
            namespaces=settings.namespaces,
            telemetry=settings.telemetry,
            authentication=settings.authentication,
            catalogue=catalogue,
            cluster=settings.control_plane.cluster,
            traffic=settings.traffic,
        ),
        after=("control-plane",),
    )


def _routes(mesh: Mesh) -> Iterator[Part]:
    """Each service's traffic, then the gateway that exposes them."""
    stack, settings, catalogue = mesh
    east_west = settings.gateway.east_west
    for service in catalogue.services:
        yield Part(
            service.name,
            ServiceTraffic,
            ServiceTrafficArgs(
                stack=stack,
                service=service,
                callees=tuple(callee.name for callee in catalogue.callees(service)),
                namespaces=settings.namespaces,
                public_hosts=settings.public_hosts,
                gateways=tuple(bound(settings.namespaces, east_west=east_west)),
                authentication=settings.authentication,
                cors=settings.edge.cors,
                split=settings.traffic.get(service.name),
                zones=settings.zones,
                collector=settings.telemetry.collector,
            ),
            after=("authorization",),
        )
    yield Part(
        "gateway",
        Gateways,
        GatewayArgs(
            stack=stack,
            namespaces=settings.namespaces,
            public_hosts=settings.public_hosts,
            tls=settings.gateway.tls,
            east_west=east_west,
        ),
        # Last: whoever may come in meets limits and filters, and finds the way to every service.
        after=("edge", *(service.name for service in catalogue.services)),
    )


def _monitoring(mesh: Mesh) -> Iterator[Part]:
    """Monitors and alerts of the Prometheus operator."""
    stack, settings, catalogue = mesh
    yield Part(
        "monitoring",
        Monitors,
        AlertsArgs(
            stack=stack,
            namespaces=settings.namespaces,
            monitoring=settings.monitoring,
            catalogue=catalogue,
            credential_name=settings.gateway.tls.credential_name,
            owns_control_plane=settings.control_plane.mode == "install",
        ),
        after=("namespaces",),
    )
