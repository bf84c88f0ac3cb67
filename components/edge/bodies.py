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

    The media types are Envoy's own choice (JSON, text, XML, SVG, scripts); event streams and gRPC
    are not among them, and to name others is deprecated. On streaming, WebSocket and gRPC routes
    it is off whatever the media type: what comes there piece by piece (JSON lines, say) must leave
    piece by piece, and not wait in the compressor until there is enough of it.
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
            ),
            # Or a strong ETag is removed, and with it every conditional request.
            weaken_etag_on_compress=True,
        ),
    )
    patches = [filter_before_router(COMPRESSOR, gzip)]
    for route in routes:
        if route.kind != "unary":
            patches += route_filter(route.names, COMPRESSOR, CompressorPerRoute(disabled=True))
    return envoy_filter("edge-compression", namespace, COMPRESSION, patches)
