"""Bodies: how large a request may be, which answers are compressed.

Source: https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/buffer_filter
"""

from __future__ import annotations

from components.edge.patches import (
    BODY_LIMIT,
    COMPRESSION,
    envoy_filter,
    filter_before_router,
    route_filter,
)
from components.edge.routes import GatewayRoute
from components.envoy import extension
from components.objects import Manifest
from model.settings import Bodies

BUFFER, COMPRESSOR = "voicemesh.body-limit", "voicemesh.gzip"
COMPRESSED = (
    "application/javascript",
    "application/json",
    "application/problem+json",
    "application/xml",
    "image/svg+xml",
    "text/css",
    "text/csv",
    "text/html",
    "text/plain",
    "text/xml",
)
"""Media types that are compressed. Event streams and gRPC are not among them: an event would wait
in the compressor until there is enough to compress."""


def body_limit(namespace: str, bodies: Bodies, routes: tuple[GatewayRoute, ...]) -> Manifest:
    """The EnvoyFilter that refuses large requests with 413, on unary routes alone.

    The filter waits for the whole request, which a stream never ends. So it is off, and a route
    has to turn it on: a route that nobody thought of is never broken by it.
    """
    from envoy_data_plane.envoy.extensions.filters.http.buffer.v3 import Buffer, BufferPerRoute

    patches = [filter_before_router(BUFFER, Buffer(max_request_bytes=bodies.limit), disabled=True)]
    for route in routes:
        if route.kind == "unary":
            limit = bodies.upload_limit if route.upload else bodies.limit
            patches += route_filter(
                route.names, BUFFER, BufferPerRoute(buffer=Buffer(max_request_bytes=limit))
            )
    return envoy_filter("edge-body-limit", namespace, BODY_LIMIT, patches)


def compression(namespace: str, smallest: int, routes: tuple[GatewayRoute, ...]) -> Manifest:
    """The EnvoyFilter that compresses text of `smallest` bytes and more.

    It is off on streaming, WebSocket and gRPC routes whatever the media type, since what comes
    there piece by piece (JSON lines, say) must leave piece by piece.
    """
    from envoy_data_plane.envoy.config.core.v3 import RuntimeFeatureFlag
    from envoy_data_plane.envoy.extensions.compression.gzip.compressor.v3 import Gzip
    from envoy_data_plane.envoy.extensions.filters.http.compressor.v3 import (
        Compressor,
        CompressorCommonDirectionConfig,
        CompressorPerRoute,
        CompressorResponseDirectionConfig,
    )

    gzip = Compressor(
        compressor_library=extension("gzip", Gzip()),
        response_direction_config=CompressorResponseDirectionConfig(
            common_config=CompressorCommonDirectionConfig(
                enabled=RuntimeFeatureFlag(default_value=True, runtime_key="voicemesh.gzip"),
                min_content_length=smallest,
                content_type=list(COMPRESSED),
            )
        ),
    )
    patches = [filter_before_router(COMPRESSOR, gzip)]
    for route in routes:
        if route.kind != "unary":
            patches += route_filter(route.names, COMPRESSOR, CompressorPerRoute(disabled=True))
    return envoy_filter("edge-compression", namespace, COMPRESSION, patches)
