"""Wire types: EnvoyFilter.

Generated from the CRDs of istio.io/api v1.31.1; do not edit. Regenerate with `python -m schema`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from components.istio.selector import PolicyTargetReference
from components.istio.sidecar import WorkloadSelector
from components.wire import Manifest, Message, ObjectMeta


class ClusterMatch(Message):
    name: str | None = None
    port_number: Annotated[int | None, Field(alias="portNumber", ge=0, le=4294967295)] = None
    service: str | None = None
    subset: str | None = None


class ListenerMatchSubFilterMatch(Message):
    name: str | None = None


class ListenerMatchFilterMatch(Message):
    name: str | None = None
    sub_filter: Annotated[ListenerMatchSubFilterMatch | None, Field(alias="subFilter")] = None


class ListenerMatchFilterChainMatch(Message):
    application_protocols: Annotated[str | None, Field(alias="applicationProtocols")] = None
    destination_port: Annotated[int | None, Field(alias="destinationPort", ge=0, le=4294967295)] = (
        None
    )
    filter: ListenerMatchFilterMatch | None = None
    name: str | None = None
    sni: str | None = None
    transport_protocol: Annotated[str | None, Field(alias="transportProtocol")] = None


class ListenerMatch(Message):
    filter_chain: Annotated[ListenerMatchFilterChainMatch | None, Field(alias="filterChain")] = None
    listener_filter: Annotated[str | None, Field(alias="listenerFilter")] = None
    name: str | None = None
    port_name: Annotated[str | None, Field(alias="portName")] = None
    port_number: Annotated[int | None, Field(alias="portNumber", ge=0, le=4294967295)] = None


class ProxyMatch(Message):
    metadata: dict[str, str] | None = None
    proxy_version: Annotated[str | None, Field(alias="proxyVersion")] = None


class RouteConfigurationMatchRouteMatch(Message):
    action: Literal["ANY", "ROUTE", "REDIRECT", "DIRECT_RESPONSE"] | None = None
    name: str | None = None


class RouteConfigurationMatchVirtualHostMatch(Message):
    domain_name: Annotated[str | None, Field(alias="domainName")] = None
    name: str | None = None
    route: RouteConfigurationMatchRouteMatch | None = None


class RouteConfigurationMatch(Message):
    gateway: str | None = None
    name: str | None = None
    port_name: Annotated[str | None, Field(alias="portName")] = None
    port_number: Annotated[int | None, Field(alias="portNumber", ge=0, le=4294967295)] = None
    vhost: RouteConfigurationMatchVirtualHostMatch | None = None


class WaypointMatchFilterMatchSubFilterMatch(Message):
    name: str | None = None


class WaypointMatchFilterMatch(Message):
    name: str | None = None
    sub_filter: Annotated[
        WaypointMatchFilterMatchSubFilterMatch | None, Field(alias="subFilter")
    ] = None


class WaypointMatchRouteMatch(Message):
    name: str | None = None


class WaypointMatch(Message):
    filter: WaypointMatchFilterMatch | None = None
    port_number: Annotated[int | None, Field(alias="portNumber", ge=1, le=65535)] = None
    route: WaypointMatchRouteMatch | None = None


class EnvoyConfigObjectMatch(Message):
    at_most_one = (("listener", "route_configuration", "cluster", "waypoint"),)

    cluster: ClusterMatch | None = None
    context: Literal["ANY", "SIDECAR_INBOUND", "SIDECAR_OUTBOUND", "GATEWAY", "WAYPOINT"] | None = (
        None
    )
    listener: ListenerMatch | None = None
    proxy: ProxyMatch | None = None
    route_configuration: Annotated[
        RouteConfigurationMatch | None, Field(alias="routeConfiguration")
    ] = None
    waypoint: WaypointMatch | None = None


class Patch(Message):
    filter_class: Annotated[
        Literal["UNSPECIFIED", "AUTHN", "AUTHZ", "STATS"] | None, Field(alias="filterClass")
    ] = None
    operation: (
        Literal[
            "INVALID",
            "MERGE",
            "ADD",
            "REMOVE",
            "INSERT_BEFORE",
            "INSERT_AFTER",
            "INSERT_FIRST",
            "REPLACE",
            "MERGE_AND_REPLACE_LIST",
        ]
        | None
    ) = None
    value: dict[str, Any] | None = None


class EnvoyConfigObjectPatch(Message):
    apply_to: Annotated[
        Literal[
            "INVALID",
            "LISTENER",
            "FILTER_CHAIN",
            "NETWORK_FILTER",
            "HTTP_FILTER",
            "ROUTE_CONFIGURATION",
            "VIRTUAL_HOST",
            "HTTP_ROUTE",
            "CLUSTER",
            "EXTENSION_CONFIG",
            "BOOTSTRAP",
            "LISTENER_FILTER",
        ]
        | None,
        Field(alias="applyTo"),
    ] = None
    match: EnvoyConfigObjectMatch | None = None
    patch: Patch | None = None


class EnvoyFilterSpec(Message):
    at_most_one = (("workload_selector", "target_refs"),)

    config_patches: Annotated[list[EnvoyConfigObjectPatch] | None, Field(alias="configPatches")] = (
        None
    )
    priority: int | None = None
    target_refs: Annotated[
        list[PolicyTargetReference] | None, Field(alias="targetRefs", max_length=16)
    ] = None
    workload_selector: Annotated[WorkloadSelector | None, Field(alias="workloadSelector")] = None


class EnvoyFilter(Manifest):
    api_version: Annotated[Literal["networking.istio.io/v1alpha3"], Field(alias="apiVersion")] = (
        "networking.istio.io/v1alpha3"
    )
    kind: Literal["EnvoyFilter"] = "EnvoyFilter"
    metadata: ObjectMeta
    spec: EnvoyFilterSpec
