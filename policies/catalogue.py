"""All policies: gathered from the modules of `policies.rules`, in the order in which docs list them."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

from policies.policy import Policy
from policies.rules import (
    allow,
    bounds,
    claims,
    client_tls,
    deny_by_default,
    destinations,
    envoy_filters,
    forwarding,
    gateway_api,
    gateways,
    guards,
    injection,
    injector,
    issuers,
    mesh_settings,
    mtls,
    network_policies,
    references,
    registry,
    routes,
    secrets,
    telemetry,
    tokens,
    trust,
)

SUBJECTS: tuple[ModuleType, ...] = (
    mtls,
    client_tls,
    deny_by_default,
    allow,
    tokens,
    issuers,
    claims,
    references,
    routes,
    forwarding,
    bounds,
    destinations,
    gateways,
    gateway_api,
    telemetry,
    envoy_filters,
    guards,
    injector,
    injection,
    network_policies,
    secrets,
    mesh_settings,
    trust,
    registry,
)


def policies_of(module: ModuleType) -> Iterator[Policy]:
    """The policies that a module defines, in its order."""
    return (value for value in vars(module).values() if isinstance(value, Policy))


POLICIES: tuple[Policy, ...] = tuple(p for subject in SUBJECTS for p in policies_of(subject))
"""Every policy there is."""

BY_ID = {policy.id: policy for policy in POLICIES}
