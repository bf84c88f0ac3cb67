"""Istio's meshConfig: what holds for every proxy of the mesh before any resource is read.

The control plane's chart gets it as a value, the lab's istiod as a file; it is the same data.
Source: https://istio.io/latest/docs/reference/config/istio.mesh.v1alpha1/
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from components.camel import CamelMessage
from components.request_fields import AI_HEADERS, identity_headers, verified_claim
from model.settings import Authentication, Settings
from model.values import seconds

ACCESS_LOG = "access-log"
"""Provider of the JSON access log."""
AUDIT_LOG = "audit-log"
"""Provider of the audit log: one line for each request that an AUDIT policy matches."""
TRACING = "otel"
METRICS = "prometheus"


class OutboundTrafficPolicy(CamelMessage):
    """What happens to a request to a host that the mesh does not know."""

    mode: Literal["REGISTRY_ONLY", "ALLOW_ANY"] = "REGISTRY_ONLY"


class PathNormalization(CamelMessage):
    """How a path is rewritten before any policy looks at it."""

    normalization: Literal["NONE", "BASE", "MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES"] = (
        "DECODE_AND_MERGE_SLASHES"
    )


class LabelSelectorRequirement(CamelMessage):
    """One condition on a namespace's labels."""

    key: str
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: tuple[str, ...] = ()


class LabelSelector(CamelMessage):
    """Namespaces that istiod looks at."""

    match_expressions: tuple[LabelSelectorRequirement, ...]


class LogFormat(CamelMessage):
    """Fields of a JSON log line: Envoy command operator by name."""

    labels: dict[str, str]


class EnvoyFileAccessLog(CamelMessage):
    """A log that each proxy writes to a file of its own; standard output by default."""

    path: str = "/dev/stdout"
    log_format: LogFormat
    omit_empty_values: bool = True


class OpenTelemetryTracing(CamelMessage):
    """A collector that takes spans over OTLP/gRPC."""

    service: str
    port: int = Field(ge=1, le=65535)


class Prometheus(CamelMessage):
    """Metrics for Prometheus to scrape; it has no settings."""


class ExtensionProvider(CamelMessage):
    """One named provider; exactly one of the kinds is given."""

    name: str
    envoy_file_access_log: EnvoyFileAccessLog | None = None
    opentelemetry: OpenTelemetryTracing | None = None
    prometheus: Prometheus | None = None


class DefaultProviders(CamelMessage):
    """Providers in force where no Telemetry says otherwise."""

    metrics: tuple[str, ...]
    tracing: tuple[str, ...]
    access_logging: tuple[str, ...]


class GatewayTopology(CamelMessage):
    """What stands between clients and the gateways. Sidecars do not read it."""

    num_trusted_proxies: int = Field(ge=0)


class ProxyStatsMatcher(CamelMessage):
    """Envoy statistics that proxies publish beyond Istio's own choice."""

    inclusion_regexps: tuple[str, ...]


class ProxyConfig(CamelMessage):
    """How each proxy runs."""

    hold_application_until_proxy_starts: bool = True
    drain_duration: str
    """How long connections of a replaced listener go on."""
    gateway_topology: GatewayTopology
    proxy_stats_matcher: ProxyStatsMatcher
    proxy_metadata: dict[str, str]


class MeshConfig(CamelMessage):
    """The fields of meshConfig that the stack sets."""

    root_namespace: str
    trust_domain: str
    enable_auto_mtls: bool = True
    outbound_traffic_policy: OutboundTrafficPolicy = OutboundTrafficPolicy()
    path_normalization: PathNormalization = PathNormalization()
    ingress_controller_mode: Literal["OFF"] = "OFF"
    """Kubernetes Ingress objects open nothing: the Gateway objects of the stack are the only way in."""
    access_log_file: str = ""
    """Empty: logs come from the providers below, chosen by Telemetry."""
    enable_prometheus_merge: bool = True
    """One scrape of port 15020 gives the proxy's and the application's metrics."""
    discovery_selectors: tuple[LabelSelector, ...]
    extension_providers: tuple[ExtensionProvider, ...]
    default_providers: DefaultProviders
    default_config: ProxyConfig


def mesh_config(settings: Settings) -> dict[str, Any]:
    """The stack's meshConfig as Istio reads it."""
    namespaces = settings.namespaces
    config = MeshConfig(
        root_namespace=namespaces.mesh,
        trust_domain=settings.control_plane.trust_domain,
        discovery_selectors=(
            # Kubernetes writes this label on every namespace, so none can be forgotten.
            LabelSelector(
                match_expressions=(
                    LabelSelectorRequirement(
                        key="kubernetes.io/metadata.name",
                        operator="In",
                        values=(namespaces.apps, namespaces.infra, namespaces.mesh),
                    ),
                )
            ),
        ),
        extension_providers=(
            _file_log(
                ACCESS_LOG,
                access_log_fields(settings.authentication, settings.control_plane.cluster),
            ),
            _file_log(
                AUDIT_LOG, audit_log_fields(settings.authentication, settings.control_plane.cluster)
            ),
            ExtensionProvider(
                name=TRACING,
                opentelemetry=OpenTelemetryTracing(
                    service=settings.telemetry.collector, port=settings.telemetry.collector_port
                ),
            ),
            ExtensionProvider(name=METRICS, prometheus=Prometheus()),
        ),
        default_providers=DefaultProviders(
            metrics=(METRICS,), tracing=(TRACING,), access_logging=(ACCESS_LOG,)
        ),
        default_config=ProxyConfig(
            drain_duration=f"{seconds(settings.control_plane.drain_duration).normalize():f}s",
            gateway_topology=gateway_topology(settings),
            proxy_stats_matcher=ProxyStatsMatcher(inclusion_regexps=(_ALERTED_STATISTICS,)),
            proxy_metadata={
                # A stopping pod waits for its WebSockets and streams, as long as the pod's own
                # grace period allows, not a fixed few seconds.
                "EXIT_ON_ZERO_ACTIVE_CONNECTIONS": "true",
            },
        ),
    )
    return config.model_dump(mode="json", exclude_none=True)


