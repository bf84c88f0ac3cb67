"""Streams and WebSockets may be idle; how long they may last has a limit all the same.

The limit on idle requests itself is Istio's own setting (`components/gateway_proxy.py`).
Source: https://www.envoyproxy.io/docs/envoy/latest/faq/configuration/timeouts
"""

from __future__ import annotations

from datetime import timedelta

from components.edge.patches import STREAM_TIMEOUTS, envoy_filter, route_action
from components.edge.routes import GatewayRoute
from components.objects import Manifest
from model.values import seconds


def stream_timeouts(namespace: str, routes: tuple[GatewayRoute, ...]) -> Manifest:
    """The EnvoyFilter that spares long exchanges the idle limit and ends them at their own.

    The timeout of a VirtualService starts when the request has ended. That of a WebSocket, or of
    audio that is being sent, has not, so a longest duration is needed. A route that has one has no
    timeout any more for Envoy; so where nobody asked for an event stream, the time for a try takes
    its place: until the answer begins. (It allows no further tries.)
    """
    from envoy_data_plane.envoy.config.route.v3 import (
        RetryPolicy,
        RouteAction,
        RouteActionMaxStreamDuration,
    )

    patches = []
    for route in routes:
        if route.longest:
            longest = timedelta(seconds=float(seconds(route.longest)))
            action = RouteAction(
                idle_timeout=timedelta(0),
                max_stream_duration=RouteActionMaxStreamDuration(max_stream_duration=longest),
            )
            patches += route_action(route.names, action)
        if route.begun:
            within = timedelta(seconds=float(seconds(route.begun_within)))
            action = RouteAction(retry_policy=RetryPolicy(per_try_timeout=within))
            patches += route_action(route.begun, action)
    return envoy_filter("edge-stream-timeouts", namespace, STREAM_TIMEOUTS, patches)
