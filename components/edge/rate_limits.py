"""Rate limits at the gateway: a flood limit of each proxy's own, and limits that all share.

Source: https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/rate_limit_filter
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import TYPE_CHECKING

from components.edge.patches import (
    GLOBAL_RATE_LIMIT,
    LOCAL_RATE_LIMIT,
    envoy_filter,
    filter_before_router,
    first_filter,
    route_filter,
)
from components.gateway_workload import HTTP_PORT, HTTPS_PORT
from components.limits import ADDRESS, DOMAIN, ROUTE, TENANT, Limit, LimitedRoute
from components.objects import Manifest
from components.request_fields import verified_claim
from model.settings import RateLimits
from model.values import Duration, seconds

if TYPE_CHECKING:
    from envoy_data_plane.envoy.config.core.v3 import (
        HeaderValueOption,
        RuntimeFractionalPercent,
    )
    from envoy_data_plane.envoy.config.route.v3 import RateLimit, RateLimitAction
    from envoy_data_plane.envoy.extensions.filters.http.ratelimit.v3 import (
        RateLimit as RateLimitFilter,
    )

LOCAL = "voicemesh.local-rate-limit"
OPEN, CLOSED = "voicemesh.rate-limit.open", "voicemesh.rate-limit.closed"
"""Two instances of the global filter: whether a failure refuses is a property of the instance.

A route has its limits configured for one of them, and so asks through that one alone.
"""
NO_NAME = " "
"""What a tenant claim that is no text is counted as: all such tokens together, apart from every
tenant, since no tenant's name is a blank."""
_SECONDS = {"second": 1, "minute": 60, "hour": 3600}


def local_rate_limit(namespace: str, settings: RateLimits) -> Manifest:
    """The EnvoyFilter that stops one client address from flooding a gateway instance.

    Before tokens are verified, so that a flood costs little. Not on the east-west port: there one
    address is a whole cluster's gateway, and it has a certificate of the mesh.
    """
    from envoy_data_plane.envoy.extensions.common.ratelimit.v3 import (
        LocalRateLimitDescriptor,
        RateLimitDescriptorEntry,
    )
    from envoy_data_plane.envoy.extensions.filters.http.local_ratelimit.v3 import LocalRateLimit
    from envoy_data_plane.envoy.type.v3 import TokenBucket

    allowance = settings.per_address
    interval = timedelta(seconds=_SECONDS[allowance.unit])
    bucket = TokenBucket(
        max_tokens=allowance.requests, tokens_per_fill=allowance.requests, fill_interval=interval
    )
    every_request = _always()
    flood_limit = LocalRateLimit(
        stat_prefix="edge",
        filter_enabled=every_request,
        filter_enforced=every_request,
        token_bucket=bucket,
        # The filter's own bucket is one for all clients together; only addresses are counted.
        always_consume_default_token_bucket=False,
        descriptors=[
            # An entry without a value makes a bucket for each value that comes by.
            LocalRateLimitDescriptor(
                entries=[RateLimitDescriptorEntry(key=ADDRESS)], token_bucket=bucket
            )
        ],
        max_dynamic_descriptors=settings.tracked_addresses,
        rate_limits=[_counted([_address()])],
        rate_limited_as_resource_exhausted=True,
        response_headers_to_add=_refusal_headers(allowance.requests, interval),
    )
    return envoy_filter(
        "edge-local-rate-limit",
        namespace,
        LOCAL_RATE_LIMIT,
        first_filter(LOCAL, flood_limit, (HTTP_PORT, HTTPS_PORT)),
    )


def global_rate_limit(
    namespace: str,
    *,
    cluster: str,
    authority: str,
    tenant_claim: str,
    timeout: Duration,
    routes: Iterable[LimitedRoute],
) -> Manifest:
    """The EnvoyFilter that asks the rate-limit service, after token and policies have passed.

    Args:
        cluster: istiod's name for the rate-limit service.
        authority: host name of the rate-limit service.
        tenant_claim: claim of the verified token that names the tenant.
        timeout: how long a request waits for an answer before the question counts as failed.
    """
    from envoy_data_plane.envoy.extensions.filters.http.ratelimit.v3 import RateLimitPerRoute

    patches = [
        filter_before_router(OPEN, _filter(cluster, authority, timeout, closed=False)),
        filter_before_router(CLOSED, _filter(cluster, authority, timeout, closed=True)),
    ]
    for limited in routes:
        counted = [
            _counted([_route(limited.route.prefix), _caller(limit, tenant_claim)])
            for limit in limited.limits
        ]
        patches += route_filter(
            limited.route.names,
            CLOSED if limited.closed else OPEN,
            RateLimitPerRoute(rate_limits=counted),
        )
    return envoy_filter("edge-global-rate-limit", namespace, GLOBAL_RATE_LIMIT, patches)


