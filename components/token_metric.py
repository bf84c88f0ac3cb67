"""A counter of the tokens that AI services' answers cost.

Telemetry can tag a metric but not make one; Istio's stats filter can, by a definition that only an
EnvoyFilter reaches. The counter's tags are in the service's Telemetry.
Source: https://istio.io/latest/docs/reference/config/proxy_extensions/stats/
"""

from __future__ import annotations

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
)
from components.istio.sidecar import WorkloadSelector
from components.objects import NO_OTHER_API, Manifest
from components.request_fields import TOKENS_HEADER
from components.wire import ObjectMeta
from model.service import Service

TOKENS = "ai_tokens_total"
"""Name in Istio's configuration; Prometheus sees it with `istio_` before it."""
_STATS_FILTER = "istio.stats"


def token_metric(service: Service, namespace: str) -> Manifest:
    """Counts the tokens in the service's answers, at the service's own proxy and so once."""
    anchor = ListenerMatchFilterMatch(
        name="envoy.filters.network.http_connection_manager",
        sub_filter=ListenerMatchSubFilterMatch(name=_STATS_FILTER),
    )
    return EnvoyFilter(
        metadata=ObjectMeta(
            annotations=dict(NO_OTHER_API), name=f"{service.name}-tokens", namespace=namespace
        ),
        spec=EnvoyFilterSpec(
            workload_selector=WorkloadSelector(labels={"app": service.name}),
            priority=10,
            config_patches=[
                EnvoyConfigObjectPatch(
                    apply_to="HTTP_FILTER",
                    match=EnvoyConfigObjectMatch(
                        context="SIDECAR_INBOUND",
                        listener=ListenerMatch(
                            filter_chain=ListenerMatchFilterChainMatch(filter=anchor)
                        ),
                    ),
                    patch=Patch(
                        operation="MERGE",
                        value={
                            "name": _STATS_FILTER,
                            "typed_config": {
                                # Istio's own message, in no published Python package.
                                "@type": "type.googleapis.com/stats.PluginConfig",
                                "definitions": [
                                    {
                                        "name": TOKENS,
                                        # A missing header makes this an error, which adds nothing.
                                        "value": f"int(response.headers['{TOKENS_HEADER}'])",
                                        "type": "COUNTER",
                                    }
                                ],
                            },
                        },
                    ),
                )
            ],
        ),
    ).manifest()
