"""Mistakes in rate limits."""

from __future__ import annotations

import copy
from collections.abc import Callable

from components.edge.rate_limits import LOCAL
from tests.lab.mutations.edge import patches, routes, without_routes
from tests.lab.mutations.mutation import Mutation, Object, Objects, named

_TEN_TIMES = {"max_tokens": 3000, "tokens_per_fill": 3000}


def _local(objects: Objects) -> list[Object]:
    return [
        one["typed_config"] for one in patches(objects, "edge-local-rate-limit", "HTTP_FILTER", 443)
    ]


def _higher(objects: Objects) -> None:
    for limit in _local(objects):
        for bucket in (limit, *limit["descriptors"]):
            bucket["token_bucket"] |= _TEN_TIMES


def _mask(prefix: str, length: int) -> Callable[[Objects], None]:
    def change(objects: Objects) -> None:
        for limit in _local(objects):
            for rates in limit["rate_limits"]:
                rates["actions"][0]["masked_remote_address"][prefix] = length

    return change


def _not_told(objects: Objects) -> None:
    for limit in _local(objects):
        limit["response_headers_to_add"] = [
            one for one in limit["response_headers_to_add"] if one["header"]["key"] != "retry-after"
        ]


def _any_origin(objects: Objects) -> None:
    for limit in _local(objects):
        limit["response_headers_to_add"].append(
            {"header": {"key": "access-control-allow-origin", "value": "*"}}
        )


def _tenant(action: Object, route: str) -> Callable[[Objects], None]:
    """The limit of a route is counted by something else than the tenant."""

    def change(objects: Objects) -> None:
        for value in routes(objects, "edge-global-rate-limit", route):
            for limit in value["typed_per_filter_config"].values():
                for rates in limit["rate_limits"]:
                    rates["actions"][-1] = copy.deepcopy(action)

    return change


def _lists_not_counted(objects: Objects) -> None:
    for value in routes(objects, "edge-global-rate-limit", "notification-service."):
        for limit in value["typed_per_filter_config"].values():
            for rates in limit["rate_limits"]:
                del rates["actions"][-1]["metadata"]["default_value"]


def _no_headers(objects: Objects) -> None:
    for value in patches(objects, "edge-global-rate-limit", "HTTP_FILTER"):
        del value["typed_config"]["enable_x_ratelimit_headers"]


def _websocket_higher(objects: Objects) -> None:
    """A route's own flood limit takes the place of the host's."""
    (limit,) = _local(objects)
    own = copy.deepcopy(limit)
    for bucket in (own, *own["descriptors"]):
        bucket["token_bucket"] |= _TEN_TIMES
    patch = copy.deepcopy(named(objects, "EnvoyFilter", "edge-stream-timeouts"))
    route = {"name": "conversation-service.ws.conversation.websocket"}
    patch["metadata"]["name"] = "debug-flood"
    patch["spec"]["configPatches"] = [
        {
            "applyTo": "HTTP_ROUTE",
            "match": {"context": "GATEWAY", "routeConfiguration": {"vhost": {"route": route}}},
            "patch": {
                "operation": "MERGE",
                "value": {"typed_per_filter_config": {LOCAL: own}},
            },
        }
    ]
    objects.append(patch)


def _few_tracked(objects: Objects) -> None:
    """Envoy's own default: 20."""
    for limit in _local(objects):
        del limit["max_dynamic_descriptors"]


_EACH_GATEWAYS = {
    "extension": {
        "name": "envoy.rate_limit_descriptors.expr",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.rate_limit_descriptors.expr.v3.Descriptor",
            "descriptor_key": "tenant",
            "text": "metadata.filter_metadata['envoy.filters.http.jwt_authn']['payload']"
            "['tenant_id'] + '@' + xds.node.id",
        },
    }
}
"""Counts each tenant at each gateway by itself."""
_ALL_TENANTS = {"generic_key": {"descriptor_key": "tenant", "descriptor_value": "all"}}
_BY_ADDRESS = {
    "request_headers": {"header_name": "x-forwarded-for", "descriptor_key": "tenant"},
}

