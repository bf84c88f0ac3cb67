"""Mistakes that show when something is away: limits that can't be asked for, parts killed."""

from __future__ import annotations

import json
from collections.abc import Callable

from tests.lab.mutations.edge import patches
from tests.lab.mutations.mutation import Mutation, Object, Objects, named, of_kind

_APPS = "voiceassistant-dev"
_PATIENCE = "5s"
_LATE = "sleep 15; "
"""Longer than anything that was killed may be away."""


def _limits(objects: Objects, name: str) -> list[Object]:
    """The global limit's filters of a name."""
    found = patches(objects, "edge-global-rate-limit", "HTTP_FILTER")
    return [one["typed_config"] for one in found if one["name"].endswith(name)]


def _closed_let_through(objects: Objects) -> None:
    for one in _limits(objects, ".closed"):
        del one["failure_mode_deny"], one["status_on_error"]


def _open_refused(objects: Objects) -> None:
    for one in _limits(objects, ".open"):
        one["failure_mode_deny"] = True


def _patient(objects: Objects) -> None:
    for one in _limits(objects, ""):
        one["timeout"] = _PATIENCE
        one["rate_limit_service"]["grpc_service"]["timeout"] = _PATIENCE


def _ejected(objects: Objects) -> None:
    policy = named(objects, "DestinationRule", "ratelimit")["spec"]["trafficPolicy"]
    policy["outlierDetection"] = {
        "consecutive5xxErrors": 1,
        "interval": "0.5s",
        "baseEjectionTime": "300s",
        "maxEjectionPercent": 100,
    }


def _container(objects: Objects, deployment: str) -> Object:
    template = named(objects, "Deployment", deployment)["spec"]["template"]
    found: Object = template["spec"]["containers"][0]
    return found


def _late(deployment: str, program: str) -> Callable[[Objects], None]:
    """A program that waits before it starts."""

    def change(objects: Objects) -> None:
        # Its arguments, which may come with the injection, follow.
        command = ["sh", "-c", f'{_LATE}exec {program} "$0" "$@"']
        _container(objects, deployment)["command"] = command

    return change


def _late_redis(objects: Objects) -> None:
    container = _container(objects, "ratelimit-redis")
    container["command"][2] = f"{_LATE}{container['command'][2]}"


def _late_limiter(objects: Objects) -> None:
    container = _container(objects, "ratelimit")
    container["command"] = ["sh", "-c", f"{_LATE}exec ratelimit"]


def _not_repeated(objects: Objects) -> None:
    for name in ("identity-service", "identity-service-mesh"):
        for route in named(objects, "VirtualService", name)["spec"]["http"]:
            if "perTryTimeout" in route["retries"]:
                route["retries"] = {"attempts": 0}


def _canary(weight: int) -> Callable[[Objects], None]:
    """The canary of a service has another share of all requests, clients' and services'."""

    def change(objects: Objects) -> None:
        for one in of_kind(objects, "VirtualService"):
            if one["metadata"]["name"].startswith("identity-service"):
                for route in one["spec"]["http"]:
                    if len(route["route"]) > 1:
                        for destination in route["route"]:
                            of_canary = destination["destination"]["subset"] == "canary"
                            destination["weight"] = weight if of_canary else 100 - weight

    return change


def _one_gateway(objects: Objects) -> None:
    named(objects, "Deployment", "istio-ingressgateway")["spec"]["replicas"] = 1


def _short_certificates(objects: Objects) -> None:
    template = named(objects, "Deployment", "identity-service-v1")["spec"]["template"]
    config = {"proxyMetadata": {"SECRET_TTL": "8s"}}
    template["metadata"]["annotations"]["proxy.istio.io/config"] = json.dumps(config)


def _no_policies(objects: Objects) -> Objects:
    patch = {
        "applyTo": "HTTP_FILTER",
        "match": {
            "context": "SIDECAR_INBOUND",
            "listener": {
                "filterChain": {
                    "filter": {
                        "name": "envoy.filters.network.http_connection_manager",
                        "subFilter": {"name": "envoy.filters.http.rbac"},
                    }
                }
            },
        },
        "patch": {"operation": "REMOVE"},
    }
    made = {
        "apiVersion": "networking.istio.io/v1alpha3",
        "kind": "EnvoyFilter",
        "metadata": {"name": "debug-policies", "namespace": _APPS},
        "spec": {
            "workloadSelector": {"labels": {"app": "notification-service"}},
            "configPatches": [patch],
        },
    }
    return [*objects, made]


MUTATIONS = (
    Mutation(
        "outage.closed-let-through",
        "a route whose limits can't be asked for lets requests through that it must refuse",
        ("outage.closed.*", "outage.hang.*", "drill.redis", "drill.limiter"),
        _closed_let_through,
    ),
    Mutation(
        "outage.open-refused",
        "routes refuse requests when their limits can't be asked for",
        ("outage.open.*", "outage.hang.*", "drill.redis", "drill.limiter"),
        _open_refused,
    ),
    Mutation(
        "outage.patient",
        "the gateway waits five seconds for an answer about limits",
        ("outage.hang.service",),
        _patient,
    ),
    Mutation(
        "outage.ejected",
        "the only rate-limit service is taken out of load balancing after an error",
        ("outage.back.redis", "outage.hang.*", "drill.redis", "drill.limiter"),
        _ejected,
    ),
    Mutation(
        "drill.short-certificates",
        "certificates of a service last seconds, so that it needs istiod all the time",
        ("drill.istiod",),
        _short_certificates,
        # A connection that ends with a certificate says so before its last answer: the client of
        # this contract, which knows one way to end a connection only, does not read that answer.
        may_fail=("access.strangers.identity-service",),
    ),
    Mutation(
        "drill.no-policies",
        "a filter left from debugging takes the policies away from a service",
        (
            *("drill.istiod.back", "access.notification-service"),
            *("access.strangers.notification-service", "access.gateway.notification-service"),
        ),
        _no_policies,
    ),
    Mutation(
        "drill.late-redis",
        "Redis waits before it starts",
        ("drill.redis",),
        _late_redis,
    ),
    Mutation(
        "drill.late-limiter",
        "the rate-limit service waits before it starts",
        ("drill.limiter",),
        _late_limiter,
    ),
    Mutation(
        "drill.late-pod",
        "a service waits before it starts",
        ("drill.subset",),
        _late("identity-service-canary", "server"),
    ),
    Mutation(
        "drill.larger-canary",
        "a canary has more than half of all requests, which fail when its only pod is killed",
        ("drill.subset", "canary.identity-service*"),
        _canary(60),
        may_fail=("cohort.identity-service.others",),
    ),
    Mutation(
        "drill.no-canary",
        "a canary has no requests, so that nobody notices when its only pod is killed",
        ("drill.subset", "canary.identity-service*"),
        _canary(0),
    ),
    Mutation(
        "drill.not-repeated",
        "safe requests to a service are not repeated",
        ("drill.pod", "retry.safe", "retry.shares"),
        _not_repeated,
        # New certificates end connections, and requests on them are repeated.
        apart_from=("drill.short-certificates",),
    ),
    Mutation(
        "drill.one-gateway",
        "there is one gateway",
        ("drill.gateway",),
        _one_gateway,
    ),
    Mutation(
        "drill.late-gateway",
        "the gateway waits before it starts",
        ("drill.gateway.back",),
        _late("istio-ingressgateway", "pilot-agent"),
    ),
)
