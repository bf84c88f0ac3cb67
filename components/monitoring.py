"""What the Prometheus operator scrapes of the mesh, and what it alerts on."""

from __future__ import annotations

from collections.abc import Iterator

from components.alerts import GATEWAY_JOB, ISTIOD_JOB, SIDECARS_JOB, AlertsArgs, rules
from components.component import MeshComponent
from components.gateway_workload import GATEWAY_SELECTOR
from components.objects import Manifest, labelled
from components.prometheus_operator.pod_monitor import (
    LabelSelector,
    LabelSelectorRequirement,
    NamespaceSelector,
    PodMetricsEndpoint,
    PodMonitor,
    PodMonitorSpec,
    RelabelConfig,
)
from components.prometheus_operator.service_monitor import (
    Endpoint,
    ServiceMonitor,
    ServiceMonitorSpec,
)
from components.prometheus_operator.service_monitor import LabelSelector as ServiceLabels
from components.prometheus_operator.service_monitor import (
    NamespaceSelector as ServiceNamespaces,
)
from components.wire import ObjectMeta
from model.values import seconds

_MERGED_PORT = 15020
"""Where a proxy publishes its own metrics together with its application's, in clear text."""


class Monitors(MeshComponent[AlertsArgs]):
    """Monitors and rules; none where monitoring is off, as their CRDs may be missing then."""

    token = "voicemesh:prometheus:Monitoring"  # noqa: S105 - a Pulumi type token

    @staticmethod
    def build(args: AlertsArgs) -> tuple[Manifest, ...]:
        """Monitors of sidecars, gateway and, where the stack installs it, istiod; then alerts."""
        if not args.monitoring.enabled:
            return ()
        return labelled(args.stack, "monitoring", _objects(args))


def _objects(args: AlertsArgs) -> Iterator[Manifest]:
    mesh, apps = args.namespaces.mesh, args.namespaces.apps
    yield _pods(args, SIDECARS_JOB, apps, _injected(), target_labels=["app", "version"])
    yield _pods(
        args, GATEWAY_JOB, mesh, LabelSelector(match_labels=dict(GATEWAY_SELECTOR)), ["app"]
    )
    if args.owns_control_plane:
        yield _istiod(args)
    yield rules(args)


def _injected() -> LabelSelector:
    """Pods with a proxy: istiod's injector writes this label."""
    return LabelSelector(
        match_expressions=[
            LabelSelectorRequirement(key="service.istio.io/canonical-name", operator="Exists")
        ]
    )


def _pods(
    args: AlertsArgs,
    name: str,
    namespace: str,
    selector: LabelSelector,
    target_labels: list[str],
) -> Manifest:
    return PodMonitor(
        metadata=_metadata(args, name),
        spec=PodMonitorSpec(
            namespace_selector=NamespaceSelector(match_names=[namespace]),
            selector=selector,
            pod_target_labels=target_labels,
            pod_metrics_endpoints=[
                PodMetricsEndpoint(
                    path="/stats/prometheus",
                    interval=_interval(args),
                    relabelings=list(_to_merged_port(name)),
                )
            ],
        ),
    ).manifest()


def _to_merged_port(job: str) -> Iterator[RelabelConfig]:
    # The proxy's container declares another port, which makes the one target of a pod; the
    # address is then turned to the port that has the application's metrics too.
    yield RelabelConfig(
        action="keep",
        source_labels=["__meta_kubernetes_pod_container_name"],
        regex="istio-proxy",
    )
    for address, replacement in ((r"([\d.]+)", "$1"), (r"(.*:.*)", "[$1]")):
        yield RelabelConfig(
            action="replace",
            source_labels=["__meta_kubernetes_pod_ip"],
            regex=address,
            replacement=f"{replacement}:{_MERGED_PORT}",
            target_label="__address__",
        )
    yield RelabelConfig(action="replace", replacement=job, target_label="job")


def _istiod(args: AlertsArgs) -> Manifest:
    return ServiceMonitor(
        metadata=_metadata(args, ISTIOD_JOB),
        spec=ServiceMonitorSpec(
            namespace_selector=ServiceNamespaces(match_names=[args.namespaces.mesh]),
            # The Service istiod; its name becomes the job.
            selector=ServiceLabels(match_labels={"app": "istiod", "istio": "pilot"}),
            endpoints=[Endpoint(port="http-monitoring", interval=_interval(args))],
        ),
    ).manifest()


def _metadata(args: AlertsArgs, name: str) -> ObjectMeta:
    return ObjectMeta(
        name=name, namespace=args.namespaces.mesh, labels=dict(args.monitoring.labels)
    )


def _interval(args: AlertsArgs) -> str:
    """The interval in whole seconds or milliseconds: the operator reads no fractions."""
    length = seconds(args.monitoring.interval)
    return f"{int(length)}s" if length == int(length) else f"{int(length * 1000)}ms"
