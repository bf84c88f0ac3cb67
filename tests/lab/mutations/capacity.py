"""Mistakes in pools, load balancing, outlier detection, allowances and connections."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import yaml

from tests.lab.mutations.edge import routes, without_routes
from tests.lab.mutations.mutation import Mutation, Object, Objects, named, of_kind, without


def _policy(objects: Objects, service: str) -> Object:
    policy: Object = named(objects, "DestinationRule", service)["spec"]["trafficPolicy"]
    return policy


def _no_default(objects: Objects) -> Objects:
    return without(objects, named(objects, "AuthorizationPolicy", "deny-all"))


def _anyone_asks(objects: Objects) -> None:
    for rule in named(objects, "AuthorizationPolicy", "ratelimit-gateway")["spec"]["rules"]:
        del rule["from"]


def _larger_pool(objects: Objects) -> None:
    _policy(objects, "indexing-service")["connectionPool"]["http"]["http1MaxPendingRequests"] = 1024


def _larger_shared_pool(objects: Objects) -> None:
    _policy(objects, "ai-orchestrator")["connectionPool"]["http"]["http2MaxRequests"] = 1000


def _another_header(objects: Objects) -> None:
    _policy(objects, "voice-engine")["loadBalancer"]["consistentHash"] = {
        "httpHeaderName": "x-request-id"
    }


def _one_for_all(objects: Objects) -> None:
    _policy(objects, "notification-service")["loadBalancer"] = {
        "consistentHash": {"useSourceIp": True},
        "localityLbSetting": {"enabled": False},
    }


def _same_instance(objects: Objects) -> None:
    """Hashing leads a repeated request to where it failed."""
    for route in named(objects, "VirtualService", "voice-engine")["spec"]["http"]:
        if route["retries"]["attempts"]:
            del route["retries"]["retryIgnorePreviousHosts"]


def _by_chance(objects: Objects) -> None:
    _policy(objects, "multimodal-engine")["loadBalancer"]["simple"] = "RANDOM"


def _own_zone(objects: Objects) -> None:
    """Istio's own default, wherever there is outlier detection."""
    del _policy(objects, "multimodal-engine")["loadBalancer"]["localityLbSetting"]


def _half_and_half(objects: Objects) -> None:
    for share in _policy(objects, "ai-orchestrator")["loadBalancer"]["localityLbSetting"][
        "distribute"
    ]:
        share["to"] = dict.fromkeys(share["to"], 50)


def _kept_for_application(objects: Objects) -> None:
    for one in of_kind(objects, "Sidecar"):
        one["spec"].pop("inboundConnectionPool", None)


def _outliers(service: str, **changes: Any) -> Callable[[Objects], None]:
    def change(objects: Objects) -> None:
        _policy(objects, service)["outlierDetection"].update(changes)

    return change


def _another_routes_limit(objects: Objects) -> None:
    """Requests of one route are counted under another's name."""
    for value in routes(objects, "edge-global-rate-limit", "multimodal-engine."):
        for limit in value["typed_per_filter_config"].values():
            for rates in limit["rate_limits"]:
                rates["actions"][0]["generic_key"]["descriptor_value"] = "/api/v1/rag"


def _limited_port(objects: Objects) -> None:
    patches = named(objects, "EnvoyFilter", "edge-local-rate-limit")["spec"]["configPatches"]
    limited = copy.deepcopy(patches[0])
    limited["match"]["listener"]["portNumber"] = 15443
    patches.append(limited)


def _connections(**changes: Any) -> Callable[[Objects], None]:
    """The gateway's pods are started with other settings of connections."""
    return _gateway_proxy(lambda config: config["connectionSettings"].update(changes))


def _gateway_proxy(change_config: Callable[[dict[str, Any]], None]) -> Callable[[Objects], None]:
    def change(objects: Objects) -> None:
        deployment = named(objects, "Deployment", "istio-ingressgateway")
        annotations = deployment["spec"]["template"]["metadata"]["annotations"]
        config = yaml.safe_load(annotations["proxy.istio.io/config"])
        change_config(config)
        annotations["proxy.istio.io/config"] = yaml.safe_dump(config)

    return change


