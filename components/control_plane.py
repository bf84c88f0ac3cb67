"""The control plane and the ingress gateway, installed from Istio's own charts.

Order: base (CRDs), istiod, then the gateway, whose pods istiod injects. Custom resources come
after all of them: istiod's webhook refuses what it has not validated, and until istiod has written
its CA into the webhook the API server can't even ask it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

from components.chart_values import (
    Affinity,
    Autoscaled,
    Autoscaling,
    BaseGlobal,
    BaseValues,
    DisruptionBudget,
    Enabled,
    GatewayLabels,
    GatewayService,
    GatewayValues,
    IstiodGlobal,
    IstiodValues,
    LabelSelector,
    MultiCluster,
    PodAffinityTerm,
    PodAntiAffinity,
    Resources,
    RollingUpdate,
    ServicePort,
    Strategy,
    TopologySpreadConstraint,
    WeightedPodAffinityTerm,
    values,
)
from components.component import ComponentArgs, MeshComponent
from components.gateway_workload import GATEWAY_LABELS
from components.objects import HelmRelease, WaitFor
from model.settings import ControlPlane, Gateway, Namespaces, Size

EVICTION = {"sidecar.istio.io/statsEvictionInterval": "30m"}
"""Pod annotation: a metric series that nothing touched for so long is dropped.

Tenants and models come and go; without it a proxy would keep a series for each it ever saw.
"""
_VALIDATORS = ("istiod-default-validator", "istio-validator-{namespace}")
_GRACE_PERIOD, _LONG_GRACE_PERIOD = 30, 300
"""Seconds; the long one is that of the longest request timeout in the catalogue."""


class ControlPlaneArgs(ComponentArgs):
    """Arguments of `IstioControlPlane`."""

    namespaces: Namespaces
    control_plane: ControlPlane
    gateway: Gateway
    gateway_proxy_config: dict[str, Any]
    """ProxyConfig of the gateway's pods (`components/gateway_proxy.py`)."""
    mesh_config: dict[str, Any]
    trace_sampling: float


class IstioControlPlane(MeshComponent[ControlPlaneArgs]):
    """Istio's releases; with a control plane of someone else's, the gateway alone."""

    token = "voicemesh:istio:ControlPlane"  # noqa: S105 - a Pulumi type token

    @staticmethod
    def build(args: ControlPlaneArgs) -> tuple[HelmRelease, ...]:
        """The releases in the order they must be ready."""
        return tuple(_releases(args))


def _releases(args: ControlPlaneArgs) -> Iterator[HelmRelease]:
    installed = args.control_plane.mode == "install"
    if installed:
        yield _release(args, "istio-base", "base", _base(args))
        yield _release(
            args,
            "istiod",
            "istiod",
            _istiod(args),
            after=("istio-base",),
            ready_when=tuple(
                WaitFor(
                    api_version="admissionregistration.k8s.io/v1",
                    kind="ValidatingWebhookConfiguration",
                    name=name.format(namespace=args.namespaces.mesh),
                    json_path="{.webhooks[0].clientConfig.caBundle}",
                )
                for name in _VALIDATORS
            ),
        )
    yield _release(
        args,
        GATEWAY_LABELS["app"],
        "gateway",
        _gateway(args),
        after=("istiod",) if installed else (),
    )


def _release(
    args: ControlPlaneArgs,
    name: str,
    chart: str,
    chart_values: BaseValues | IstiodValues | GatewayValues,
    after: tuple[str, ...] = (),
    ready_when: tuple[WaitFor, ...] = (),
) -> HelmRelease:
    return HelmRelease(
        name=name,
        namespace=args.namespaces.mesh,
        chart=chart,
        version=args.control_plane.version,
        repository=args.control_plane.chart_repository,
        values=values(chart_values),
        after=after,
        ready_when=ready_when,
    )


def _base(args: ControlPlaneArgs) -> BaseValues:
    return BaseValues(global_=BaseGlobal(istio_namespace=args.namespaces.mesh))


