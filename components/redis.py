"""Redis, where the rate-limit service counts: one of the stack's own, or someone else's.

It holds nothing but counters of the current second, minute or hour, so it has no disk and no
replica: after a restart every limit starts anew.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from lightkube.models.apps_v1 import DeploymentSpec, DeploymentStrategy
from lightkube.models.core_v1 import (
    Capabilities,
    Container,
    ContainerPort,
    EnvVar,
    EnvVarSource,
    PodSecurityContext,
    PodSpec,
    PodTemplateSpec,
    Probe,
    ResourceRequirements,
    SeccompProfile,
    SecretKeySelector,
    SecurityContext,
    ServicePort,
    ServiceSpec,
    TCPSocketAction,
)
from lightkube.models.meta_v1 import LabelSelector, ObjectMeta
from lightkube.models.networking_v1 import (
    NetworkPolicyIngressRule,
    NetworkPolicyPeer,
    NetworkPolicyPort,
    NetworkPolicySpec,
)
from lightkube.resources.apps_v1 import Deployment
from lightkube.resources.core_v1 import Service
from lightkube.resources.networking_v1 import NetworkPolicy

from components.istio.service_entry import ServiceEntry, ServiceEntrySpec
from components.istio.service_entry import ServicePort as EntryPort
from components.istio.workload_entry import WorkloadEntry
from components.objects import GeneratedSecret, Manifest
from components.wire import ObjectMeta as WireMeta
from model.settings import Namespaces, Redis

NAME, CONTAINER = "ratelimit-redis", "redis"
PORT = 6379
PASSWORD_KEY = "password"  # noqa: S105 - the name of a Secret's key
_MEMORY = "64mb"
_USER = 999
"""The user `redis` of the official image."""

# The configuration comes on standard input: a password among the arguments would show in every
# list of processes. By a here-document, not a pipe, so that Redis takes the shell's place and
# hears the signal to stop. `volatile-ttl` lets go first what ends first; every counter has an end.
_START = f"""exec redis-server - --port {PORT} --save '' --appendonly no \\
  --maxmemory {_MEMORY} --maxmemory-policy volatile-ttl <<END
