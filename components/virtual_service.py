"""The routes to one service: from the gateway by public host, and inside the mesh.

Source: https://istio.io/latest/docs/reference/config/networking/virtual-service/
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from decimal import ROUND_DOWN, Decimal
from typing import NamedTuple

from components.istio.virtual_service import (
    CorsPolicy,
    Destination,
    Headers,
    HeadersHeaderOperations,
    HTTPMatchRequest,
    HTTPRetry,
    HTTPRoute,
    HTTPRouteDestination,
    PortSelector,
    StringMatch,
    VirtualService,
    VirtualServiceSpec,
)
from components.objects import IGNORE_CHANGES, Manifest
from components.route_names import (
    Entry,
    Part,
    api_route_name,
    entries,
    grpc_route_name,
    split_names,
    websocket_route_name,
)
from components.wire import ObjectMeta
from model.service import Port, Service
from model.settings import Cohort, Cors, Split
from model.values import SAFE_METHODS, Method, seconds

_NEVER_HANDLED = "connect-failure,refused-stream,reset-before-request"
"""Failures of which Envoy knows that the service did not see the request.

Source: https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/router_filter
"""
CORS_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
CORS_REQUEST_HEADERS = [
    "authorization",
    "content-type",
    "x-request-id",
    "x-conversation-id",
    "x-session-id",
    "x-cohort",
]
CORS_EXPOSED_HEADERS = [
    "x-request-id",
    "x-ratelimit-limit",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
]


class Target(NamedTuple):
    """Where a route leads: a service's port, divided as the environment says."""

    service: Service
    namespace: str
    split: Split | None
    port: Port

    @property
    def host(self) -> str:
        """Full host name of the Service."""
        return f"{self.service.name}.{self.namespace}.svc.cluster.local"


def public_routes(
    service: Service,
    split: Split | None,
    *,
    namespace: str,
    hosts: tuple[str, str, str],
    gateways: Sequence[str],
    cors: Cors,
    claim_headers: Sequence[str],
) -> Iterator[Manifest]:
    """The service's VirtualServices at the gateway: one for each public host it is on.

    Args:
        hosts: for HTTP, WebSocket and gRPC, in this order.
        claim_headers: headers that only a verified token may set.
    """
    api, ws, grpc = hosts

    def virtual_service(suffix: str, host: str, routes: list[HTTPRoute]) -> Manifest:
        name = f"{service.name}{suffix}"
        return _virtual_service(name, namespace, [host], list(gateways), routes, split)

    def target(port: str) -> Target:
        return Target(service, namespace, split, service.port(port))

    if service.routes:
        routes = [
            http_route
            for route in service.routes
            for entry in entries(route)
            for http_route in _expanded(
                target(route.port),
                api_route_name(service, route, entry.part),
                [_match(uri, entry) for uri in _below(route.path)],
                part=entry.part,
                timeout=route.stream_timeout if entry.part == "stream" else None,
                cors=_cors_policy(cors, split),
                dropped=claim_headers if route.access == "public" else (),
            )
        ]
        yield virtual_service("", api, routes)
    if service.websockets:
        routes = [
            http_route
            for socket in service.websockets
            for http_route in _expanded(
                target(socket.port),
                websocket_route_name(service, socket),
                [HTTPMatchRequest(uri=uri) for uri in _below(socket.path)],
                part="stream",
                timeout=socket.timeout,
            )
        ]
        yield virtual_service("-ws", ws, routes)
    if service.grpc:
        routes = [
            http_route
            for one in service.grpc
            for http_route in _expanded(
                target(one.port),
                grpc_route_name(service, one),
                [HTTPMatchRequest(uri=StringMatch(prefix=f"/{one.name}/"))],
                part="write",
            )
        ]
        yield virtual_service("-grpc", grpc, routes)


def mesh_route(service: Service, split: Split | None, *, namespace: str) -> Manifest:
    """The VirtualService that other services' proxies use: same limits, any path."""
    routes = [
        http_route
        for port in service.ports
        if not port.metrics
        for entry in _mesh_entries(port)
        for http_route in _expanded(
            Target(service, namespace, split, port),
            f"{service.name}.mesh.{port.name}.{entry.part}",
            [HTTPMatchRequest(port=port.number, method=_method(entry.methods))],
            part=entry.part,
        )
    ]
    host = f"{service.name}.{namespace}.svc.cluster.local"
    return _virtual_service(f"{service.name}-mesh", namespace, [host], ["mesh"], routes, split)


def _mesh_entries(port: Port) -> tuple[Entry, ...]:
    rest = Entry("write", ())
    return (rest,) if port.protocol == "grpc" else (Entry("read", SAFE_METHODS), rest)


def _virtual_service(
    name: str,
    namespace: str,
    hosts: list[str],
    gateways: list[str],
    routes: list[HTTPRoute],
    split: Split | None,
) -> Manifest:
    controlled = split is not None and split.owner == "controller"
    annotations = {IGNORE_CHANGES: "spec.http[*].route[*].weight"} if controlled else None
    return VirtualService(
        metadata=ObjectMeta(name=name, namespace=namespace, annotations=annotations),
        spec=VirtualServiceSpec(hosts=hosts, gateways=gateways, http=routes),
    ).manifest()


