"""Wire types: DestinationRule.

Generated from the CRDs of istio.io/api v1.31.1; do not edit. Regenerate with `python -m schema`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import TypeAliasType

from components.istio.selector import WorkloadSelector
from components.istio.virtual_service import PortSelector
from components.wire import (
    Duration,
    Manifest,
    Message,
    Number,
    ObjectMeta,
    PositiveDuration,
)


class ConnectionPoolSettingsHTTPSettingsConnectionKeepalive(Message):
    interval: PositiveDuration | None = None
    timeout: PositiveDuration | None = None


class ConnectionPoolSettingsHTTPSettings(Message):
    h2_upgrade_policy: Annotated[
        Literal["DEFAULT", "DO_NOT_UPGRADE", "UPGRADE"] | None, Field(alias="h2UpgradePolicy")
    ] = None
    http1_max_pending_requests: Annotated[int | None, Field(alias="http1MaxPendingRequests")] = None
    http2_keep_alive: Annotated[
        ConnectionPoolSettingsHTTPSettingsConnectionKeepalive | None, Field(alias="http2KeepAlive")
    ] = None
    http2_max_requests: Annotated[int | None, Field(alias="http2MaxRequests")] = None
    idle_timeout: Annotated[PositiveDuration | None, Field(alias="idleTimeout")] = None
    max_concurrent_streams: Annotated[int | None, Field(alias="maxConcurrentStreams")] = None
    max_requests_per_connection: Annotated[int | None, Field(alias="maxRequestsPerConnection")] = (
        None
    )
    max_retries: Annotated[int | None, Field(alias="maxRetries")] = None
    use_client_protocol: Annotated[bool | None, Field(alias="useClientProtocol")] = None


class ConnectionPoolSettingsTCPSettingsTcpKeepalive(Message):
    interval: PositiveDuration | None = None
    probes: Annotated[int | None, Field(ge=0, le=4294967295)] = None
    time: PositiveDuration | None = None


class ConnectionPoolSettingsTCPSettings(Message):
    connect_timeout: Annotated[PositiveDuration | None, Field(alias="connectTimeout")] = None
    idle_timeout: Annotated[Duration | None, Field(alias="idleTimeout")] = None
    max_connection_duration: Annotated[
        PositiveDuration | None, Field(alias="maxConnectionDuration")
    ] = None
    max_connections: Annotated[int | None, Field(alias="maxConnections")] = None
    tcp_keepalive: Annotated[
        ConnectionPoolSettingsTCPSettingsTcpKeepalive | None, Field(alias="tcpKeepalive")
    ] = None


class ConnectionPoolSettings(Message):
    http: ConnectionPoolSettingsHTTPSettings | None = None
    tcp: ConnectionPoolSettingsTCPSettings | None = None


class LoadBalancerSettingsConsistentHashLBHTTPCookieAttribute(Message):
    name: str
    value: str | None = None


class LoadBalancerSettingsConsistentHashLBHTTPCookie(Message):
    attributes: list[LoadBalancerSettingsConsistentHashLBHTTPCookieAttribute] | None = None
    name: str
    path: str | None = None
    ttl: Duration | None = None


class LoadBalancerSettingsConsistentHashLBMagLev(Message):
    table_size: Annotated[int | None, Field(alias="tableSize", ge=0)] = None


class LoadBalancerSettingsConsistentHashLBRingHash(Message):
    minimum_ring_size: Annotated[int | None, Field(alias="minimumRingSize", ge=0)] = None


class LoadBalancerSettingsConsistentHashLB(Message):
    at_most_one = (
        ("http_header_name", "http_cookie", "use_source_ip", "http_query_parameter_name"),
        ("ring_hash", "maglev"),
    )

    http_cookie: Annotated[
        LoadBalancerSettingsConsistentHashLBHTTPCookie | None, Field(alias="httpCookie")
    ] = None
    http_header_name: Annotated[str | None, Field(alias="httpHeaderName")] = None
    http_query_parameter_name: Annotated[str | None, Field(alias="httpQueryParameterName")] = None
    maglev: LoadBalancerSettingsConsistentHashLBMagLev | None = None
    ring_hash: Annotated[
        LoadBalancerSettingsConsistentHashLBRingHash | None, Field(alias="ringHash")
    ] = None
    use_source_ip: Annotated[bool | None, Field(alias="useSourceIp")] = None


ToValue = TypeAliasType("ToValue", Annotated[int, Field(ge=0, le=4294967295)])


class LocalityLoadBalancerSettingDistribute(Message):
    from_: Annotated[str | None, Field(alias="from")] = None
    to: dict[str, ToValue] | None = None


class LocalityLoadBalancerSettingFailover(Message):
    from_: Annotated[str | None, Field(alias="from")] = None
    to: str | None = None


class LocalityLoadBalancerSetting(Message):
    distribute: list[LocalityLoadBalancerSettingDistribute] | None = None
    enabled: bool | None = None
    failover: list[LocalityLoadBalancerSettingFailover] | None = None
    failover_priority: Annotated[list[str] | None, Field(alias="failoverPriority")] = None


class WarmupConfiguration(Message):
    aggression: Annotated[Number | None, Field(ge=0)] = None
    duration: PositiveDuration
    minimum_percent: Annotated[Number | None, Field(alias="minimumPercent", ge=0, le=100)] = None


class ZoneAwareLoadBalancerSettingFailover(Message):
    from_: Annotated[str | None, Field(alias="from")] = None
    to: str | None = None


class ZoneAwareLoadBalancerSetting(Message):
    enabled: bool | None = None
    failover: list[ZoneAwareLoadBalancerSettingFailover] | None = None
    failover_priority: Annotated[list[str] | None, Field(alias="failoverPriority")] = None
    min_cluster_size: Annotated[int | None, Field(alias="minClusterSize", ge=1, le=4294967295)] = (
        None
    )


class LoadBalancerSettings(Message):
    at_most_one = (("simple", "consistent_hash"),)

    consistent_hash: Annotated[
        LoadBalancerSettingsConsistentHashLB | None, Field(alias="consistentHash")
    ] = None
    locality_lb_setting: Annotated[
        LocalityLoadBalancerSetting | None, Field(alias="localityLbSetting")
    ] = None
    simple: (
        Literal["UNSPECIFIED", "RANDOM", "PASSTHROUGH", "ROUND_ROBIN", "LEAST_REQUEST"] | None
    ) = None
    warmup: WarmupConfiguration | None = None
    warmup_duration_secs: Annotated[PositiveDuration | None, Field(alias="warmupDurationSecs")] = (
        None
    )
    zone_aware_lb_setting: Annotated[
        ZoneAwareLoadBalancerSetting | None, Field(alias="zoneAwareLbSetting")
    ] = None


OutlierDetectionHttpErrorCodesValue = TypeAliasType(
    "OutlierDetectionHttpErrorCodesValue",
    Annotated[int, Field(ge=100, le=599)],
)


class OutlierDetection(Message):
    base_ejection_time: Annotated[PositiveDuration | None, Field(alias="baseEjectionTime")] = None
    consecutive_5xx_errors: Annotated[
        int | None, Field(alias="consecutive5xxErrors", ge=0, le=4294967295)
    ] = None
    consecutive_gateway_errors: Annotated[
        int | None, Field(alias="consecutiveGatewayErrors", ge=0, le=4294967295)
    ] = None
    consecutive_local_origin_failures: Annotated[
        int | None, Field(alias="consecutiveLocalOriginFailures", ge=0, le=4294967295)
    ] = None
    interval: PositiveDuration | None = None
    max_ejection_percent: Annotated[int | None, Field(alias="maxEjectionPercent")] = None
    min_health_percent: Annotated[int | None, Field(alias="minHealthPercent")] = None
    outlier_detection_http_error_codes: Annotated[
        list[OutlierDetectionHttpErrorCodesValue] | None,
        Field(alias="outlierDetectionHttpErrorCodes"),
    ] = None
    split_external_local_origin_errors: Annotated[
        bool | None, Field(alias="splitExternalLocalOriginErrors")
    ] = None


class ClientTLSSettings(Message):
    ca_certificates: Annotated[str | None, Field(alias="caCertificates")] = None
    ca_crl: Annotated[str | None, Field(alias="caCrl")] = None
    client_certificate: Annotated[str | None, Field(alias="clientCertificate")] = None
    credential_name: Annotated[str | None, Field(alias="credentialName")] = None
    insecure_skip_verify: Annotated[bool | None, Field(alias="insecureSkipVerify")] = None
    mode: Literal["DISABLE", "SIMPLE", "MUTUAL", "ISTIO_MUTUAL"] | None = None
    private_key: Annotated[str | None, Field(alias="privateKey")] = None
    sni: str | None = None
    subject_alt_names: Annotated[list[str] | None, Field(alias="subjectAltNames")] = None


class TrafficPolicyPortTrafficPolicy(Message):
    connection_pool: Annotated[ConnectionPoolSettings | None, Field(alias="connectionPool")] = None
    load_balancer: Annotated[LoadBalancerSettings | None, Field(alias="loadBalancer")] = None
    outlier_detection: Annotated[OutlierDetection | None, Field(alias="outlierDetection")] = None
    port: PortSelector | None = None
    tls: ClientTLSSettings | None = None


class TrafficPolicyProxyProtocol(Message):
    version: Literal["V1", "V2"] | None = None


class TrafficPolicyRetryBudget(Message):
    budget_interval: Annotated[Duration | None, Field(alias="budgetInterval")] = None
    min_retry_concurrency: Annotated[
        int | None, Field(alias="minRetryConcurrency", ge=0, le=4294967295)
    ] = None
    percent: Annotated[Number | None, Field(ge=0, le=100)] = None


class TrafficPolicyTunnelSettings(Message):
    protocol: str | None = None
    target_host: Annotated[str, Field(alias="targetHost")]
    target_port: Annotated[int, Field(alias="targetPort", ge=0, le=4294967295)]


class TrafficPolicy(Message):
    connection_pool: Annotated[ConnectionPoolSettings | None, Field(alias="connectionPool")] = None
    load_balancer: Annotated[LoadBalancerSettings | None, Field(alias="loadBalancer")] = None
    outlier_detection: Annotated[OutlierDetection | None, Field(alias="outlierDetection")] = None
    port_level_settings: Annotated[
        list[TrafficPolicyPortTrafficPolicy] | None,
        Field(alias="portLevelSettings", max_length=4096),
    ] = None
    proxy_protocol: Annotated[TrafficPolicyProxyProtocol | None, Field(alias="proxyProtocol")] = (
        None
    )
    retry_budget: Annotated[TrafficPolicyRetryBudget | None, Field(alias="retryBudget")] = None
    tls: ClientTLSSettings | None = None
    tunnel: TrafficPolicyTunnelSettings | None = None


class Subset(Message):
    labels: dict[str, str] | None = None
    name: str
    traffic_policy: Annotated[TrafficPolicy | None, Field(alias="trafficPolicy")] = None


class DestinationRuleSpec(Message):
    export_to: Annotated[list[str] | None, Field(alias="exportTo")] = None
    host: str
    subsets: list[Subset] | None = None
    traffic_policy: Annotated[TrafficPolicy | None, Field(alias="trafficPolicy")] = None
    workload_selector: Annotated[WorkloadSelector | None, Field(alias="workloadSelector")] = None


class DestinationRule(Manifest):
    api_version: Annotated[Literal["networking.istio.io/v1"], Field(alias="apiVersion")] = (
        "networking.istio.io/v1"
    )
    kind: Literal["DestinationRule"] = "DestinationRule"
    metadata: ObjectMeta
    spec: DestinationRuleSpec
