"""The pods of the rate-limit service, and what Kubernetes keeps around them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

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
from components.objects import Manifest
from model.settings import Namespaces, RateLimits, Size
from model.values import seconds

NAME = "ratelimit"
HTTP_PORT, GRPC_PORT, METRICS_PORT = 8080, 8081, 9090
SELECTOR = {"app": NAME}
"""Labels by which policies and Services select the pods."""
CONFIG_HASH = "voicemesh.io/config-hash"
"""Pod annotation: digest of the configuration, so that a new one brings new pods."""
_LABELS = {**SELECTOR, "version": "v1"}
_PORTS = (
    ("grpc", GRPC_PORT, "grpc"),
    ("http", HTTP_PORT, "http"),
    ("metrics", METRICS_PORT, "http"),
)
"""Name, number and protocol."""
_RUNTIME, _SUBDIRECTORY = "/data", "ratelimit"
_GRACE_PERIOD = 10
"""Seconds. Once Redis has hung, the service does not end by itself when asked to, and would take all
of Kubernetes' 30 seconds; its answers take milliseconds."""
_USER = 65532
"""The user `nonroot` of the image."""


def workload(namespaces: Namespaces, limits: RateLimits, config: str) -> Iterator[Manifest]:
    """Account, configuration, Service and Deployment; autoscaler and budget where the size says so.

    Args:
        config: the service's configuration file.
    """
    namespace, size = namespaces.apps, limits.size
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
            data={"config.yaml": config},
        ).to_dict()
    )
    yield _service(namespace)
    yield _deployment(namespaces, limits, config)
    if size.max_replicas > size.replicas:
        yield _autoscaler(namespace, size)
    if size.replicas > 1:
        yield _disruption_budget(namespace)


def _service(namespace: str) -> Manifest:
    return dict(
        Service(
            apiVersion="v1",
            kind="Service",
            metadata=_metadata(namespace),
            spec=ServiceSpec(
                type="ClusterIP",
                selector=SELECTOR,
                ports=[
                    ServicePort(
                        name=name, port=port, targetPort=port, protocol="TCP", appProtocol=protocol
                    )
                    for name, port, protocol in _PORTS
                ],
            ),
        ).to_dict()
    )


def _deployment(namespaces: Namespaces, limits: RateLimits, config: str) -> Manifest:
    size = limits.size
    annotations = {
        CONFIG_HASH: hashlib.sha256(config.encode()).hexdigest()[:16],
        "prometheus.io/scrape": "true",
        "prometheus.io/port": str(METRICS_PORT),
        "prometheus.io/path": "/metrics",
    }
    return dict(
        Deployment(
            apiVersion="apps/v1",
            kind="Deployment",
            metadata=_metadata(namespaces.apps),
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
                        terminationGracePeriodSeconds=_GRACE_PERIOD,
                        securityContext=PodSecurityContext(
                            runAsNonRoot=True,
                            seccompProfile=SeccompProfile(type="RuntimeDefault"),
                        ),
                        topologySpreadConstraints=_spread() if size.replicas > 1 else None,
                        containers=[_container(namespaces, limits)],
                        volumes=[Volume(name="config", configMap=ConfigMapVolumeSource(name=NAME))],
                    ),
                ),
            ),
        ).to_dict()
    )


def _container(namespaces: Namespaces, limits: RateLimits) -> Container:
    size = limits.size
    healthy = HTTPGetAction(path="/healthcheck", port=HTTP_PORT)
    return Container(
        name=NAME,
        image=limits.image,
        command=["/bin/ratelimit"],
        env=[
            *(
                EnvVar(name=name, value=value)
                for name, value in _environment(namespaces, limits).items()
            ),
            redis.password("REDIS_AUTH", limits.redis),
        ],
        ports=[
            ContainerPort(name=name, containerPort=port, protocol="TCP") for name, port, _ in _PORTS
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


def _environment(namespaces: Namespaces, limits: RateLimits) -> dict[str, str]:
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
        "REDIS_URL": redis.address(limits.redis, namespaces),
        # Well below the gateway's own patience, so that a Redis that hangs is an answer as well.
        "REDIS_TIMEOUT": f"{redis_timeout(limits):.0f}ms",
        # Who is over the limit is not looked up again: a flood does not reach Redis.
        "LOCAL_CACHE_SIZE_IN_BYTES": "1048576",
    }


def redis_timeout(limits: RateLimits) -> float:
    """Milliseconds that the service waits for Redis: four fifths of the gateway's patience."""
    return 800 * float(seconds(limits.timeout))


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
                selector=LabelSelector(matchLabels=SELECTOR),
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
            labelSelector=LabelSelector(matchLabels=SELECTOR),
        )
    ]


def _metadata(namespace: str) -> ObjectMeta:
    return ObjectMeta(name=NAME, namespace=namespace, labels=dict(SELECTOR))
