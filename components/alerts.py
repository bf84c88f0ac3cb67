"""Alerts on the mesh's own metrics, as a PrometheusRule.

Metrics: https://istio.io/latest/docs/reference/config/metrics/ and, for those that begin with
`envoy_`, https://www.envoyproxy.io/docs/envoy/latest/configuration/upstream/cluster_manager/cluster_stats
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from components.component import ComponentArgs
from components.objects import Manifest
from components.prometheus_operator.prometheus_rule import (
    PrometheusRule,
    PrometheusRuleSpec,
    Rule,
    RuleGroup,
)
from components.token_metric import TOKENS
from components.wire import ObjectMeta
from model.access import Catalogue
from model.service import Service
from model.settings import Monitoring, Namespaces
from model.values import seconds

GATEWAY_JOB, ISTIOD_JOB, SIDECARS_JOB = "istio-ingressgateway", "istiod", "istio-sidecars"
"""Names under which Prometheus knows the targets; those of the monitors too."""
_WINDOW = "5m"
_QUIET = 0.05
"""Requests a second below which a share of errors says nothing: one in twenty seconds."""
_LONG = 60
"""Seconds of timeout above which a service says itself that it takes long."""
_CERTIFICATE_LEFT = 6 * 3600
"""Seconds. A workload's certificate lives a day and is renewed after half of it."""
_PUBLIC_CERTIFICATE_LEFT = 14 * 86_400
_ROOT_LEFT = 30 * 86_400


class Alert(NamedTuple):
    """One alert: when it fires, how long that must last, and what a reader learns."""

    name: str
    expression: str
    lasting: str
    severity: Literal["critical", "warning"]
    summary: str
    meaning: str
    """What it means for users and where to look first."""


class AlertsArgs(ComponentArgs):
    """What alerts are made of."""

    namespaces: Namespaces
    monitoring: Monitoring
    catalogue: Catalogue
    credential_name: str
    """Secret with the public certificate; its name is part of the metric's."""
    owns_control_plane: bool
    """istiod is scraped, and alerted on, where the stack installs it."""


def rules(args: AlertsArgs) -> Manifest:
    """All alerts, in one group for each subject."""
    groups: dict[str, Iterator[Alert]] = {
        "gateway": _gateway(args),
        "services": _services(args),
        "ai": _ai(args),
        "security": _security(args),
    }
    if args.owns_control_plane:
        groups["control-plane"] = _control_plane(args)
    return PrometheusRule(
        metadata=ObjectMeta(
            name="voicemesh", namespace=args.namespaces.mesh, labels=dict(args.monitoring.labels)
        ),
        spec=PrometheusRuleSpec(
            groups=[
                RuleGroup(
                    name=f"voicemesh.{name}", rules=[_rule(args.stack, alert) for alert in alerts]
                )
                for name, alerts in groups.items()
            ]
        ),
    ).manifest()


def _rule(stack: str, alert: Alert) -> Rule:
    return Rule(
        alert=alert.name,
        expr=alert.expression,
        for_=alert.lasting,
        labels={"severity": alert.severity, "stack": stack},
        annotations={"summary": alert.summary, "description": alert.meaning},
    )


def _gateway(args: AlertsArgs) -> Iterator[Alert]:
    up = f'up{{job="{GATEWAY_JOB}",namespace="{args.namespaces.mesh}"}}'
    yield Alert(
        "GatewayDown",
        f"absent({up} == 1)",
        "2m",
        "critical",
        "No ingress gateway answers",
        "Clients reach nothing. Look at the pods labelled istio=ingressgateway, then at istiod.",
    )
    gateway = f'namespace="{args.namespaces.mesh}"'
    yield Alert(
        "RateLimitServiceUnreachable",
        f"sum({_rate('envoy_cluster_ratelimit_error', gateway)}) > 0",
        "5m",
        "critical",
        "The gateway can't ask the rate-limit service",
        "Login routes answer 503, all others pass without global limits. Look at the Deployment"
        " ratelimit and at its Redis.",
    )
    yield Alert(
        "ManyRequestsLimited",
        f"sum({_rate('envoy_cluster_ratelimit_over_limit', gateway)})"
        f" / sum({_requests('source', gateway)}) > 0.2",
        "15m",
        "warning",
        "One request in five is refused by a rate limit",
        "A flood, or an allowance too small for the tenants there are.",
    )


