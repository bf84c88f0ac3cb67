"""Clients that say they are a scanner are turned away before anything else is done for them."""

from __future__ import annotations

from components.edge.patches import DENIED_USER_AGENTS, envoy_filter, first_filter
from components.objects import Manifest

FILTER = "voicemesh.denied-user-agents"


def denied_user_agents(namespace: str, products: tuple[str, ...]) -> Manifest:
    """The EnvoyFilter that answers 403 where a product stands anywhere in User-Agent, in any case.

    An AuthorizationPolicy can't: it compares a header with a whole value, a prefix or a suffix.
    """
    from envoy_data_plane.envoy.config.rbac.v3 import (
        Permission,
        Policy,
        Principal,
        Rbac,
        RbacAction,
    )
    from envoy_data_plane.envoy.config.route.v3 import HeaderMatcher
    from envoy_data_plane.envoy.extensions.filters.http.rbac.v3 import Rbac as RbacFilter
    from envoy_data_plane.envoy.type.matcher.v3 import StringMatcher

    principals = [
        Principal(
            header=HeaderMatcher(
                name="user-agent",
                string_match=StringMatcher(contains=product.lower(), ignore_case=True),
            )
        )
        for product in products
    ]
    policy = Policy(permissions=[Permission(any=True)], principals=principals)
    config = RbacFilter(
        rules=Rbac(action=RbacAction.DENY, policies={"denied-user-agents": policy}),
        rules_stat_prefix="denied_user_agents_",
    )
    return envoy_filter(
        "edge-denied-user-agents", namespace, DENIED_USER_AGENTS, first_filter(FILTER, config)
    )
