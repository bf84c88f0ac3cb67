"""Headers of every response: security headers, no product names, the request's id.

Two places set them, and both overwrite, so an answer never has one twice. The header filter is the
outermost of the chain and sees whatever passes it: answers of services, redirects, refusals by
other filters. What Envoy answers before it has a filter chain (a malformed request, a header with
an underscore) only its local reply configuration reaches.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from components.edge.patches import (
    RESPONSE_HEADERS,
    connection_manager,
    envoy_filter,
    first_filter,
)
from components.gateway_workload import EAST_WEST_PORT, HTTP_PORT, HTTPS_PORT
from components.istio.envoy_filter import EnvoyConfigObjectPatch
from components.objects import Manifest
from model.settings import Edge
from model.values import seconds

if TYPE_CHECKING:
    from envoy_data_plane.envoy.config.core.v3 import HeaderValueOption
    from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
        HttpConnectionManager,
    )

FILTER = "voicemesh.response-headers"
REMOVED = ("server", "x-powered-by")
"""Response headers that name products; they help attackers only."""


def security_headers(edge: Edge, *, encrypted: bool) -> dict[str, str]:
    """Header by name.

    Args:
        encrypted: plain HTTP must not carry Strict-Transport-Security (RFC 6797, 7.2).
    """
    headers = {
        "x-frame-options": "DENY",
        "x-content-type-options": "nosniff",
        "content-security-policy": edge.content_security_policy,
        "referrer-policy": "no-referrer",
        # Answers of an API are no pages: what is none may use nothing of the browser.
        "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    }
    if encrypted:
        age = int(seconds(edge.hsts_max_age))
        headers["strict-transport-security"] = f"max-age={age}; includeSubDomains"
    return headers


def response_headers(namespace: str, edge: Edge, *, east_west: bool) -> Manifest:
    """The EnvoyFilter that sets and removes headers on every response of the gateway."""
    encrypted = (HTTPS_PORT, EAST_WEST_PORT) if east_west else (HTTPS_PORT,)
    patches = [
        *_patches(security_headers(edge, encrypted=False), (HTTP_PORT,)),
        *_patches(security_headers(edge, encrypted=True), encrypted),
    ]
    return envoy_filter("edge-response-headers", namespace, RESPONSE_HEADERS, patches)


def _patches(headers: dict[str, str], ports: tuple[int, ...]) -> Iterator[EnvoyConfigObjectPatch]:
    from envoy_data_plane.envoy.config.common.mutation_rules.v3 import HeaderMutation as Change
    from envoy_data_plane.envoy.extensions.filters.http.header_mutation.v3 import (
        HeaderMutation,
        Mutations,
    )

    added = options(headers)
    changes = [Change(append=header) for header in added]
    changes += [Change(remove=name) for name in REMOVED]
    mutations = HeaderMutation(mutations=Mutations(response_mutations=changes))
    yield from first_filter(FILTER, mutations, ports)
    yield from connection_manager(_before_any_filter(added), ports)


def _before_any_filter(headers: list[HeaderValueOption]) -> HttpConnectionManager:
    from envoy_data_plane.envoy.config.accesslog.v3 import (
        AccessLogFilter,
        ComparisonFilter,
        ComparisonFilterOp,
        StatusCodeFilter,
    )
    from envoy_data_plane.envoy.config.core.v3 import RuntimeUInt32
    from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
        HttpConnectionManager,
        LocalReplyConfig,
        ResponseMapper,
    )

    every_answer = AccessLogFilter(
        status_code_filter=StatusCodeFilter(
            comparison=ComparisonFilter(
                op=ComparisonFilterOp.GE,
                value=RuntimeUInt32(default_value=100, runtime_key="voicemesh.local_reply_from"),
            )
        )
    )
    return HttpConnectionManager(
        always_set_request_id_in_response=True,
        local_reply_config=LocalReplyConfig(
            mappers=[ResponseMapper(filter=every_answer, headers_to_add=headers)]
        ),
    )


def options(headers: dict[str, str]) -> list[HeaderValueOption]:
    """The headers as Envoy takes them; one that is there already is overwritten."""
    from envoy_data_plane.envoy.config.core.v3 import (
        HeaderValue,
        HeaderValueOption,
        HeaderValueOptionHeaderAppendAction,
    )

    return [
        HeaderValueOption(
            header=HeaderValue(key=name, value=value),
            append_action=HeaderValueOptionHeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD,
        )
        for name, value in headers.items()
    ]