def gateway_topology(settings: Settings) -> GatewayTopology:
    """How many addresses at the end of X-Forwarded-For the gateway believes."""
    return GatewayTopology(num_trusted_proxies=settings.gateway.trusted_proxies)


# Circuit breakers, overflow, ejections, rate limits, expiry of certificates: Istio leaves them out
# unless asked, and the alerts of alerts.py read them. Envoy matches the whole name.
_ALERTED_STATISTICS = (
    r"(cluster\.outbound\|.*\.(circuit_breakers\.default\.(cx_open|rq_open|rq_pending_open)"
    r"|outlier_detection\.ejections_active|upstream_(cx|rq_pending)_overflow"
    r"|ratelimit\.(ok|error|over_limit|failure_mode_allowed)))"
    r"|(listener\..*\.ssl\.certificate\..*\.expiration_unix_time_seconds)"
    r"|(.*\.http_local_rate_limit\.(enabled|enforced|rate_limited))"
)


def access_log_fields(authentication: Authentication, cluster: str) -> dict[str, str]:
    """Fields of the access log.

    No credential is among them: neither Authorization nor cookies, and of the path only what
    stands before the query, for browsers put tokens of WebSockets there.
    """
    return {
        "log": "access",
        "time": "%START_TIME%",
        "cluster": cluster,
        **{name: f"%REQ({header})%" for name, header in identity_headers(authentication).items()},
        "request_id": "%REQ(x-request-id)%",
        "trace_id": "%TRACE_ID%",
        **{name: f"%RESP({header})%" for name, header in AI_HEADERS.items()},
        "method": "%REQ(:method)%",
        "authority": "%REQ(:authority)%",
        "path": _PATH,
        "protocol": "%PROTOCOL%",
        "route": "%ROUTE_NAME%",
        "code": "%RESPONSE_CODE%",
        "code_details": "%RESPONSE_CODE_DETAILS%",
        "flags": "%RESPONSE_FLAGS%",
        "termination": "%CONNECTION_TERMINATION_DETAILS%",
        "bytes_received": "%BYTES_RECEIVED%",
        "bytes_sent": "%BYTES_SENT%",
        "duration_ms": "%DURATION%",
        "upstream_ms": "%RESP(x-envoy-upstream-service-time)%",
        "client_address": _CLIENT_ADDRESS,
        "forwarded_for": "%REQ(x-forwarded-for)%",
        "peer_address": "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%",
        "peer": "%DOWNSTREAM_PEER_URI_SAN%",
        "tls_version": "%DOWNSTREAM_TLS_VERSION%",
        "server_name": "%REQUESTED_SERVER_NAME%",
        "upstream_host": "%UPSTREAM_HOST%",
        "upstream_cluster": "%UPSTREAM_CLUSTER_RAW%",
        "upstream_failure": "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
        "user_agent": "%REQ(user-agent)%",
    }


def audit_log_fields(authentication: Authentication, cluster: str) -> dict[str, str]:
    """Fields of the audit log: who, of which tenant, did what, and what came of it."""
    identity = identity_headers(authentication)
    return {
        "log": "audit",
        "time": "%START_TIME%",
        "cluster": cluster,
        "tenant_id": f"%REQ({identity['tenant_id']})%",
        "user_id": f"%REQ({identity['user_id']})%",
        "role": f"%REQ({authentication.role.header})%",
        "token_subject": _metadata(*verified_claim("sub")),
        "token_issuer": _metadata(*verified_claim("iss")),
        "caller": "%DOWNSTREAM_PEER_URI_SAN%",
        "client_address": _CLIENT_ADDRESS,
        "forwarded_for": "%REQ(x-forwarded-for)%",
        "method": "%REQ(:method)%",
        "authority": "%REQ(:authority)%",
        "path": _PATH,
        "code": "%RESPONSE_CODE%",
        "code_details": "%RESPONSE_CODE_DETAILS%",
        "request_id": "%REQ(x-request-id)%",
        "trace_id": "%TRACE_ID%",
    }


# The gateway writes what it takes for the client's address into this header, and takes off what a
# client wrote; it goes with the request, while DOWNSTREAM_REMOTE_ADDRESS at a sidecar is that of
# the last proxy. It is absent on requests that begin inside the mesh.
_CLIENT_ADDRESS = "%REQ(x-envoy-external-address)%"
_PATH = "%REQ_WITHOUT_QUERY(x-envoy-original-path?:path)%"


def _metadata(*path: str) -> str:
    return f"%DYNAMIC_METADATA({':'.join(path)})%"


def _file_log(name: str, fields: dict[str, str]) -> ExtensionProvider:
    return ExtensionProvider(
        name=name, envoy_file_access_log=EnvoyFileAccessLog(log_format=LogFormat(labels=fields))
    )