def _filter(cluster: str, authority: str, timeout: Duration, *, closed: bool) -> RateLimitFilter:
    from envoy_data_plane.envoy.config.core.v3 import (
        ApiVersion,
        GrpcService,
        GrpcServiceEnvoyGrpc,
    )
    from envoy_data_plane.envoy.config.ratelimit.v3 import RateLimitServiceConfig
    from envoy_data_plane.envoy.extensions.filters.http.ratelimit.v3 import (
        RateLimit,
        RateLimitXRateLimitHeadersRfcVersion,
    )
    from envoy_data_plane.envoy.type.v3 import HttpStatus, StatusCode

    patience = timedelta(seconds=float(seconds(timeout)))
    return RateLimit(
        domain=DOMAIN,
        timeout=patience,
        failure_mode_deny=closed,
        status_on_error=HttpStatus(code=StatusCode.ServiceUnavailable) if closed else None,
        # No stat_prefix: alerts and meshConfig's proxyStatsMatcher go by the statistics' own names.
        rate_limited_as_resource_exhausted=True,
        enable_x_ratelimit_headers=RateLimitXRateLimitHeadersRfcVersion.DRAFT_VERSION_03,
        rate_limit_service=RateLimitServiceConfig(
            transport_api_version=ApiVersion.V3,
            grpc_service=GrpcService(
                envoy_grpc=GrpcServiceEnvoyGrpc(cluster_name=cluster, authority=authority),
                timeout=patience,
            ),
        ),
    )


def _caller(limit: Limit, tenant_claim: str) -> RateLimitAction:
    return _tenant(tenant_claim) if limit.counted_by == "tenant" else _address()


def _route(prefix: str) -> RateLimitAction:
    from envoy_data_plane.envoy.config.route.v3 import RateLimitAction, RateLimitActionGenericKey

    return RateLimitAction(
        generic_key=RateLimitActionGenericKey(descriptor_key=ROUTE, descriptor_value=prefix)
    )


def _tenant(claim: str) -> RateLimitAction:
    """The tenant as the verified token names it.

    Of a list Envoy makes no text, and without a default value it would count nothing.
    """
    from envoy_data_plane.envoy.config.route.v3 import (
        RateLimitAction,
        RateLimitActionMetaData,
        RateLimitActionMetaDataSource,
    )
    from envoy_data_plane.envoy.type.metadata.v3 import MetadataKey, MetadataKeyPathSegment

    filter_name, *path = verified_claim(claim)
    return RateLimitAction(
        metadata=RateLimitActionMetaData(
            descriptor_key=TENANT,
            default_value=NO_NAME,
            source=RateLimitActionMetaDataSource.DYNAMIC,
            metadata_key=MetadataKey(
                key=filter_name, path=[MetadataKeyPathSegment(key=segment) for segment in path]
            ),
        )
    )


def _address() -> RateLimitAction:
    """The client's address as X-Forwarded-For gives it behind the trusted proxies.

    Of IPv6 the first 64 bits count: one client has all that follows to choose from.
    """
    from envoy_data_plane.envoy.config.route.v3 import (
        RateLimitAction,
        RateLimitActionMaskedRemoteAddress,
    )

    return RateLimitAction(
        masked_remote_address=RateLimitActionMaskedRemoteAddress(
            v4_prefix_mask_len=32, v6_prefix_mask_len=64
        )
    )


def _counted(actions: list[RateLimitAction]) -> RateLimit:
    from envoy_data_plane.envoy.config.route.v3 import RateLimit

    return RateLimit(actions=actions)


def _always() -> RuntimeFractionalPercent:
    from envoy_data_plane.envoy.config.core.v3 import RuntimeFractionalPercent
    from envoy_data_plane.envoy.type.v3 import FractionalPercent, FractionalPercentDenominatorType

    return RuntimeFractionalPercent(
        default_value=FractionalPercent(
            numerator=100, denominator=FractionalPercentDenominatorType.HUNDRED
        )
    )


def _refusal_headers(requests: int, interval: timedelta) -> list[HeaderValueOption]:
    """What a refused client learns; on other answers these headers belong to the global limit."""
    from components.edge.headers import options

    wait = int(interval.total_seconds())
    return options(
        {
            "x-ratelimit-limit": f"{requests}, {requests};w={wait}",
            "x-ratelimit-remaining": "0",
            "x-ratelimit-reset": str(wait),
            "retry-after": str(wait),
        }
    )
