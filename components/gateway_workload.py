"""The ingress gateway as others refer to it: its name, its pods' labels, its ports."""

from __future__ import annotations

GATEWAY = "istio-ingressgateway"
"""Name of the release, the Deployment and the service account."""
GATEWAY_SELECTOR = {"istio": "ingressgateway"}
"""What Gateways, policies and EnvoyFilters select the pods by."""
GATEWAY_LABELS = {"app": GATEWAY, **GATEWAY_SELECTOR}
HTTP_PORT, HTTPS_PORT, EAST_WEST_PORT = 80, 443, 15443
"""Ports the pods listen on, which are those that policies match."""
