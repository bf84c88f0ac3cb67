"""Global rate limits: which routes have which, by what they count, and how both sides name them.

The gateway sends descriptors made of these keys, and the rate-limit service finds the allowance
under the same keys; both are written from here.
Source: https://github.com/envoyproxy/ratelimit#configuration
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Literal, NamedTuple

from components.edge.routes import GatewayRoute
from model.settings import Allowance, RateLimits

DOMAIN = "voicemesh"
ROUTE, TENANT = "route", "tenant"
"""Descriptor keys of our own."""
ADDRESS = "masked_remote_address"
"""The key that Envoy's action for client addresses uses."""


class Limit(NamedTuple):
    """One allowance of one route."""

    counted_by: Literal["tenant", "address"]
    allowance: Allowance


class LimitedRoute(NamedTuple):
    """A route of the gateway with its global limits."""

    route: GatewayRoute
    limits: tuple[Limit, ...]
    closed: bool
    """True where requests are refused while the limits can't be asked for."""


def limited_routes(
    routes: Iterable[GatewayRoute], settings: RateLimits
) -> tuple[LimitedRoute, ...]:
    """The routes that have global limits; what is public and no login has the local one only."""
    return tuple(
        LimitedRoute(route, limits, route.prefix in settings.closed_on_failure)
        for route in routes
        if (limits := tuple(_limits(route, settings)))
    )


def descriptors(routes: Iterable[LimitedRoute]) -> dict[str, Any]:
    """The rate-limit service's configuration file."""
    return {
        "domain": DOMAIN,
        "descriptors": [
            {
                "key": ROUTE,
                "value": limited.route.prefix,
                "descriptors": [
                    {
                        "key": TENANT if limit.counted_by == "tenant" else ADDRESS,
                        "rate_limit": {
                            "unit": limit.allowance.unit,
                            "requests_per_unit": limit.allowance.requests,
                        },
                    }
                    for limit in limited.limits
                ],
            }
            for limited in routes
        ],
    }


def _limits(route: GatewayRoute, settings: RateLimits) -> Iterator[Limit]:
    if route.login:
        yield Limit("address", settings.login)
    if route.token:
        yield Limit("tenant", settings.routes.get(route.prefix, settings.per_tenant))