def _expanded(
    target: Target,
    name: str,
    matches: list[HTTPMatchRequest],
    *,
    part: Part,
    timeout: str | None = None,
    cors: CorsPolicy | None = None,
    dropped: Iterable[str] = (),
) -> Iterator[HTTPRoute]:
    """One HTTP route for each cohort, then the weighted one for everybody else."""
    limit = timeout or target.service.timeout
    request = HeadersHeaderOperations(remove=list(dropped)) if dropped else None
    cohorts = target.split.cohorts if target.split else ()
    *cohort_names, rest = split_names(name, target.split)
    variants = [
        (one, [_marked(match, cohort) for match in matches], [_destination(target, cohort.subset)])
        for one, cohort in zip(cohort_names, cohorts, strict=True)
    ]
    for route_name, route_matches, destinations in [
        *variants,
        (rest, matches, _weighted(target)),
    ]:
        yield HTTPRoute(
            name=route_name,
            match=route_matches,
            route=destinations,
            timeout=limit,
            retries=_retries(target.service, part),
            cors_policy=cors,
            headers=Headers(request=request) if request else None,
        )


def _destination(
    target: Target, subset: str | None, weight: int | None = None
) -> HTTPRouteDestination:
    return HTTPRouteDestination(
        destination=Destination(
            host=target.host, subset=subset, port=PortSelector(number=target.port.number)
        ),
        weight=weight,
    )


def _weighted(target: Target) -> list[HTTPRouteDestination]:
    """The subsets by weight; a service with subsets and no split sends all to its first."""
    subsets = target.service.subsets
    if target.split is None:
        return [_destination(target, subsets[0].name if subsets else None)]
    return [_destination(target, subset, weight) for subset, weight in target.split.weights.items()]


def _retries(service: Service, part: Part) -> HTTPRetry:
    """Safe requests are repeated on gateway errors; others only if the service never saw them.

    Streams are never repeated, nor are writes to AI services: a second try would be paid for
    twice. No limit for each try of a write: it would cut a slow first try and not bring a second.
    With consistent hashing Istio by itself asks the same instance again, which may be the dead one.
    """
    if service.retries == 0 or part == "stream" or (service.ai and part == "write"):
        return HTTPRetry(attempts=0)
    if part == "write":
        return HTTPRetry(
            attempts=service.retries, retry_on=_NEVER_HANDLED, retry_ignore_previous_hosts=True
        )
    share = (seconds(service.timeout) / (service.retries + 1)).quantize(
        Decimal("0.001"), rounding=ROUND_DOWN
    )
    return HTTPRetry(
        attempts=service.retries,
        per_try_timeout=f"{share.normalize():f}s",
        retry_on=f"gateway-error,{_NEVER_HANDLED}",
        retry_ignore_previous_hosts=True,
    )


def _below(path: str) -> tuple[StringMatch, StringMatch]:
    """Matches whole segments: the path itself and what lies below it."""
    return StringMatch(exact=path), StringMatch(prefix=f"{path}/")


def _match(uri: StringMatch, entry: Entry) -> HTTPMatchRequest:
    event_stream = {"accept": StringMatch(regex=".*text/event-stream.*")}
    return HTTPMatchRequest(
        uri=uri,
        method=_method(entry.methods),
        headers=event_stream if entry.part == "stream" else None,
    )


def _method(methods: Sequence[Method]) -> StringMatch | None:
    match methods:
        case []:
            return None
        case [one]:
            return StringMatch(exact=one)
        case _:
            return StringMatch(regex="|".join(methods))


def _marked(match: HTTPMatchRequest, cohort: Cohort) -> HTTPMatchRequest:
    """The match, only for requests with the cohort's header or cookie."""
    if cohort.header:
        mark = {cohort.header: StringMatch(exact=cohort.value)}
    else:
        value = cohort.value.replace(".", r"\.")
        mark = {"cookie": StringMatch(regex=rf"(.*;\s*)?{cohort.cookie}={value}(\s*;.*)?")}
    return match.model_copy(update={"headers": {**(match.headers or {}), **mark}})


def _cors_policy(cors: Cors, split: Split | None) -> CorsPolicy | None:
    if not cors.allowed_origins:
        return None
    marks = (one.header.lower() for one in (split.cohorts if split else ()) if one.header)
    return CorsPolicy(
        allow_origins=[StringMatch(exact=origin) for origin in cors.allowed_origins],
        allow_methods=CORS_METHODS,
        allow_headers=list(dict.fromkeys((*CORS_REQUEST_HEADERS, *marks))),
        expose_headers=CORS_EXPOSED_HEADERS,
        allow_credentials=True,
        max_age=cors.max_age,
        # A preflight of a foreign origin ends at the gateway; services never see one.
        unmatched_preflights="IGNORE",
    )
