"""The rate-limit service: it answers the gateways whether a request is still within its limits.

It is a workload of the mesh like any other, so the question travels over mutual TLS and only the
gateway may ask it. Where it counts is `components/redis.py`, what it counts `components/limits.py`.
Source: https://github.com/envoyproxy/ratelimit
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping

import yaml
from lightkube.models.apps_v1 import DeploymentSpec
from lightkube.models.autoscaling_v2 import (
    CrossVersionObjectReference,
    HorizontalPodAutoscalerSpec,
    MetricSpec,
    MetricTarget,
    ResourceMetricSource,
)
from lightkube.models.core_v1 import (
    Capabilities,
    ConfigMapVolumeSource,
    Container,
    ContainerPort,
    EnvVar,
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
    TopologySpreadConstraint,
    Volume,
    VolumeMount,
)
from lightkube.models.meta_v1 import LabelSelector, ObjectMeta
from lightkube.models.policy_v1 import PodDisruptionBudgetSpec
from lightkube.resources.apps_v1 import Deployment
from lightkube.resources.autoscaling_v2 import HorizontalPodAutoscaler
from lightkube.resources.core_v1 import ConfigMap, Service, ServiceAccount
from lightkube.resources.policy_v1 import PodDisruptionBudget

from components import redis
from components.authorization import GATEWAY, principal
from components.component import ComponentArgs, MeshComponent
from components.edge.routes import gateway_routes
from components.istio.authorization_policy import (
    AuthorizationPolicy,
    AuthorizationPolicySpec,
    Operation,
    Rule,
    RuleFrom,
    RuleTo,
    Source,
)
from components.istio.destination_rule import (
    ClientTLSSettings,
    DestinationRule,
    DestinationRuleSpec,
    LoadBalancerSettings,
    TrafficPolicy,
)
from components.istio.selector import WorkloadSelector
from components.istio.sidecar import (
    IstioEgressListener,
    OutboundTrafficPolicy,
    Sidecar,
    SidecarSpec,
)
from components.istio.sidecar import WorkloadSelector as SidecarSelector
from components.limits import descriptors, limited_routes
from components.objects import Declared, Manifest, labelled
from components.wire import ObjectMeta as WireMeta
from model.access import Catalogue
from model.settings import Namespaces, RateLimits, Size, Split

NAME = "ratelimit"
HTTP_PORT, GRPC_PORT, METRICS_PORT = 8080, 8081, 9090
_LABELS = {"app": NAME, "version": "v1"}
_SELECTOR = {"app": NAME}
_RUNTIME, _SUBDIRECTORY = "/data", "ratelimit"
_USER = 65532
"""The user `nonroot` of the image."""
CONFIG_HASH = "voicemesh.io/config-hash"
"""Pod annotation: digest of the configuration, so that a new one brings new pods."""


class RateLimitArgs(ComponentArgs):
    """Arguments of `RateLimitService`."""

    namespaces: Namespaces
    trust_domain: str
    rate_limits: RateLimits
    catalogue: Catalogue
    traffic: Mapping[str, Split]
    collector: str
    """Host of the trace collector, to which the service's proxy reports."""


class RateLimitService(MeshComponent[RateLimitArgs]):
    """The rate-limit service, its configuration, and Redis."""

    token = "voicemesh:istio:RateLimitService"  # noqa: S105 - a Pulumi type token

    @staticmethod
    def build(args: RateLimitArgs) -> tuple[Declared, ...]:
        """Redis first, since the service does not start without it."""
        store = [item for item in _redis(args) if not isinstance(item, dict)]
        manifests = [item for item in _redis(args) if isinstance(item, dict)]
        return (
            *store,
            *labelled(args.stack, "rate-limit", [*manifests, *_service_objects(args)]),
        )


def config(args: RateLimitArgs) -> str:
    """The service's configuration file: every limited route of the catalogue with its allowances."""
    routes = gateway_routes(args.catalogue, args.traffic)
    return yaml.safe_dump(descriptors(limited_routes(routes, args.rate_limits)), sort_keys=False)


def _redis(args: RateLimitArgs) -> Iterator[Declared]:
    if args.rate_limits.redis.mode == "managed":
        yield from redis.managed(args.rate_limits.redis, args.namespaces, client=NAME)
    else:
        yield from redis.external(args.rate_limits.redis, args.namespaces.apps)


