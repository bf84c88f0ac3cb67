"""The share of requests that is traced, decided at the gateway for the service a route leads to.

A trace is kept or dropped where it begins. For clients' requests that is the gateway, so a ratio
that a service's own proxy has would come too late: at 10 % at the gateway, an AI service never
sees more than 10 % of its requests in whole traces. Telemetry has one ratio for a workload and
VirtualService has none, hence an EnvoyFilter on the routes of the services with a ratio of their
own.

Envoy decides by the request id: its first digits modulo 10,000, below the ratio or not. The id
goes with the request, so a proxy further on that decides again with the same ratio decides alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from components.edge.patches import Priority, connection_manager
from components.envoy import extension, fields
from components.gateway_workload import GATEWAY_SELECTOR
from components.istio.envoy_filter import (
    EnvoyConfigObjectMatch,
    EnvoyConfigObjectPatch,
    EnvoyFilter,
    EnvoyFilterSpec,
    Patch,
    RouteConfigurationMatch,
    RouteConfigurationMatchRouteMatch,
    RouteConfigurationMatchVirtualHostMatch,
)
from components.istio.sidecar import WorkloadSelector
from components.objects import NO_OTHER_API, Manifest
from components.request_fields import AI_HEADERS
from components.route_names import (
    api_route_names,
    grpc_route_name,
    split_names,
    websocket_route_name,
)
from components.wire import ObjectMeta
from model.access import Catalogue
from model.service import Service
from model.settings import Sampling, Split

NAME = "trace-sampling"
PRIORITY = Priority(80)

CLIENT_TRACE_HEADERS = (
    "traceparent",
    "tracestate",
    "x-client-trace-id",
    "x-envoy-force-trace",
)
"""Headers by which a client would decide over sampling; the gateway takes them off.

A caller could else have all its requests traced, or none.
"""


def ratio(service: Service, sampling: Sampling) -> float:
    """Percent of a service's requests that are traced; in two groups, the higher one."""
    groups = [(service.ai, sampling.ai), (service.websocket, sampling.websocket)]
    return max((percent for member, percent in groups if member), default=sampling.default)


def trace_sampling(
    namespace: str, catalogue: Catalogue, traffic: dict[str, Split], sampling: Sampling
) -> Manifest:
    """The EnvoyFilter: clients' trace headers off, then each route's ratio."""
    patches = _without_client_traces()
    for service in catalogue.services:
        if service.ai or service.websocket:
            value = _tracing(ratio(service, sampling), ai=service.ai)
            patches += [
                _route(name, value) for name in route_names(service, traffic.get(service.name))
            ]
    return EnvoyFilter(
        metadata=ObjectMeta(annotations=dict(NO_OTHER_API), name=NAME, namespace=namespace),
        spec=EnvoyFilterSpec(
            workload_selector=WorkloadSelector(labels=dict(GATEWAY_SELECTOR)),
            priority=PRIORITY.value,
            config_patches=patches,
        ),
    ).manifest()


def route_names(service: Service, split: Split | None) -> Iterator[str]:
    """Names of all routes at the gateway that lead to a service."""
    for route in service.routes:
        yield from api_route_names(service, route, split)
    for websocket in service.websockets:
        yield from split_names(websocket_route_name(service, websocket), split)
    for grpc in service.grpc:
        yield from split_names(grpc_route_name(service, grpc), split)


def _tracing(percent: float, *, ai: bool) -> dict[str, Any]:
    from envoy_data_plane.envoy.config.route.v3 import Tracing
    from envoy_data_plane.envoy.type.tracing.v3 import CustomTag
    from envoy_data_plane.envoy.type.v3 import FractionalPercent, FractionalPercentDenominatorType

    # Ten thousandths, because that is what Envoy compares the request id with: in another unit the
    # gateway would choose other requests than the proxies behind it.
    share = FractionalPercent(
        numerator=round(percent * 100), denominator=FractionalPercentDenominatorType.TEN_THOUSAND
    )
    whole = FractionalPercent(numerator=100, denominator=FractionalPercentDenominatorType.HUNDRED)
    tags = AI_HEADERS if ai else {}
    return fields(
        Tracing(
            client_sampling=whole,
            random_sampling=share,
            overall_sampling=whole,
            custom_tags=[
                CustomTag(tag=name, value=f"%RESP({header})%") for name, header in tags.items()
            ],
        )
    )


def _without_client_traces() -> list[EnvoyConfigObjectPatch]:
    from envoy_data_plane.envoy.config.common.mutation_rules.v3 import (
        HeaderMutation as Mutation,
    )
    from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
        HttpConnectionManager,
    )
    from envoy_data_plane.envoy.extensions.http.early_header_mutation.header_mutation.v3 import (
        HeaderMutation,
    )

    return connection_manager(
        HttpConnectionManager(
            early_header_mutation_extensions=[
                extension(
                    "envoy.http.early_header_mutation.header_mutation",
                    HeaderMutation(
                        mutations=[Mutation(remove=header) for header in CLIENT_TRACE_HEADERS]
                    ),
                )
            ]
        )
    )


def _route(name: str, tracing: dict[str, Any]) -> EnvoyConfigObjectPatch:
    return EnvoyConfigObjectPatch(
        apply_to="HTTP_ROUTE",
        match=EnvoyConfigObjectMatch(
            context="GATEWAY",
            route_configuration=RouteConfigurationMatch(
                vhost=RouteConfigurationMatchVirtualHostMatch(
                    route=RouteConfigurationMatchRouteMatch(name=name)
                )
            ),
        ),
        patch=Patch(operation="MERGE", value={"tracing": tracing}),
    )