MUTATIONS = (
    Mutation(
        "access.no-default",
        "what no policy allows is not denied",
        ("access.newcomer",),
        _no_default,
    ),
    Mutation(
        "access.rate-limit-open",
        "every workload of the mesh may ask the rate-limit service",
        ("access.rate-limit",),
        _anyone_asks,
    ),
    Mutation(
        "pool.larger",
        "more requests may wait for a connection to a service than declared",
        ("pool.indexing-service",),
        _larger_pool,
    ),
    Mutation(
        "pool.larger-shared",
        "more requests may be under way over a service's shared connections than declared",
        ("pool.ai-orchestrator",),
        _larger_shared_pool,
    ),
    Mutation(
        "balance.another-header",
        "consistent hashing looks at another header than the one declared",
        ("balance.hash", "balance.hash-gateways", "outlier.5xx"),
        _another_header,
    ),
    Mutation(
        "listener.late",
        "the gateway goes on for longer with connections of listeners that were replaced",
        ("listener.replaced",),
        _gateway_proxy(lambda config: config.update(drainDuration="45s")),
    ),
    Mutation(
        "retry.same-instance",
        "a request is repeated at the instance that failed",
        ("retry.elsewhere",),
        _same_instance,
        # Without the hash any repetition may meet another instance.
        apart_from=("balance.another-header",),
    ),
    Mutation(
        "balance.one-for-all",
        "a caller always meets the same instance of a service",
        ("balance.round-robin", "outlier.gateway"),
        _one_for_all,
    ),
    Mutation(
        "balance.by-chance",
        "instances are drawn by chance, busy or not",
        ("balance.busy",),
        _by_chance,
    ),
    Mutation(
        "balance.own-zone",
        "requests stay in the caller's zone though no preference is declared",
        ("balance.least-request", "balance.busy"),
        _own_zone,
    ),
    Mutation(
        "balance.half-and-half",
        "a locality preference gives each zone the same share",
        ("balance.locality",),
        _half_and_half,
    ),
    Mutation(
        "outlier.never",
        "an instance is taken out only after many more failures than declared",
        ("outlier.5xx",),
        _outliers("voice-engine", consecutive5xxErrors=20, consecutiveGatewayErrors=20),
    ),
    Mutation(
        "outlier.too-long",
        "an instance stays out ten times as long as declared",
        ("outlier.gateway",),
        _outliers("notification-service", baseEjectionTime="300s"),
    ),
    Mutation(
        "limit.another-routes",
        "requests of a route are counted under the name of another",
        ("limit.route.*", "limit.headers"),
        _another_routes_limit,
    ),
    Mutation(
        "limit.upgrades-forgotten",
        "WebSocket upgrades of a service have no limit",
        ("limit.upgrades", "limit.headers.upgrades"),
        without_routes("edge-global-rate-limit", "voice-engine.ws."),
    ),
    Mutation(
        "east-west.limited",
        "the flood limit holds on the east-west port as well",
        ("east-west.unlimited",),
        _limited_port,
    ),
    Mutation(
        "connection.idle-kept",
        "idle connections are kept for an hour",
        ("connection.idle",),
        _connections(httpIdleTimeout="3600s"),
    ),
    Mutation(
        "application.idle-kept",
        "a proxy keeps idle connections to its application until the application closes them",
        ("application.idle",),
        _kept_for_application,
    ),
    Mutation(
        "connection.headers-awaited",
        "clients may take a minute to send their headers",
        ("connection.headers",),
        _connections(httpRequestHeadersTimeout="60s"),
    ),
    Mutation(
        "connection.many-streams",
        "a connection carries ten times as many requests at once",
        ("connection.streams",),
        _connections(httpMaxConcurrentStreams=1000),
    ),
)