def _service_objects(args: RateLimitArgs) -> Iterator[Manifest]:
    namespace, size = args.namespaces.apps, args.rate_limits.size
    text = config(args)
    yield dict(
        ServiceAccount(
            apiVersion="v1",
            kind="ServiceAccount",
            metadata=_metadata(namespace),
            automountServiceAccountToken=False,
        ).to_dict()
    )
    yield dict(
        ConfigMap(
            apiVersion="v1",
            kind="ConfigMap",
            metadata=_metadata(namespace),
            data={"config.yaml": text},
        ).to_dict()
    )
    yield _only_the_gateway(args)
    yield _destination_rule(namespace)
    yield _sidecar(args)
    yield _service(namespace)
    yield _deployment(args, text)
    if size.max_replicas > size.replicas:
        yield _autoscaler(namespace, size)
    if size.replicas > 1:
        yield _disruption_budget(namespace)


def _service(namespace: str) -> Manifest:
    ports = (("grpc", GRPC_PORT, "grpc"), ("http", HTTP_PORT, "http"))
    return dict(
        Service(
            apiVersion="v1",
            kind="Service",
            metadata=_metadata(namespace),
            spec=ServiceSpec(
                type="ClusterIP",
                selector=_SELECTOR,
                ports=[
                    ServicePort(
                        name=name, port=port, targetPort=port, protocol="TCP", appProtocol=protocol
                    )
                    for name, port, protocol in (
                        *ports,
                        ("metrics", METRICS_PORT, "http"),
                    )
                ],
            ),
        ).to_dict()
    )


def _deployment(args: RateLimitArgs, text: str) -> Manifest:
    size = args.rate_limits.size
    annotations = {
        CONFIG_HASH: hashlib.sha256(text.encode()).hexdigest()[:16],
        "prometheus.io/scrape": "true",
        "prometheus.io/port": str(METRICS_PORT),
        "prometheus.io/path": "/metrics",
    }
    return dict(
        Deployment(
            apiVersion="apps/v1",
            kind="Deployment",
            metadata=_metadata(args.namespaces.apps),
            spec=DeploymentSpec(
                # Left to the autoscaler where there is one.
                replicas=size.replicas if size.max_replicas == size.replicas else None,
                revisionHistoryLimit=2,
                selector=LabelSelector(matchLabels=_LABELS),
                template=PodTemplateSpec(
                    metadata=ObjectMeta(labels=_LABELS, annotations=annotations),
                    spec=PodSpec(
                        serviceAccountName=NAME,
                        automountServiceAccountToken=False,
                        securityContext=PodSecurityContext(
                            runAsNonRoot=True,
                            seccompProfile=SeccompProfile(type="RuntimeDefault"),
                        ),
                        topologySpreadConstraints=_spread() if size.replicas > 1 else None,
                        containers=[_container(args)],
                        volumes=[Volume(name="config", configMap=ConfigMapVolumeSource(name=NAME))],
                    ),
                ),
            ),
        ).to_dict()
    )