requirepass $REDIS_PASSWORD
END
"""


def address(redis: Redis, namespaces: Namespaces) -> str:
    """Where the rate-limit service finds Redis, as host:port."""
    return redis.address or f"{NAME}.{namespaces.infra}.svc.cluster.local:{PORT}"


def mesh_host(redis: Redis, namespaces: Namespaces) -> str:
    """The host by which the mesh knows Redis, as `namespace/host` of a Sidecar."""
    host, _, _ = address(redis, namespaces).rpartition(":")
    if _in_cluster(host):
        return f"{host.split('.')[1]}/{host}"
    return f"./{_entry_host(host)}"


def managed(
    redis: Redis, namespaces: Namespaces, client: str
) -> Iterator[Manifest | GeneratedSecret]:
    """A Redis of the stack's own; nobody but the client's pods reaches it.

    Args:
        client: value of the label `app` of the pods, in the apps namespace, that may connect.
    """
    labels = {"app": NAME}
    yield GeneratedSecret(
        name=redis.password_secret,
        namespace=namespaces.infra,
        key=PASSWORD_KEY,
        also_in=(namespaces.apps,),
    )
    yield dict(
        Service(
            apiVersion="v1",
            kind="Service",
            metadata=ObjectMeta(name=NAME, namespace=namespaces.infra, labels=labels),
            spec=ServiceSpec(
                type="ClusterIP",
                selector=labels,
                ports=[
                    ServicePort(
                        name="tcp-redis",
                        port=PORT,
                        targetPort=PORT,
                        protocol="TCP",
                        appProtocol="tcp",
                    )
                ],
            ),
        ).to_dict()
    )
    yield _deployment(redis, namespaces.infra, labels)
    yield _only_from(client, namespaces, labels)


def external(redis: Redis, namespace: str) -> Iterator[Manifest]:
    """Makes a Redis outside the cluster known to the mesh, from where nothing unknown is reached."""
    host, _, port = (redis.address or "").rpartition(":")
    if _in_cluster(host):
        return
    literal = _is_address(host)
    yield ServiceEntry(
        metadata=WireMeta(name=NAME, namespace=namespace),
        spec=ServiceEntrySpec(
            hosts=[_entry_host(host)],
            addresses=[host] if literal else None,
            location="MESH_EXTERNAL",
            resolution="STATIC" if literal else "DNS",
            endpoints=[WorkloadEntry(address=host)] if literal else None,
            ports=[EntryPort(number=int(port), name="tcp-redis", protocol="TCP")],
            export_to=["."],
        ),
    ).manifest()


def _deployment(redis: Redis, namespace: str, labels: dict[str, str]) -> Manifest:
    return dict(
        Deployment(
            apiVersion="apps/v1",
            kind="Deployment",
            metadata=ObjectMeta(name=NAME, namespace=namespace, labels=labels),
            spec=DeploymentSpec(
                replicas=1,
                revisionHistoryLimit=2,
                # Two at a time would each count a part.
                strategy=DeploymentStrategy(type="Recreate"),
                selector=LabelSelector(matchLabels=labels),
                template=PodTemplateSpec(
                    metadata=ObjectMeta(labels=labels),
                    spec=PodSpec(
                        automountServiceAccountToken=False,
                        securityContext=PodSecurityContext(
                            runAsNonRoot=True,
                            seccompProfile=SeccompProfile(type="RuntimeDefault"),
                        ),
                        containers=[_container(redis)],
                    ),
                ),
            ),
        ).to_dict()
    )


def _container(redis: Redis) -> Container:
    return Container(
        name=CONTAINER,
        image=redis.image,
        command=["sh", "-c", _START],
        env=[password("REDIS_PASSWORD", redis)],
        ports=[ContainerPort(name="tcp-redis", containerPort=PORT, protocol="TCP")],
        readinessProbe=Probe(tcpSocket=TCPSocketAction(port=PORT), periodSeconds=5),
        livenessProbe=Probe(
            tcpSocket=TCPSocketAction(port=PORT), initialDelaySeconds=10, periodSeconds=10
        ),
        resources=ResourceRequirements(
            requests={"cpu": "50m", "memory": "96Mi"}, limits={"cpu": "500m", "memory": "128Mi"}
        ),
        securityContext=SecurityContext(
            runAsUser=_USER,
            runAsGroup=_USER,
            allowPrivilegeEscalation=False,
            readOnlyRootFilesystem=True,
            capabilities=Capabilities(drop=["ALL"]),
        ),
    )


def password(variable: str, redis: Redis) -> EnvVar:
    """The password as an environment variable, from the Secret in the pod's own namespace."""
    selector = SecretKeySelector(name=redis.password_secret, key=PASSWORD_KEY)
    return EnvVar(name=variable, valueFrom=EnvVarSource(secretKeyRef=selector))


def _only_from(client: str, namespaces: Namespaces, labels: dict[str, str]) -> Manifest:
    """Redis has no proxy and so no mesh policy: the network itself lets one client in, nothing out."""
    return dict(
        NetworkPolicy(
            apiVersion="networking.k8s.io/v1",
            kind="NetworkPolicy",
            metadata=ObjectMeta(name=NAME, namespace=namespaces.infra),
            spec=NetworkPolicySpec(
                podSelector=LabelSelector(matchLabels=labels),
                policyTypes=["Ingress", "Egress"],
                ingress=[
                    NetworkPolicyIngressRule(
                        from_=[
                            NetworkPolicyPeer(
                                namespaceSelector=LabelSelector(
                                    matchLabels={"kubernetes.io/metadata.name": namespaces.apps}
                                ),
                                podSelector=LabelSelector(matchLabels={"app": client}),
                            )
                        ],
                        ports=[NetworkPolicyPort(port=PORT, protocol="TCP")],
                    )
                ],
            ),
        ).to_dict()
    )


def _in_cluster(host: str) -> bool:
    return host.endswith(".svc.cluster.local")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _entry_host(host: str) -> str:
    """A ServiceEntry needs a name also where the connection goes to a bare address."""
    return f"{NAME}.external" if _is_address(host) else host
