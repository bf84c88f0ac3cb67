"""Wire types: VirtualService.

Generated from the CRDs of istio.io/api v1.31.1; do not edit. Regenerate with `python -m schema`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from components.wire import Manifest, Message, Number, ObjectMeta, PositiveDuration


class StringMatch(Message):
    at_most_one = (("exact", "prefix", "regex"),)

    exact: str | None = None
    prefix: str | None = None
    regex: str | None = None


class CorsPolicy(Message):
    allow_credentials: Annotated[bool | None, Field(alias="allowCredentials")] = None
    allow_headers: Annotated[list[str] | None, Field(alias="allowHeaders")] = None
    allow_methods: Annotated[list[str] | None, Field(alias="allowMethods")] = None
    allow_origins: Annotated[list[StringMatch] | None, Field(alias="allowOrigins")] = None
    expose_headers: Annotated[list[str] | None, Field(alias="exposeHeaders")] = None
    max_age: Annotated[PositiveDuration | None, Field(alias="maxAge")] = None
    unmatched_preflights: Annotated[
        Literal["UNSPECIFIED", "FORWARD", "IGNORE"] | None, Field(alias="unmatchedPreflights")
    ] = None


class Delegate(Message):
    name: str | None = None
    namespace: str | None = None


class HTTPBody(Message):
    at_most_one = (("string", "bytes"),)

    bytes: str | None = None
    string: str | None = None


class HTTPDirectResponse(Message):
    body: HTTPBody | None = None
    status: Annotated[int, Field(ge=0, le=4294967295)]


class Percent(Message):
    value: Number | None = None


class HTTPFaultInjectionAbort(Message):
    at_most_one = (("http_status", "grpc_status", "http2_error"),)

    grpc_status: Annotated[str | None, Field(alias="grpcStatus")] = None
    http2_error: Annotated[str | None, Field(alias="http2Error")] = None
    http_status: Annotated[int | None, Field(alias="httpStatus")] = None
    percentage: Percent | None = None


class HTTPFaultInjectionDelay(Message):
    at_most_one = (("fixed_delay", "exponential_delay"),)

    exponential_delay: Annotated[PositiveDuration | None, Field(alias="exponentialDelay")] = None
    fixed_delay: Annotated[PositiveDuration | None, Field(alias="fixedDelay")] = None
    percentage: Percent | None = None


class HTTPFaultInjection(Message):
    abort: HTTPFaultInjectionAbort | None = None
    delay: HTTPFaultInjectionDelay | None = None


class HeadersHeaderOperations(Message):
    add: dict[str, str] | None = None
    remove: list[str] | None = None
    set: dict[str, str] | None = None


class Headers(Message):
    request: HeadersHeaderOperations | None = None
    response: HeadersHeaderOperations | None = None


class HTTPMatchRequest(Message):
    authority: StringMatch | None = None
    gateways: list[str] | None = None
    headers: dict[str, StringMatch] | None = None
    ignore_uri_case: Annotated[bool | None, Field(alias="ignoreUriCase")] = None
    method: StringMatch | None = None
    name: str | None = None
    port: Annotated[int | None, Field(ge=0, le=4294967295)] = None
    query_params: Annotated[dict[str, StringMatch] | None, Field(alias="queryParams")] = None
    scheme: StringMatch | None = None
    source_labels: Annotated[dict[str, str] | None, Field(alias="sourceLabels")] = None
    source_namespace: Annotated[str | None, Field(alias="sourceNamespace")] = None
    stat_prefix: Annotated[str | None, Field(alias="statPrefix")] = None
    uri: StringMatch | None = None
    without_headers: Annotated[dict[str, StringMatch] | None, Field(alias="withoutHeaders")] = None


class PortSelector(Message):
    number: Annotated[int | None, Field(ge=0, le=4294967295)] = None


class Destination(Message):
    host: str
    port: PortSelector | None = None
    subset: str | None = None


class HTTPMirrorPolicy(Message):
    destination: Destination
    percentage: Percent | None = None


class HTTPRedirect(Message):
    at_most_one = (("port", "derive_port"),)

    authority: str | None = None
    derive_port: Annotated[
        Literal["FROM_PROTOCOL_DEFAULT", "FROM_REQUEST_PORT"] | None, Field(alias="derivePort")
    ] = None
    port: Annotated[int | None, Field(ge=0, le=4294967295)] = None
    prefix_rewrite: Annotated[str | None, Field(alias="prefixRewrite")] = None
    redirect_code: Annotated[int | None, Field(alias="redirectCode", ge=0, le=4294967295)] = None
    scheme: str | None = None
    uri: str | None = None


class HTTPRetry(Message):
    attempts: int | None = None
    backoff: PositiveDuration | None = None
    per_try_timeout: Annotated[PositiveDuration | None, Field(alias="perTryTimeout")] = None
    retry_ignore_previous_hosts: Annotated[bool | None, Field(alias="retryIgnorePreviousHosts")] = (
        None
    )
    retry_on: Annotated[str | None, Field(alias="retryOn")] = None
    retry_remote_localities: Annotated[bool | None, Field(alias="retryRemoteLocalities")] = None


class RegexRewrite(Message):
    match: str | None = None
    rewrite: str | None = None


class HTTPRewrite(Message):
    authority: str | None = None
    uri: str | None = None
    uri_regex_rewrite: Annotated[RegexRewrite | None, Field(alias="uriRegexRewrite")] = None


class HTTPRouteDestination(Message):
    destination: Destination
    headers: Headers | None = None
    weight: int | None = None


class HTTPRoute(Message):
    cors_policy: Annotated[CorsPolicy | None, Field(alias="corsPolicy")] = None
    delegate: Delegate | None = None
    direct_response: Annotated[HTTPDirectResponse | None, Field(alias="directResponse")] = None
    fault: HTTPFaultInjection | None = None
    headers: Headers | None = None
    match: list[HTTPMatchRequest] | None = None
    mirror: Destination | None = None
    mirror_percentage: Annotated[Percent | None, Field(alias="mirrorPercentage")] = None
    mirrors: list[HTTPMirrorPolicy] | None = None
    name: str | None = None
    redirect: HTTPRedirect | None = None
    retries: HTTPRetry | None = None
    rewrite: HTTPRewrite | None = None
    route: list[HTTPRouteDestination] | None = None
    timeout: PositiveDuration | None = None


class L4MatchAttributes(Message):
    destination_subnets: Annotated[list[str] | None, Field(alias="destinationSubnets")] = None
    gateways: list[str] | None = None
    port: Annotated[int | None, Field(ge=0, le=4294967295)] = None
    source_labels: Annotated[dict[str, str] | None, Field(alias="sourceLabels")] = None
    source_namespace: Annotated[str | None, Field(alias="sourceNamespace")] = None
    source_subnet: Annotated[str | None, Field(alias="sourceSubnet")] = None


class RouteDestination(Message):
    destination: Destination
    weight: int | None = None


class TCPRoute(Message):
    match: list[L4MatchAttributes] | None = None
    route: list[RouteDestination] | None = None


class TLSMatchAttributes(Message):
    destination_subnets: Annotated[list[str] | None, Field(alias="destinationSubnets")] = None
    gateways: list[str] | None = None
    port: Annotated[int | None, Field(ge=0, le=4294967295)] = None
    sni_hosts: Annotated[list[str], Field(alias="sniHosts")]
    source_labels: Annotated[dict[str, str] | None, Field(alias="sourceLabels")] = None
    source_namespace: Annotated[str | None, Field(alias="sourceNamespace")] = None


class TLSRoute(Message):
    match: list[TLSMatchAttributes]
    route: list[RouteDestination] | None = None


class VirtualServiceSpec(Message):
    export_to: Annotated[list[str] | None, Field(alias="exportTo")] = None
    gateways: list[str] | None = None
    hosts: list[str] | None = None
    http: list[HTTPRoute] | None = None
    tcp: list[TCPRoute] | None = None
    tls: list[TLSRoute] | None = None


class VirtualService(Manifest):
    api_version: Annotated[Literal["networking.istio.io/v1"], Field(alias="apiVersion")] = (
        "networking.istio.io/v1"
    )
    kind: Literal["VirtualService"] = "VirtualService"
    metadata: ObjectMeta
    spec: VirtualServiceSpec
