"""EnvoyFilters that still apply after an upgrade, and that weaken nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from policies.patches import anchors, patches, typed
from policies.policy import (
    Config,
    Finding,
    Object,
    Setting,
    Severity,
    namespace_of,
    object_policy,
    spec_of,
    stack_policy,
)
from policies.routing import HttpRoute, protocol_of, public_routes, seconds
from policies.stack import Stack

_ENVOY_FILTER = "https://istio.io/latest/docs/reference/config/networking/envoy-filter/"
_ANALYSIS = "https://istio.io/latest/docs/reference/config/analysis/"
_HTTP = "type.googleapis.com/envoy.extensions.filters.http."
_BUFFER, _RATE_LIMIT = f"{_HTTP}buffer.v3.Buffer", f"{_HTTP}ratelimit.v3.RateLimit"
_LOCAL_RATE_LIMIT = f"{_HTTP}local_ratelimit.v3.LocalRateLimit"
_RELATIVE = ("INSERT_BEFORE", "INSERT_AFTER")


@object_policy(
    "envoy-filter-anchored",
    "EnvoyFilter",
    title="EnvoyFilters find their place whatever else is there",
    severity=Severity.HIGH,
    codes=("IST0151", "IST0152", "IST0153", "IST0154", "IST0155"),
    text="A patch that stands before or after another filter names it, and the EnvoyFilter has a "
    "priority; none is bound to a proxy version. Otherwise the patch lands first in the chain, "
    "ahead of authentication, or is silently lost with the next upgrade.",
    remedy="Name subFilter envoy.filters.http.router, set priority, delete proxyVersion.",
    url=_ANALYSIS + "ist0151/",
)
def anchored(item: Object, _: Config) -> Iterator[Finding]:
    """Looks at each patch's operation and match."""
    for path, applies_to, match, patch in patches(item):
        operation = str(patch.get("operation"))
        if (match.get("proxy") or {}).get("proxyVersion"):
            yield Finding(item, f"{path}.match.proxy.proxyVersion", "it is lost with an upgrade")
        network, http = anchors(match)
        if operation in _RELATIVE:
            if not spec_of(item).get("priority"):
                message = f"{operation} without a priority may run before its anchor is there"
                yield Finding(item, "spec.priority", message)
            if (applies_to == "HTTP_FILTER" and not http) or (
                applies_to == "NETWORK_FILTER" and not network
            ):
                yield Finding(item, f"{path}.match", f"{operation} names no filter to stand by")
        if operation == "REPLACE" and applies_to not in ("HTTP_FILTER", "NETWORK_FILTER"):
            message = f"REPLACE does nothing for {applies_to}"
            yield Finding(item, f"{path}.patch.operation", message)
        if operation in ("ADD", "REMOVE") and applies_to in ("ROUTE_CONFIGURATION", "HTTP_ROUTE"):
            message = f"{operation} does nothing for {applies_to}"
            yield Finding(item, f"{path}.patch.operation", message)


@stack_policy(
    "streams-not-buffered",
    title="No body limit where something streams",
    severity=Severity.HIGH,
    text="The Buffer filter waits for the whole request. It is off on routes that carry "
    "WebSockets, gRPC or event streams: those to a gRPC port, with Accept: text/event-stream, or "
    "with a timeout as long as only streams have.",
    remedy="Insert the filter disabled and switch it on for unary routes only, by route name.",
    url="https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/buffer_filter",
    settings={
        "stream_timeout": Setting(
            "number",
            600,
            "A route with a timeout from this many seconds up is a stream.",
            minimum=1,
        )
    },
)
def streams_not_buffered(stack: Stack, config: Config) -> Iterator[Finding]:
    """Finds the filter, what is said for single routes, and the routes that stream."""
    inserted = [
        (item, path, patch)
        for item in stack.of("EnvoyFilter")
        for path, applies_to, _, patch in patches(item)
        if applies_to == "HTTP_FILTER" and typed(patch).get("@type") == _BUFFER
    ]
    if not inserted:
        return
    streams = [r for r in public_routes(stack) if _streams(stack, r, config["stream_timeout"])]
    for item, path, patch in inserted:
        value = patch.get("value") or {}
        name, off = str(value.get("name")), bool(value.get("disabled"))
        said = _per_route(stack, name)
        for route in streams:
            own = said.get(str(route.route.get("name")))
            if own is not None and not own[2].get("disabled"):
                message = f"route {route.named} streams and waits for whole requests"
                yield Finding(own[0], own[1], message)
            elif own is None and not off:
                message = f"it is on for route {route.named}, which streams"
                yield Finding(item, f"{path}.patch", message)


def _per_route(stack: Stack, name: str) -> dict[str, tuple[Object, str, Mapping[str, Any]]]:
    """What is said of a filter for single routes, by route name."""
    found = {}
    for item in stack.of("EnvoyFilter"):
        for path, applies_to, match, patch in patches(item):
            vhost = (match.get("routeConfiguration") or {}).get("vhost") or {}
            route = (vhost.get("route") or {}).get("name")
            own = ((patch.get("value") or {}).get("typed_per_filter_config") or {}).get(name)
            if applies_to == "HTTP_ROUTE" and route and own is not None:
                found[str(route)] = (item, f"{path}.patch.value", own)
    return found


def _streams(stack: Stack, route: HttpRoute, long: float) -> bool:
    limit = seconds(route.route.get("timeout"))
    if limit is not None and (limit == 0 or limit >= long):
        return True
    headers = [match.get("headers") or {} for match in route.matches]
    if any("text/event-stream" in str(h.get("accept", "")) for h in headers):
        return True
    for _, destination in route.destinations():
        service = stack.service_of(
            str(destination.get("host", "")), namespace_of(route.virtual_service)
        )
        for port in spec_of(stack.services.get(service or ("", ""), {})).get("ports") or ():
            if port.get("port") == (destination.get("port") or {}).get("number"):
                return protocol_of(port) == "grpc"
    return False


