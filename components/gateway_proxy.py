"""How the gateway's own proxies take connections: Istio's ProxyConfig, on the gateway's pods alone.

In meshConfig the same fields would hold for every sidecar as well, so they go into the annotation
`proxy.istio.io/config` of the gateway's pods; a change of it replaces the pods.
Source: https://istio.io/latest/docs/reference/config/istio.mesh.v1alpha1/#ProxyConfig
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from components.camel import CamelMessage
from components.mesh_config import GatewayTopology
from model.settings import Edge
from model.values import seconds

_CONNECTION_BUFFER = 32_768
"""Bytes that one connection may keep in memory; Envoy's advice for proxies that face the internet.

Source: https://www.envoyproxy.io/docs/envoy/latest/configuration/best_practices/edge
"""


class ConnectionSettings(CamelMessage):
    """Limits of client connections.

    No `profile`: EDGE would also answer an escaped slash with a redirect, where meshConfig decodes
    it, and end every request that takes more than five minutes to send.
    """

    listener_per_connection_buffer_limit_bytes: int
    http_idle_timeout: str
    """A connection without any request is closed after this."""
    http_stream_idle_timeout: str
    """A request in which nothing moves is ended after this; routes may have another."""
    http_request_headers_timeout: str
    http_max_concurrent_streams: int
    http2_initial_stream_window_size: int = Field(alias="http2InitialStreamWindowSize")
    http2_initial_connection_window_size: int = Field(alias="http2InitialConnectionWindowSize")
    http_headers_with_underscores_action: Literal["HEADERS_WITH_UNDERSCORES_REJECT_REQUEST"] = (
        "HEADERS_WITH_UNDERSCORES_REJECT_REQUEST"
    )
    """Many application servers take x_tenant_id for x-tenant-id, which only a token may set."""


class ServerHeader(CamelMessage):
    """The response header `server`."""

    disabled: Literal[True] = True
    """The gateway writes none of its own; that of a service is removed with the other headers."""


class ProxyHeaders(CamelMessage):
    """Headers that the proxy adds by itself."""

    server: ServerHeader = ServerHeader()


class GatewayProxyConfig(CamelMessage):
    """The fields of ProxyConfig that the gateway's pods have for themselves."""

    gateway_topology: GatewayTopology
    connection_settings: ConnectionSettings
    proxy_headers: ProxyHeaders = ProxyHeaders()


def gateway_proxy_config(edge: Edge, topology: GatewayTopology) -> dict[str, Any]:
    """The gateway's ProxyConfig as its pods' annotation has it."""
    config = GatewayProxyConfig(
        gateway_topology=topology,
        connection_settings=ConnectionSettings(
            listener_per_connection_buffer_limit_bytes=_CONNECTION_BUFFER,
            http_idle_timeout=_protobuf(edge.connection_idle),
            http_stream_idle_timeout=_protobuf(edge.stream_idle),
            http_request_headers_timeout=_protobuf(edge.request_headers),
            http_max_concurrent_streams=edge.http2.max_concurrent_streams,
            http2_initial_stream_window_size=edge.http2.initial_stream_window,
            http2_initial_connection_window_size=edge.http2.initial_connection_window,
        ),
    )
    return config.model_dump(mode="json")


def _protobuf(duration: str) -> str:
    """A duration as protobuf's JSON has it: seconds only."""
    return f"{seconds(duration).normalize():f}s"