MUTATIONS = (
    Mutation(
        "flood.few-tracked",
        "a gateway keeps count of as few addresses as Envoy does by itself",
        ("flood.others",),
        _few_tracked,
    ),
    Mutation(
        "limit.each-gateways",
        "each gateway counts a tenant's requests by itself",
        # Its expression fails for a list, which is then not counted.
        ("limit.tenant", "limit.list"),
        _tenant(_EACH_GATEWAYS, "notification-service."),
        # They send so much at once that it is refused all the same, but on a slow machine.
        may_fail=("limit.others", "limit.named-tenant"),
    ),
    Mutation(
        "limit.service-forgotten",
        "the routes of a service have no limit",
        ("limit.headers",),
        without_routes("edge-global-rate-limit", "rag-engine."),
    ),
    Mutation(
        "limit.cohort-forgotten",
        "the limit of WebSockets does not hold for a cohort",
        ("limit.headers.upgrades",),
        without_routes(
            "edge-global-rate-limit", "conversation-service.ws.conversation.websocket.canary-2"
        ),
    ),
    Mutation(
        "flood.higher",
        "an address is allowed ten times as much",
        ("flood.*", "outage.flood.*"),
        _higher,
    ),
    Mutation(
        "flood.by-network",
        "four neighbouring IPv4 clients are counted as one",
        ("flood.others",),
        _mask("v4_prefix_mask_len", 30),
    ),
    Mutation(
        "flood.by-whole-ipv6",
        "IPv6 clients are counted by their whole address",
        ("flood.ipv6",),
        _mask("v6_prefix_mask_len", 128),
    ),
    Mutation(
        "flood.websocket-higher",
        "a WebSocket's route has ten times the flood limit",
        ("flood.hosts",),
        _websocket_higher,
    ),
    Mutation(
        "flood.not-told",
        "a refused client is not told when to come again",
        ("flood.answer",),
        _not_told,
    ),
    Mutation(
        "flood.any-origin",
        "refusals by the flood limit are open to the scripts of any web site",
        ("flood.answer",),
        _any_origin,
    ),
    Mutation(
        "limit.by-address",
        "the limit of a route is counted by what X-Forwarded-For says, not by tenant",
        ("limit.tenant", "limit.others", "limit.named-tenant", "limit.list", "outage.back.*"),
        _tenant(_BY_ADDRESS, "notification-service."),
    ),
    Mutation(
        "limit.all-tenants",
        "all tenants share the limit of a route",
        ("limit.others",),
        _tenant(_ALL_TENANTS, "notification-service."),
    ),
    Mutation(
        "limit.list-forgotten",
        "what is no text as a tenant is not counted on the routes of a service",
        ("limit.list",),
        _lists_not_counted,
        # It counts nothing by the claim.
        apart_from=("limit.all-tenants",),
    ),
    Mutation(
        "limit.headers-off",
        "answers do not tell what is left of a limit",
        ("limit.headers*", "limit.route.*", "limit.upgrades"),
        _no_headers,
    ),
    Mutation(
        "limit.grpc-forgotten",
        "gRPC calls of a service have no limit",
        ("limit.grpc", "limit.headers.upgrades"),
        without_routes("edge-global-rate-limit", "identity-service.identity.v1."),
    ),
    Mutation(
        "limit.login-forgotten",
        "the login route has no limit",
        (
            *(
                "limit.login.*",
                "limit.headers",
                "outage.closed.*",
                "outage.hang.*",
                "drill.redis",
                "drill.limiter",
            ),
            # It counts what the limit of logins refuses.
            "metric.alerted",
        ),
        without_routes("edge-global-rate-limit", "identity-service.api.v1.auth."),
    ),
)