def _services(args: AlertsArgs) -> Iterator[Alert]:
    apps = args.namespaces.apps
    # The caller's side: a request that never reached the service is counted there alone.
    called = f'destination_service_namespace="{apps}"'
    failed = f'{called},response_code=~"0|5.."'
    by = "by (destination_service_name)"
    all_requests = f"sum {by} ({_requests('source', called)})"
    yield Alert(
        "ServiceErrors",
        f"100 * sum {by} ({_requests('source', failed)}) / {all_requests}"
        f" > {args.monitoring.error_percent:g} and {all_requests} > {_QUIET}",
        "5m",
        "critical",
        "{{ $labels.destination_service_name }} fails {{ $value | humanize }} % of its requests",
        "Answers with 5xx or none at all, as its callers see it. The access log's code_details"
        " says whose they are.",
    )
    if quick := [service for service in args.catalogue.services if not _slow(service)]:
        yield Alert(
            "ServiceLatency",
            f"{_p99(apps, quick, 'destination_service_name')}"
            f" > {float(seconds(args.monitoring.latency)) * 1000:g}",
            "10m",
            "warning",
            "{{ $labels.destination_service_name }}: one request in a hundred takes longer than"
            f" {args.monitoring.latency}",
            "Measured at the service's own proxy, so networks and queues before it are not in it.",
        )
    pods = f'namespace=~"{apps}|{args.namespaces.mesh}"'
    opened = (
        f'{{__name__=~"envoy_cluster_circuit_breakers_default_(cx|rq|rq_pending)_open",{pods}}}'
    )
    yield Alert(
        "CircuitOpen",
        f"max by (cluster_name) ({opened}) > 0",
        "2m",
        "warning",
        "The limits of {{ $labels.cluster_name }} are reached",
        "Callers are refused at once. Either its instances are slow, or the pool in its"
        " declaration is too small.",
    )
    overflow = " + ".join(
        f"sum by (cluster_name) ({_rate(f'envoy_cluster_upstream_{kind}_overflow', pods)})"
        for kind in ("cx", "rq_pending")
    )
    yield Alert(
        "RequestsOverflow",
        f"{overflow} > 0",
        "5m",
        "warning",
        "Requests to {{ $labels.cluster_name }} find no free connection",
        "They fail with 503 and the flag UO.",
    )
    yield Alert(
        "InstanceEjected",
        f"max by (cluster_name) (envoy_cluster_outlier_detection_ejections_active{{{pods}}}) > 0",
        "10m",
        "warning",
        "An instance of {{ $labels.cluster_name }} is kept out of load balancing",
        "It failed again and again; its pod's own log says why.",
    )


def _ai(args: AlertsArgs) -> Iterator[Alert]:
    services = [service for service in args.catalogue.services if service.ai]
    if not services:
        return
    yield Alert(
        "AiLatency",
        f"{_p99(args.namespaces.apps, services, 'destination_service_name, ai_model')}"
        f" > {float(seconds(args.monitoring.ai_latency)) * 1000:g}",
        "10m",
        "warning",
        "{{ $labels.destination_service_name }} with {{ $labels.ai_model }}: one answer in a"
        f" hundred takes longer than {args.monitoring.ai_latency}",
        "A model vendor is slow, or its queue is full.",
    )
    # An answer passes several AI services and each may state its tokens: the greatest sum is the
    # whole, the total of the sums is not.
    used = f'istio_{TOKENS}{{namespace="{args.namespaces.apps}"}}'
    yield Alert(
        "AiTokens",
        f"60 * max by (tenant_id) (sum by (tenant_id, app) (rate({used}[{_WINDOW}])))"
        f" > {args.monitoring.tokens_per_minute}",
        "5m",
        "warning",
        "Tenant {{ $labels.tenant_id }} uses {{ $value | humanize }} tokens a minute",
        "A runaway agent, or a tenant that outgrew its plan.",
    )