@stack_policy(
    "rate-limit-asks-service",
    title="Rate limits are asked of the rate-limit service, over gRPC",
    severity=Severity.HIGH,
    text="The cluster that the rate-limit filter asks is a Service whose port speaks gRPC. Redis, "
    "where that service counts, does not answer Envoy; every limit is then off, or every request "
    "refused.",
    remedy="Use the cluster outbound|port||host of the rate-limit service.",
    url="https://istio.io/latest/docs/tasks/policy-enforcement/rate-limit/",
)
def rate_limit_asks_service(stack: Stack, _: Config) -> Iterator[Finding]:
    """Follows the filter's cluster name to a Service port."""
    clusters = _added_clusters(stack)
    for item in stack.of("EnvoyFilter"):
        for path, _to, _match, patch in patches(item):
            limit = typed(patch)
            if limit.get("@type") != _RATE_LIMIT:
                continue
            for switch in ("filter_enabled", "filter_enforced"):
                value = (limit.get(switch) or {}).get("default_value")
                if value is not None and int(value.get("numerator") or 0) == 0:
                    message = "no request is limited"
                    yield Finding(item, f"{path}.patch.value.typed_config.{switch}", message)
            service = (limit.get("rate_limit_service") or {}).get("grpc_service") or {}
            cluster = str((service.get("envoy_grpc") or {}).get("cluster_name", ""))
            where = f"{path}.patch.value.typed_config.rate_limit_service"
            address = clusters.get(cluster) or _outbound(cluster)
            if address is None:
                yield Finding(item, where, f"nothing makes a cluster {cluster or '(none)'}")
                continue
            problem = _not_grpc(stack, *address)
            if problem:
                yield Finding(item, where, problem)


def _outbound(cluster: str) -> tuple[str, int] | None:
    parts = cluster.split("|")
    if len(parts) == 4 and parts[0] == "outbound" and parts[1].isdigit():
        return parts[3], int(parts[1])
    return None


def _added_clusters(stack: Stack) -> dict[str, tuple[str, int]]:
    """Address of each cluster that an EnvoyFilter adds."""
    found = {}
    for item in stack.of("EnvoyFilter"):
        for _, applies_to, _match, patch in patches(item):
            value = patch.get("value") or {}
            if applies_to != "CLUSTER" or patch.get("operation") != "ADD":
                continue
            for group in (value.get("load_assignment") or {}).get("endpoints") or ():
                for endpoint in group.get("lb_endpoints") or ():
                    address = ((endpoint.get("endpoint") or {}).get("address") or {}).get(
                        "socket_address"
                    ) or {}
                    found[str(value.get("name"))] = (
                        str(address.get("address", "")),
                        int(address.get("port_value", 0)),
                    )
    return found


def _not_grpc(stack: Stack, host: str, number: int) -> str | None:
    key = stack.service_of(host, stack.root_namespace)
    service = stack.services.get(key or ("", ""))
    if service is None:
        return f"there is no Service {host}" if stack.host_exists(host, "") is False else None
    for port in spec_of(service).get("ports") or ():
        if port.get("port") == number:
            speaks = protocol_of(port)
            return (
                None if speaks in ("grpc", "h2c", "http2") else f"{host}:{number} speaks {speaks}"
            )
    return f"{host} has no port {number}"


@object_policy(
    "local-limit-works",
    "EnvoyFilter",
    title="The local rate limit is on and remembers its clients",
    severity=Severity.HIGH,
    text="A local rate limit is enforced for all requests, and with a bucket for each client "
    "address it keeps count of more than Envoy's default of 20: the address that is forgotten "
    "starts with a full bucket again.",
    remedy="Set filter_enabled and filter_enforced to 100 and max_dynamic_descriptors to the "
    "number of clients expected at once.",
    url="https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/local_rate_limit_filter",
    settings={
        "clients": Setting("number", 1000, "Fewest addresses to keep count of.", minimum=21),
        "requests_per_second": Setting(
            "number", 1000, "Most requests a second that one bucket allows.", minimum=1
        ),
    },
)
def local_limit_works(item: Object, config: Config) -> Iterator[Finding]:
    """Looks at the filter's switches, buckets and memory."""
    for path, _, _match, patch in patches(item):
        limit, where = typed(patch), f"{path}.patch.value.typed_config"
        if limit.get("@type") != _LOCAL_RATE_LIMIT:
            continue
        for switch in ("filter_enabled", "filter_enforced"):
            share = ((limit.get(switch) or {}).get("default_value") or {}).get("numerator", 0)
            if share < 100:
                yield Finding(item, f"{where}.{switch}", f"it holds for {share} of 100 requests")
        descriptors = limit.get("descriptors") or ()
        dynamic = [d for d in descriptors if any("value" not in e for e in d.get("entries") or ())]
        remembered = limit.get("max_dynamic_descriptors", 20)
        if dynamic and remembered < config["clients"]:
            message = f"only {remembered} clients are kept count of"
            yield Finding(item, f"{where}.max_dynamic_descriptors", message)
        for bucket in [d.get("token_bucket") or {} for d in dynamic] or [
            limit.get("token_bucket") or {}
        ]:
            interval = seconds(bucket.get("fill_interval")) or 1
            rate = float(bucket.get("tokens_per_fill", 1)) / float(interval)
            if rate > config["requests_per_second"]:
                message = f"{rate:g} requests a second for one client limit nothing"
                yield Finding(item, f"{where}.token_bucket", message)