def _istiod(args: ControlPlaneArgs) -> IstiodValues:
    size, high = args.control_plane.istiod, args.control_plane.highly_available
    labels = {"app": "istiod"}
    return IstiodValues(
        global_=IstiodGlobal(
            istio_namespace=args.namespaces.mesh,
            tag=args.control_plane.version,
            default_pod_disruption_budget=Enabled(enabled=high),
            multi_cluster=MultiCluster(cluster_name=args.control_plane.cluster),
        ),
        mesh_config=args.mesh_config,
        autoscale_enabled=_autoscaled(size),
        autoscale_min=size.replicas,
        autoscale_max=size.max_replicas,
        replica_count=size.replicas,
        rolling_max_surge="100%" if high else "25%",
        rolling_max_unavailable="0%" if high else "25%",
        cpu=Autoscaled(target_average_utilization=80),
        resources=_resources(size),
        affinity=_apart(labels) if high else None,
        topology_spread_constraints=_spread(labels) if high else None,
        pdb=DisruptionBudget() if high else None,
        trace_sampling=args.trace_sampling,
    )


def _gateway(args: ControlPlaneArgs) -> GatewayValues:
    size, high = args.gateway.size, args.control_plane.highly_available
    return GatewayValues(
        labels=GatewayLabels(**GATEWAY_LABELS),
        replica_count=size.replicas,
        autoscaling=Autoscaling(
            enabled=_autoscaled(size),
            min_replicas=size.replicas,
            max_replicas=size.max_replicas,
            target_cpu_utilization_percentage=70,
        ),
        service=GatewayService(
            # Kubernetes must not put its own address in the place of the packet's source: with no
            # trusted proxy before the gateway, that source is the client.
            external_traffic_policy="Local",
            ports=tuple(_ports(east_west=args.gateway.east_west)),
        ),
        resources=_resources(size),
        pod_annotations={
            "proxy.istio.io/config": yaml.safe_dump(args.gateway_proxy_config),
            **EVICTION,
        },
        strategy=Strategy(rolling_update=RollingUpdate(max_surge="25%", max_unavailable=0))
        if high
        else None,
        min_ready_seconds=10 if high else None,
        affinity=_apart(GATEWAY_LABELS) if high else None,
        topology_spread_constraints=_spread(GATEWAY_LABELS) if high else None,
        pod_disruption_budget=DisruptionBudget() if high else None,
        termination_grace_period_seconds=_LONG_GRACE_PERIOD if high else _GRACE_PERIOD,
    )


def _ports(*, east_west: bool) -> Iterator[ServicePort]:
    # The health port first: cloud load balancers check the first port of a Service.
    yield ServicePort(name="status-port", port=15021, target_port=15021)
    yield ServicePort(name="http2", port=80, target_port=80)
    yield ServicePort(name="https", port=443, target_port=443)
    if east_west:
        yield ServicePort(name="tls", port=15443, target_port=15443)


def _autoscaled(size: Size) -> bool:
    return size.max_replicas > size.replicas


def _resources(size: Size) -> Resources:
    return Resources(
        requests={"cpu": size.cpu, "memory": size.memory},
        limits={"cpu": size.cpu_limit, "memory": size.memory_limit},
    )


def _apart(labels: dict[str, str]) -> Affinity:
    term = PodAffinityTerm(
        label_selector=LabelSelector(match_labels=labels), topology_key="kubernetes.io/hostname"
    )
    return Affinity(
        pod_anti_affinity=PodAntiAffinity(
            preferred_during_scheduling_ignored_during_execution=(
                WeightedPodAffinityTerm(weight=100, pod_affinity_term=term),
            )
        )
    )


def _spread(labels: dict[str, str]) -> tuple[TopologySpreadConstraint, ...]:
    selector = LabelSelector(match_labels=labels)
    return (
        TopologySpreadConstraint(
            topology_key="kubernetes.io/hostname",
            when_unsatisfiable="DoNotSchedule",
            label_selector=selector,
        ),
        # A zone that is down must not keep the others from taking its pods over.
        TopologySpreadConstraint(
            topology_key="topology.kubernetes.io/zone",
            when_unsatisfiable="ScheduleAnyway",
            label_selector=selector,
        ),
    )
