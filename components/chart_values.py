"""Values of Istio's three charts, as far as the stack sets them.

Only what differs from a chart's default or must not change with it is named here.
Source: the values.yaml of the charts base, istiod and gateway of the pinned version.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from components.camel import CamelMessage


class Resources(CamelMessage):
    """What a container asks for and what it may use."""

    requests: dict[str, str]
    limits: dict[str, str]


class LabelSelector(CamelMessage):
    """Pods with these labels."""

    match_labels: dict[str, str]


class PodAffinityTerm(CamelMessage):
    """Pods that should not share one place."""

    label_selector: LabelSelector
    topology_key: str


class WeightedPodAffinityTerm(CamelMessage):
    """A preference of the scheduler."""

    weight: int = Field(ge=1, le=100)
    pod_affinity_term: PodAffinityTerm


class PodAntiAffinity(CamelMessage):
    """Preferences against sharing."""

    preferred_during_scheduling_ignored_during_execution: tuple[WeightedPodAffinityTerm, ...]


class Affinity(CamelMessage):
    """Where pods should not run."""

    pod_anti_affinity: PodAntiAffinity


class TopologySpreadConstraint(CamelMessage):
    """How evenly pods are spread over nodes or zones."""

    max_skew: int = 1
    topology_key: str
    when_unsatisfiable: Literal["DoNotSchedule", "ScheduleAnyway"]
    label_selector: LabelSelector
    match_label_keys: tuple[str, ...] = ("pod-template-hash",)
    """Old and new pods of a rollout are counted apart, so that a surge finds room."""


class DisruptionBudget(CamelMessage):
    """How many pods may be evicted at a time."""

    max_unavailable: int = 1
    unhealthy_pod_eviction_policy: Literal["AlwaysAllow"] = "AlwaysAllow"
    """A pod that never got ready does not hold up a node that is drained."""


class Webhooks(CamelMessage):
    """Admission of Istio's resources."""

    validation_failure_policy: Literal["Fail"] = "Fail"
    """What istiod sets anyway once it runs; from the start, so that it is no later change."""


class BaseGlobal(CamelMessage):
    """Values shared by all templates of the chart base."""

    istio_namespace: str


class BaseValues(CamelMessage):
    """Chart base: CRDs and the webhook that validates resources without a revision."""

    global_: BaseGlobal = Field(alias="global")
    base: Webhooks = Webhooks()


class Autoscaled(CamelMessage):
    """Target of an autoscaler."""

    target_average_utilization: int = Field(ge=1, le=100)


class MultiCluster(CamelMessage):
    """Name of the cluster, as telemetry and other clusters know it."""

    cluster_name: str


class Enabled(CamelMessage):
    """A part of a chart that is on or off."""

    enabled: bool


class IstiodGlobal(CamelMessage):
    """Values shared by istiod and the pods it injects."""

    istio_namespace: str
    tag: str
    log_as_json: bool = True
    config_validation: bool = True
    default_pod_disruption_budget: Enabled
    multi_cluster: MultiCluster


class SeccompProfile(CamelMessage):
    """System calls a container may make."""

    type: Literal["RuntimeDefault"] = "RuntimeDefault"


class IstiodValues(CamelMessage):
    """Chart istiod."""

    global_: IstiodGlobal = Field(alias="global")
    base: Webhooks = Webhooks()
    mesh_config: dict[str, Any]
    autoscale_enabled: bool
    autoscale_min: int
    autoscale_max: int
    replica_count: int
    rolling_max_surge: str
    rolling_max_unavailable: str
    cpu: Autoscaled
    resources: Resources
    affinity: Affinity | None = None
    topology_spread_constraints: tuple[TopologySpreadConstraint, ...] | None = None
    pdb: DisruptionBudget | None = None
    seccomp_profile: SeccompProfile = SeccompProfile()
    env: dict[str, str] = Field(
        default={"BLOCKED_CIDRS_IN_JWKS_URIS": "127.0.0.0/8,169.254.0.0/16,::1/128,fe80::/10"}
    )
    """istiod fetches the keys of token issuers: never from itself nor from a cloud's metadata
    server, whatever a RequestAuthentication says."""
    trace_sampling: float
    """Percent; in force only where no Telemetry says otherwise."""


class GatewayLabels(CamelMessage):
    """Labels of the gateway's pods, by which Gateways and policies select them."""

    app: str
    istio: str


class ServicePort(CamelMessage):
    """One port of the gateway's Service."""

    name: str
    port: int
    target_port: int
    protocol: Literal["TCP"] = "TCP"


class GatewayService(CamelMessage):
    """The gateway's Service."""

    type: Literal["LoadBalancer"] = "LoadBalancer"
    external_traffic_policy: Literal["Local", "Cluster"]
    ports: tuple[ServicePort, ...]


class Autoscaling(CamelMessage):
    """The gateway's autoscaler."""

    enabled: bool
    min_replicas: int
    max_replicas: int
    target_cpu_utilization_percentage: int = Field(alias="targetCPUUtilizationPercentage")


class RollingUpdate(CamelMessage):
    """Pace of a rollout."""

    max_surge: str
    max_unavailable: int


class Strategy(CamelMessage):
    """How a rollout replaces pods."""

    type: Literal["RollingUpdate"] = "RollingUpdate"
    rolling_update: RollingUpdate


class GatewayValues(CamelMessage):
    """Chart gateway."""

    labels: GatewayLabels
    replica_count: int
    autoscaling: Autoscaling
    service: GatewayService
    resources: Resources
    pod_annotations: dict[str, str]
    strategy: Strategy | None = None
    min_ready_seconds: int | None = None
    affinity: Affinity | None = None
    topology_spread_constraints: tuple[TopologySpreadConstraint, ...] | None = None
    pod_disruption_budget: DisruptionBudget | None = None
    termination_grace_period_seconds: int
    """How long a stopping gateway may wait for its last WebSocket or stream."""


def values(chart: BaseValues | IstiodValues | GatewayValues) -> dict[str, Any]:
    """The values as Helm reads them; what was not set is left to the chart."""
    return chart.model_dump(mode="json", exclude_none=True)