def _security(args: AlertsArgs) -> Iterator[Alert]:
    apps = args.namespaces.apps
    plain = f'destination_workload_namespace="{apps}",connection_security_policy!="mutual_tls"'
    yield Alert(
        "PlaintextInMesh",
        f"sum by (destination_workload) ({_requests('destination', plain)}) > 0",
        "1m",
        "critical",
        "{{ $labels.destination_workload }} took requests without mTLS",
        "STRICT forbids it: a PeerAuthentication was loosened, or a port is excluded from the"
        " proxy.",
    )
    yield Alert(
        "WorkloadCertificateNotRenewed",
        "min by (namespace, pod)"
        f' (istio_agent_cert_expiry_seconds{{resource_name="default"}}) < {_CERTIFICATE_LEFT}',
        "10m",
        "critical",
        "The certificate of {{ $labels.namespace }}/{{ $labels.pod }} is about to expire",
        "Its proxy can't reach istiod's CA. Once the certificate is gone the pod takes and makes"
        " no requests.",
    )
    secret = "".join(c if c.isalnum() else "_" for c in args.credential_name)
    expires = (
        f'{{__name__=~"envoy_listener_.*_{secret}_expiration_unix_time_seconds",'
        f'namespace="{args.namespaces.mesh}"}}'
    )
    yield Alert(
        "PublicCertificateExpires",
        f"min({expires}) - time() < {_PUBLIC_CERTIFICATE_LEFT}",
        "1h",
        "critical",
        f"The public certificate in {args.credential_name} expires within two weeks",
        "Browsers and apps will refuse the API. Look at whoever renews the Secret.",
    )
    sidecars = f'up{{job="{SIDECARS_JOB}"}}'
    yield Alert(
        "SidecarsUnscraped",
        f"sum({sidecars}) / count({sidecars}) < 0.9",
        "10m",
        "warning",
        "One sidecar in ten gives no metrics",
        "Every alert on services is blind for those pods.",
    )


def _control_plane(args: AlertsArgs) -> Iterator[Alert]:
    istiod = f'job="{ISTIOD_JOB}",namespace="{args.namespaces.mesh}"'
    yield Alert(
        "IstiodDown",
        f"absent(up{{{istiod}}} == 1)",
        "5m",
        "critical",
        "No istiod answers",
        "Traffic goes on as it is; no change, no new pod and no new certificate comes through.",
    )
    yield Alert(
        "ConfigurationRejected",
        f"sum by (type) ({_rate('pilot_total_xds_rejects', istiod)}) > 0",
        "5m",
        "critical",
        "Proxies refuse what istiod sends ({{ $labels.type }})",
        "They keep the configuration they had. Mostly an EnvoyFilter that no longer fits.",
    )
    yield Alert(
        "PushErrors",
        f"sum({_rate('pilot_total_xds_internal_errors', istiod)}) > 0",
        "10m",
        "warning",
        "istiod fails to make configuration for proxies",
        "Its log says for which.",
    )
    yield Alert(
        "SlowConvergence",
        "histogram_quantile(0.99, sum by (le)"
        f" ({_rate('pilot_proxy_convergence_time_bucket', istiod)})) > 10",
        "15m",
        "warning",
        "A change takes longer than ten seconds to reach the proxies",
        "istiod is short of CPU, or sidecars are scoped too widely.",
    )
    yield Alert(
        "RootCertificateExpires",
        f"min(citadel_server_root_cert_expiry_timestamp{{{istiod}}}) - time() < {_ROOT_LEFT}",
        "1h",
        "critical",
        "The mesh's root certificate expires within a month",
        "Rotate it now: with it every workload's identity ends.",
    )


def _slow(service: Service) -> bool:
    """True where a long answer is what the service is for: AI, streams, long jobs."""
    return (
        service.ai
        or any(route.streaming for route in service.routes)
        or seconds(service.timeout) > _LONG
    )


def _rate(metric: str, selector: str) -> str:
    return f"rate({metric}{{{selector}}}[{_WINDOW}])"


def _requests(reporter: str, selector: str) -> str:
    return _rate("istio_requests_total", f'reporter="{reporter}",{selector}')


def _p99(namespace: str, services: list[Service], by: str) -> str:
    """The 99th percentile in milliseconds; 101 is an upgrade, as long as its WebSocket."""
    names = "|".join(service.name for service in services)
    bucket = _rate(
        "istio_request_duration_milliseconds_bucket",
        f'reporter="destination",destination_service_namespace="{namespace}",'
        f'destination_service_name=~"{names}",response_code!="101"',
    )
    return f"histogram_quantile(0.99, sum by (le, {by}) ({bucket}))"