def _container(args: RateLimitArgs) -> Container:
    size = args.rate_limits.size
    healthy = HTTPGetAction(path="/healthcheck", port=HTTP_PORT)
    return Container(
        name=NAME,
        image=args.rate_limits.image,
        command=["/bin/ratelimit"],
        env=[
            *(EnvVar(name=name, value=value) for name, value in _environment(args).items()),
            redis.password("REDIS_AUTH", args.rate_limits.redis),
        ],
        ports=[
            ContainerPort(name=name, containerPort=port, protocol="TCP")
            for name, port in (("grpc", GRPC_PORT), ("http", HTTP_PORT), ("metrics", METRICS_PORT))
        ],
        volumeMounts=[
            VolumeMount(
                name="config", mountPath=f"{_RUNTIME}/{_SUBDIRECTORY}/config", readOnly=True
            )
        ],
        readinessProbe=Probe(httpGet=healthy, periodSeconds=5),
        livenessProbe=Probe(httpGet=healthy, initialDelaySeconds=10, periodSeconds=10),
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


def _environment(args: RateLimitArgs) -> dict[str, str]:
    return {
        "LOG_LEVEL": "warn",
        "LOG_FORMAT": "json",
        "PORT": str(HTTP_PORT),
        "GRPC_PORT": str(GRPC_PORT),
        # It shows the configuration and counters to whoever asks.
        "DEBUG_HOST": "127.0.0.1",
        "USE_STATSD": "false",
        "USE_PROMETHEUS": "true",
        "PROMETHEUS_ADDR": f":{METRICS_PORT}",
        "RUNTIME_ROOT": _RUNTIME,
        "RUNTIME_SUBDIRECTORY": _SUBDIRECTORY,
        # The files as Kubernetes mounts them: links to a hidden directory beside them.
        "RUNTIME_WATCH_ROOT": "false",
        "RUNTIME_IGNOREDOTFILES": "true",
        "REDIS_SOCKET_TYPE": "tcp",
        "REDIS_URL": redis.address(args.rate_limits.redis, args.namespaces),
        # Well below the gateway's own patience, so that a Redis that hangs is an answer as well.
        "REDIS_TIMEOUT": "200ms",
        # Who is over the limit is not looked up again: a flood does not reach Redis.
        "LOCAL_CACHE_SIZE_IN_BYTES": "1048576",
    }


def _only_the_gateway(args: RateLimitArgs) -> Manifest:
    gateway = principal(args.trust_domain, args.namespaces.mesh, GATEWAY)
    return AuthorizationPolicy(
        metadata=WireMeta(name=f"{NAME}-gateway", namespace=args.namespaces.apps),
        spec=AuthorizationPolicySpec(
            selector=WorkloadSelector(match_labels=_SELECTOR),
            action="ALLOW",
            rules=[
                Rule(
                    from_=[RuleFrom(source=Source(principals=[gateway]))],
                    to=[RuleTo(operation=Operation(ports=[str(GRPC_PORT)]))],
                )
            ],
        ),
    ).manifest()


def _destination_rule(namespace: str) -> Manifest:
    return DestinationRule(
        metadata=WireMeta(name=NAME, namespace=namespace),
        spec=DestinationRuleSpec(
            host=f"{NAME}.{namespace}.svc.cluster.local",
            traffic_policy=TrafficPolicy(
                tls=ClientTLSSettings(mode="ISTIO_MUTUAL"),
                load_balancer=LoadBalancerSettings(simple="LEAST_REQUEST"),
            ),
        ),
    ).manifest()


def _sidecar(args: RateLimitArgs) -> Manifest:
    """Its proxy hears of Redis and the trace collector, nothing else."""
    hosts = [redis.mesh_host(args.rate_limits.redis, args.namespaces), f"*/{args.collector}"]
    return Sidecar(
        metadata=WireMeta(name=NAME, namespace=args.namespaces.apps),
        spec=SidecarSpec(
            workload_selector=SidecarSelector(labels=_SELECTOR),
            egress=[IstioEgressListener(hosts=hosts)],
            outbound_traffic_policy=OutboundTrafficPolicy(mode="REGISTRY_ONLY"),
        ),
    ).manifest()


def _autoscaler(namespace: str, size: Size) -> Manifest:
    return dict(
        HorizontalPodAutoscaler(
            apiVersion="autoscaling/v2",
            kind="HorizontalPodAutoscaler",
            metadata=_metadata(namespace),
            spec=HorizontalPodAutoscalerSpec(
                scaleTargetRef=CrossVersionObjectReference(
                    apiVersion="apps/v1", kind="Deployment", name=NAME
                ),
                minReplicas=size.replicas,
                maxReplicas=size.max_replicas,
                metrics=[
                    MetricSpec(
                        type="Resource",
                        resource=ResourceMetricSource(
                            name="cpu",
                            target=MetricTarget(type="Utilization", averageUtilization=70),
                        ),
                    )
                ],
            ),
        ).to_dict()
    )


def _disruption_budget(namespace: str) -> Manifest:
    return dict(
        PodDisruptionBudget(
            apiVersion="policy/v1",
            kind="PodDisruptionBudget",
            metadata=_metadata(namespace),
            spec=PodDisruptionBudgetSpec(
                maxUnavailable=1,
                selector=LabelSelector(matchLabels=_SELECTOR),
                unhealthyPodEvictionPolicy="AlwaysAllow",
            ),
        ).to_dict()
    )


def _spread() -> list[TopologySpreadConstraint]:
    return [
        TopologySpreadConstraint(
            maxSkew=1,
            topologyKey="kubernetes.io/hostname",
            whenUnsatisfiable="ScheduleAnyway",
            labelSelector=LabelSelector(matchLabels=_SELECTOR),
        )
    ]


def _metadata(namespace: str) -> ObjectMeta:
    return ObjectMeta(name=NAME, namespace=namespace, labels=dict(_SELECTOR))
