"""EnvoyFilters of the gateway: how a patch is addressed and in which order patches are applied.

Every patch is anchored on the HTTP connection manager, on the router filter or on a route's name,
none on a proxy version: those are there in every release of Istio.
Source: https://istio.io/latest/docs/reference/config/networking/envoy-filter/
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from components.envoy import fields, named, typed_config
from components.gateway_workload import GATEWAY_SELECTOR
from components.istio.envoy_filter import (
    EnvoyConfigObjectMatch,
    EnvoyConfigObjectPatch,
    EnvoyFilter,
    EnvoyFilterSpec,
    ListenerMatch,
    ListenerMatchFilterChainMatch,
    ListenerMatchFilterMatch,
    ListenerMatchSubFilterMatch,
    Patch,
    RouteConfigurationMatch,
    RouteConfigurationMatchRouteMatch,
    RouteConfigurationMatchVirtualHostMatch,
)
from components.istio.sidecar import WorkloadSelector
from components.objects import NO_OTHER_API, Manifest
from components.wire import ObjectMeta

if TYPE_CHECKING:
    from betterproto2 import Message

_CONNECTION_MANAGER = "envoy.filters.network.http_connection_manager"
_ROUTER = "envoy.filters.http.router"


class Priority(NamedTuple):
    """When istiod applies an EnvoyFilter; each one applied later stands nearer to its anchor."""

    value: int


# Placed first in the chain, so the one applied last is the outermost: headers, flood limit, agents.
DENIED_USER_AGENTS = Priority(10)
LOCAL_RATE_LIMIT = Priority(20)
RESPONSE_HEADERS = Priority(30)
# Placed before the router, so the one applied last is the innermost: body, global limit, gzip.
# The body must come first: while the limit is asked for, Envoy stops reading at the size of the
# connection's buffer, and a body limit that is raised after that may not start it again.
BODY_LIMIT = Priority(40)
GLOBAL_RATE_LIMIT = Priority(50)
COMPRESSION = Priority(60)
# Only routes, no filter of their own.
STREAM_TIMEOUTS = Priority(70)


def envoy_filter(
    name: str, namespace: str, priority: Priority, patches: Iterable[EnvoyConfigObjectPatch]
) -> Manifest:
    """An EnvoyFilter for the gateway's pods alone."""
    return EnvoyFilter(
        metadata=ObjectMeta(annotations=dict(NO_OTHER_API), name=name, namespace=namespace),
        spec=EnvoyFilterSpec(
            workload_selector=WorkloadSelector(labels=dict(GATEWAY_SELECTOR)),
            priority=priority.value,
            config_patches=list(patches),
        ),
    ).manifest()


def connection_manager(
    config: Message, ports: Sequence[int] | None = None
) -> list[EnvoyConfigObjectPatch]:
    """Merges fields into the HTTP connection managers of these ports; by default of all."""
    patch = Patch(operation="MERGE", value=named(_CONNECTION_MANAGER, config))
    return _on_ports("NETWORK_FILTER", patch, ports)


def first_filter(
    name: str, config: Message, ports: Sequence[int] | None = None
) -> list[EnvoyConfigObjectPatch]:
    """Puts an HTTP filter before all others: before tokens are verified and policies looked at.

    Args:
        ports: the gateway's ports that get it; by default all.
    """
    patch = Patch(operation="INSERT_FIRST", value=named(name, config))
    return _on_ports("HTTP_FILTER", patch, ports)


def filter_before_router(
    name: str, config: Message, *, disabled: bool = False
) -> EnvoyConfigObjectPatch:
    """Puts an HTTP filter right before the router: after tokens are verified and policies passed.

    Args:
        disabled: the filter works only on routes that have a configuration for it.
    """
    anchor = ListenerMatchFilterMatch(
        name=_CONNECTION_MANAGER, sub_filter=ListenerMatchSubFilterMatch(name=_ROUTER)
    )
    value = named(name, config) | ({"disabled": True} if disabled else {})
    return EnvoyConfigObjectPatch(
        apply_to="HTTP_FILTER",
        match=_in_chain(anchor, None),
        patch=Patch(operation="INSERT_BEFORE", value=value),
    )


def route_filter(
    names: Sequence[str], filter_name: str, config: Message
) -> list[EnvoyConfigObjectPatch]:
    """Gives the HTTP routes of these names a configuration of their own for one filter."""
    return _routes(names, {"typed_per_filter_config": {filter_name: typed_config(config)}})


def route_action(names: Sequence[str], action: Message) -> list[EnvoyConfigObjectPatch]:
    """Merges fields into the action of the HTTP routes of these names."""
    return _routes(names, {"route": fields(action)})


def _on_ports(
    applies_to: Literal["NETWORK_FILTER", "HTTP_FILTER"],
    patch: Patch,
    ports: Sequence[int] | None,
) -> list[EnvoyConfigObjectPatch]:
    anchor = ListenerMatchFilterMatch(name=_CONNECTION_MANAGER)
    return [
        EnvoyConfigObjectPatch(apply_to=applies_to, match=_in_chain(anchor, port), patch=patch)
        for port in ports or (None,)
    ]


def _in_chain(anchor: ListenerMatchFilterMatch, port: int | None) -> EnvoyConfigObjectMatch:
    return EnvoyConfigObjectMatch(
        context="GATEWAY",
        listener=ListenerMatch(
            port_number=port, filter_chain=ListenerMatchFilterChainMatch(filter=anchor)
        ),
    )


def _routes(names: Sequence[str], value: dict[str, Any]) -> list[EnvoyConfigObjectPatch]:
    return [
        EnvoyConfigObjectPatch(
            apply_to="HTTP_ROUTE",
            match=EnvoyConfigObjectMatch(
                context="GATEWAY",
                route_configuration=RouteConfigurationMatch(
                    vhost=RouteConfigurationMatchVirtualHostMatch(
                        route=RouteConfigurationMatchRouteMatch(name=name)
                    )
                ),
            ),
            patch=Patch(operation="MERGE", value=value),
        )
        for name in names
    ]
