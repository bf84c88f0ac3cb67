"""How one service is reached: VirtualServices, DestinationRule, Sidecar, egress.

Source: https://istio.io/latest/docs/concepts/traffic-management/
"""

from __future__ import annotations

from collections.abc import Iterable

from components.component import ComponentArgs, MeshComponent
from components.destination_rule import destination_rule
from components.istio.destination_rule import (
    ConnectionPoolSettings,
    ConnectionPoolSettingsHTTPSettings,
)
from components.istio.service_entry import ServiceEntry, ServiceEntrySpec, ServicePort
from components.istio.sidecar import (
    IstioEgressListener,
    OutboundTrafficPolicy,
    Sidecar,
    SidecarSpec,
    WorkloadSelector,
)
from components.objects import Manifest, labelled
from components.virtual_service import mesh_route, public_routes
from components.wire import ObjectMeta
from model.service import Service
from model.settings import Authentication, Cors, Namespaces, Split
from model.values import seconds


class ServiceTrafficArgs(ComponentArgs):
    """Arguments of `ServiceTraffic`."""

    service: Service
    callees: tuple[str, ...]
    """Names of the services that this one calls."""
    namespaces: Namespaces
    public_hosts: tuple[str, str, str]
    """Hosts for HTTP, WebSocket and gRPC, in this order."""
    gateways: tuple[str, ...]
    """Gateways that public routes bind to, as `namespace/name`."""
    authentication: Authentication
    cors: Cors
    split: Split | None
    zones: tuple[str, ...]
    collector: str
    """Host of the trace collector, which every proxy reports to."""


class ServiceTraffic(MeshComponent[ServiceTrafficArgs]):
    """The traffic policy of one service."""

    token = "voicemesh:istio:ServiceTraffic"  # noqa: S105 - a Pulumi type token

    @staticmethod
    def build(args: ServiceTrafficArgs) -> tuple[Manifest, ...]:
        """Everything of `components` that carries the service's name, but its policies."""
        service, namespace = args.service, args.namespaces.apps
        return labelled(
            args.stack,
            service.name,
            [
                *public_routes(
                    service,
                    args.split,
                    namespace=namespace,
                    hosts=args.public_hosts,
                    gateways=args.gateways,
                    cors=args.cors,
                    claim_headers=_claim_headers(args.authentication),
                ),
                mesh_route(service, args.split, namespace=namespace),
                destination_rule(service, namespace=namespace, zones=args.zones),
                _sidecar(args),
                *_egress(service, namespace),
            ],
        )


def service_host(service: str, namespace: str) -> str:
    """Full host name of a Service."""
    return f"{service}.{namespace}.svc.cluster.local"


def _claim_headers(authentication: Authentication) -> tuple[str, ...]:
    claims = (authentication.tenant, authentication.user, authentication.role)
    return tuple(claim.header for claim in claims)


def _sidecar(args: ServiceTrafficArgs) -> Manifest:
    """The proxy hears of the services it may call, its egress hosts and the trace collector.

    It closes idle connections to its application before that does: a request on a connection that
    the application is just closing is answered with 503 (UC), and a write is not repeated then.
    Source: https://istio.io/latest/docs/reference/config/networking/sidecar/
    """
    namespace = args.namespaces.apps
    hosts = [f"./{service_host(callee, namespace)}" for callee in args.callees]
    hosts += [f"./{host}" for host in args.service.egress]
    hosts.append(f"*/{args.collector}")
    return Sidecar(
        metadata=ObjectMeta(name=args.service.name, namespace=namespace),
        spec=SidecarSpec(
            workload_selector=WorkloadSelector(labels={"app": args.service.name}),
            egress=[IstioEgressListener(hosts=hosts)],
            inbound_connection_pool=ConnectionPoolSettings(
                http=ConnectionPoolSettingsHTTPSettings(idle_timeout=_half(args.service.keep_alive))
            ),
            outbound_traffic_policy=OutboundTrafficPolicy(mode="REGISTRY_ONLY"),
        ),
    ).manifest()


def _half(duration: str) -> str:
    return f"{int(seconds(duration) * 1000) // 2}ms"


def _egress(service: Service, namespace: str) -> Iterable[Manifest]:
    """A ServiceEntry for each host outside the mesh that the service may call.

    The service itself speaks TLS; the proxy lets the connection through by its SNI. Other
    services don't hear of the host: no Sidecar but this service's names it.
    """
    for host in service.egress:
        yield ServiceEntry(
            metadata=ObjectMeta(
                name=f"{service.name}-{host.replace('.', '-')}", namespace=namespace
            ),
            spec=ServiceEntrySpec(
                hosts=[host],
                location="MESH_EXTERNAL",
                resolution="DNS",
                ports=[ServicePort(number=443, name="tls", protocol="TLS")],
                export_to=["."],
            ),
        ).manifest()
