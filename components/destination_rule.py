"""What happens between a caller's proxy and a service: TLS, load balancing, pools, outliers.

Source: https://istio.io/latest/docs/reference/config/networking/destination-rule/
"""

from __future__ import annotations

from collections import Counter

from components.istio.destination_rule import (
    ClientTLSSettings,
    ConnectionPoolSettings,
    ConnectionPoolSettingsHTTPSettings,
    ConnectionPoolSettingsTCPSettings,
    DestinationRule,
    DestinationRuleSpec,
    LoadBalancerSettings,
    LoadBalancerSettingsConsistentHashLB,
    LocalityLoadBalancerSetting,
    LocalityLoadBalancerSettingDistribute,
    OutlierDetection,
    Subset,
    TrafficPolicy,
)
from components.objects import Manifest
from components.wire import ObjectMeta
from model.service import HashOn, Locality, Outliers, Pool, Service


def destination_rule(service: Service, *, namespace: str, zones: tuple[str, ...]) -> Manifest:
    """The service's one DestinationRule.

    Args:
        zones: where the services run, as `region/zone`; a locality preference needs two.
    """
    return DestinationRule(
        metadata=ObjectMeta(name=service.name, namespace=namespace),
        spec=DestinationRuleSpec(
            host=f"{service.name}.{namespace}.svc.cluster.local",
            traffic_policy=TrafficPolicy(
                # Said, not left to auto mTLS: an endpoint that lost its label is then refused,
                # not called in plain text.
                tls=ClientTLSSettings(mode="ISTIO_MUTUAL"),
                load_balancer=_load_balancer(service, zones),
                connection_pool=_connection_pool(service.pool),
                outlier_detection=_outlier_detection(service.outliers),
            ),
            subsets=[
                Subset(name=subset.name, labels={"version": subset.version})
                for subset in service.subsets
            ]
            or None,
        ),
    ).manifest()


def _load_balancer(service: Service, zones: tuple[str, ...]) -> LoadBalancerSettings:
    locality = _locality(service.locality, zones)
    match service.load_balancing:
        case HashOn(header=header):
            return LoadBalancerSettings(
                consistent_hash=LoadBalancerSettingsConsistentHashLB(http_header_name=header),
                locality_lb_setting=locality,
            )
        case simple:
            return LoadBalancerSettings(simple=simple, locality_lb_setting=locality)


def _locality(locality: Locality | None, zones: tuple[str, ...]) -> LocalityLoadBalancerSetting:
    if locality is None or len(zones) < 2:
        # Said, not left out: with outlier detection Istio's own default sends everything to the
        # caller's zone as long as anyone is healthy there, and the other instances stay idle.
        return LocalityLoadBalancerSetting(enabled=False)
    return LocalityLoadBalancerSetting(
        enabled=True,
        distribute=[
            LocalityLoadBalancerSettingDistribute.model_validate(
                {"from": f"{zone}/*", "to": _shares(locality.own_zone_percent, zone, zones)}
            )
            for zone in zones
        ],
    )


def _shares(own: int, zone: str, zones: tuple[str, ...]) -> dict[str, int]:
    """Percent of the requests for each zone: whole numbers that sum to 100."""
    others = [other for other in zones if other != zone]
    shares = Counter({f"{zone}/*": own})
    for index in range(100 - own):
        shares[f"{others[index % len(others)]}/*"] += 1
    return {f"{z}/*": shares[f"{z}/*"] for z in zones if shares[f"{z}/*"]}


def _connection_pool(pool: Pool) -> ConnectionPoolSettings:
    http = ConnectionPoolSettingsHTTPSettings(
        http1_max_pending_requests=pool.http1_max_pending_requests,
        http2_max_requests=pool.http2_max_requests,
        max_requests_per_connection=pool.max_requests_per_connection,
        h2_upgrade_policy="UPGRADE" if pool.h2_upgrade else None,
    )
    return ConnectionPoolSettings(
        tcp=ConnectionPoolSettingsTCPSettings(max_connections=pool.max_connections)
        if pool.max_connections
        else None,
        http=http if http.model_dump(exclude_none=True) else None,
    )


def _outlier_detection(outliers: Outliers) -> OutlierDetection | None:
    if not (outliers.consecutive_5xx or outliers.consecutive_gateway):
        return None
    # 0 turns a detector off; left out, Envoy's own default of five errors would stand.
    return OutlierDetection(
        consecutive_5xx_errors=outliers.consecutive_5xx or 0,
        consecutive_gateway_errors=outliers.consecutive_gateway or 0,
        interval=outliers.interval,
        base_ejection_time=outliers.base_ejection,
        max_ejection_percent=outliers.max_ejection_percent,
    )
