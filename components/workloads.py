"""Service accounts and Services of all services, and, where the stack runs them, their pods.

The pods run Istio's echo server: it speaks HTTP, gRPC and WebSocket and answers with what it saw
of the request, so a mesh can be tried and proven without the product.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from lightkube.models.apps_v1 import DeploymentSpec
from lightkube.models.core_v1 import (
    Capabilities,
    Container,
    ContainerPort,
    HTTPGetAction,
    PodSecurityContext,
    PodSpec,
    PodTemplateSpec,
    Probe,
    ResourceRequirements,
    SeccompProfile,
    SecurityContext,
    ServicePort,
    ServiceSpec,
    TCPSocketAction,
)
from lightkube.models.meta_v1 import LabelSelector, ObjectMeta
from lightkube.resources.apps_v1 import Deployment
from lightkube.resources.core_v1 import Service as CoreService
from lightkube.resources.core_v1 import ServiceAccount

from components.component import ComponentArgs, MeshComponent
from components.control_plane import EVICTION
from components.objects import REQUIRES_CLAIMS, Manifest, labelled
from model.access import Catalogue
from model.service import Port, Service, Subset
from model.settings import Namespaces, Override, Size
from model.settings import Workloads as WorkloadSettings

APP_PROTOCOLS = {"http": "http", "http2": "kubernetes.io/h2c", "grpc": "grpc"}
"""How a port's protocol is declared to Istio.

Source: https://istio.io/latest/docs/ops/configuration/traffic-management/protocol-selection/
"""
_ONLY_VERSION = Subset(name="v1", version="v1")
# The echo server listens on default ports for the kinds of port it was given none of.
_UNUSED_PORTS = {"grpc": 17070, "tcp": 19090}
_USER = 1000


class WorkloadsArgs(ComponentArgs):
    """Arguments of `Workloads`."""

    namespaces: Namespaces
    catalogue: Catalogue
    workloads: WorkloadSettings
    overrides: dict[str, Override]
    """Sizes of single services; the catalogue has the other overrides in it already."""
    tenant_claim: str
    """Claim of the token that tenant-isolated services demand."""


class Workloads(MeshComponent[WorkloadsArgs]):
    """What Kubernetes itself must know of each service."""

    token = "voicemesh:kubernetes:Workloads"  # noqa: S105 - a Pulumi type token

    @staticmethod
    def build(args: WorkloadsArgs) -> tuple[Manifest, ...]:
        """For each service its account and Service, then a Deployment for each version."""
        return labelled(args.stack, "workloads", _objects(args))


def _objects(args: WorkloadsArgs) -> Iterator[Manifest]:
    namespace = args.namespaces.apps
    for service in args.catalogue.services:
        yield _account(service, namespace)
        yield _service(service, namespace, args.tenant_claim)
        if args.workloads.mode == "echo":
            size = args.overrides.get(service.name, Override()).size or args.workloads.size
            for subset in service.subsets or (_ONLY_VERSION,):
                yield _echo(service, subset.version, namespace, args.workloads.image, size)


def _account(service: Service, namespace: str) -> Manifest:
    return dict(
        ServiceAccount(
            apiVersion="v1",
            kind="ServiceAccount",
            metadata=_metadata(service.name, namespace, {"app": service.name}),
            automountServiceAccountToken=False,
        ).to_dict()
    )


def _service(service: Service, namespace: str, tenant_claim: str) -> Manifest:
    metadata = _metadata(service.name, namespace, {"app": service.name})
    if service.tenant_isolated:
        metadata.annotations = {REQUIRES_CLAIMS: tenant_claim}
    return dict(
        CoreService(
            apiVersion="v1",
            kind="Service",
            metadata=metadata,
            spec=ServiceSpec(
                type="ClusterIP",
                selector={"app": service.name},
                ports=[_service_port(port) for port in service.ports],
            ),
        ).to_dict()
    )


def _service_port(port: Port) -> ServicePort:
    return ServicePort(
        name=port.name,
        port=port.number,
        targetPort=port.number,
        protocol="TCP",
        appProtocol=APP_PROTOCOLS[port.protocol],
    )


def _echo(service: Service, version: str, namespace: str, image: str, size: Size) -> Manifest:
    labels = {"app": service.name, "version": version}
    return dict(
        Deployment(
            apiVersion="apps/v1",
            kind="Deployment",
            metadata=_metadata(f"{service.name}-{version}", namespace, labels),
            spec=DeploymentSpec(
                replicas=size.replicas,
                revisionHistoryLimit=2,
                selector=LabelSelector(matchLabels=labels),
                template=PodTemplateSpec(
                    metadata=ObjectMeta(
                        labels=labels, annotations={**EVICTION, **_scraping(service)}
                    ),
                    spec=PodSpec(
                        serviceAccountName=service.name,
                        automountServiceAccountToken=False,
                        securityContext=PodSecurityContext(
                            runAsNonRoot=True,
                            seccompProfile=SeccompProfile(type="RuntimeDefault"),
                        ),
                        containers=[_container(service, version, image, size)],
                    ),
                ),
            ),
        ).to_dict()
    )


def _container(service: Service, version: str, image: str, size: Size) -> Container:
    return Container(
        name="app",
        image=image,
        args=[f"--version={version}", *_arguments(service.ports)],
        ports=[
            ContainerPort(name=port.name, containerPort=port.number, protocol="TCP")
            for port in service.ports
        ],
        readinessProbe=Probe(
            httpGet=HTTPGetAction(path="/", port=_http_port(service).name), periodSeconds=5
        ),
        livenessProbe=Probe(
            tcpSocket=TCPSocketAction(port=_http_port(service).name),
            initialDelaySeconds=10,
            periodSeconds=10,
        ),
        resources=ResourceRequirements(
            requests={"cpu": size.cpu, "memory": size.memory},
            limits={"cpu": size.cpu_limit, "memory": size.memory_limit},
        ),
        securityContext=SecurityContext(
            runAsUser=_USER,
            runAsGroup=_USER,
            allowPrivilegeEscalation=False,
            readOnlyRootFilesystem=True,
            capabilities=Capabilities(drop=["ALL"]),
        ),
    )


def _arguments(ports: tuple[Port, ...]) -> Iterator[str]:
    """Flags of the echo server; its HTTP ports take HTTP/1.1 and cleartext HTTP/2."""
    numbers: dict[str, list[int]] = {"port": [], "grpc": [], "metrics": []}
    for port in ports:
        flag = "metrics" if port.metrics else "grpc" if port.protocol == "grpc" else "port"
        numbers[flag].append(port.number)
    for flag, found in numbers.items():
        if found:
            yield from (f"--{flag}={number}" for number in found)
    for flag, unused in _UNUSED_PORTS.items():
        if not numbers.get(flag):
            yield f"--{flag}={unused}"


def _http_port(service: Service) -> Port:
    return next(
        (port for port in service.ports if port.protocol != "grpc" and not port.metrics),
        service.ports[0],
    )


def _scraping(service: Service) -> Mapping[str, str]:
    """Where the proxy finds the application's metrics, to publish them with its own."""
    for port in service.ports:
        if port.metrics:
            return {
                "prometheus.io/scrape": "true",
                "prometheus.io/port": str(port.number),
                "prometheus.io/path": "/metrics",
            }
    return {}


def _metadata(name: str, namespace: str, labels: dict[str, str]) -> ObjectMeta:
    return ObjectMeta(name=name, namespace=namespace, labels=labels)
