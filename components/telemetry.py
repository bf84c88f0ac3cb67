"""Traces, metrics and logs: Istio's Telemetry resources.

A proxy hears the mesh's default, then the one Telemetry that selects its pod. Lists of log
providers and custom tags of the latter replace the former's, so both are always repeated whole;
metric tags are merged. `docs/telemetry.md` says what comes out.
Source: https://istio.io/latest/docs/reference/config/telemetry/
"""

from __future__ import annotations

from collections.abc import Iterator

from components.component import ComponentArgs, MeshComponent
from components.gateway_workload import GATEWAY, GATEWAY_SELECTOR
from components.istio.selector import WorkloadSelector
from components.istio.telemetry import (
    AccessLogging,
    AccessLoggingFilter,
    Metrics,
    MetricSelector,
    MetricsOverrides,
    MetricsOverridesTagOverride,
    ProviderRef,
    Telemetry,
    TelemetrySpec,
    Tracing,
    TracingCustomTag,
    TracingFormatter,
    TracingLiteral,
    TracingRequestHeader,
)
from components.mesh_config import ACCESS_LOG, AUDIT_LOG, METRICS, TRACING
from components.objects import Manifest, labelled
from components.request_fields import AI_HEADERS, MODEL_HEADER, identity_headers, verified_claim
from components.token_metric import TOKENS, token_metric
from components.trace_sampling import ratio, trace_sampling
from components.wire import ObjectMeta
from model.access import Catalogue
from model.settings import Authentication, Namespaces, Split
from model.settings import Telemetry as TelemetrySettings

DEFAULT = "mesh-default"
"""Name of the Telemetry that holds for the whole mesh."""

ERRORS = " || ".join(
    (
        "response.code >= 400",
        "response.flags != 0",
        "response.trailers['grpc-status'] != '0'",
        "response.headers['grpc-status'] != '0'",
    )
)
"""CEL: an answer from 400 up, a connection that broke, or a gRPC status that is not OK.

A header that is not there makes its term an error, and an error counts only where no other term is
true. `response.grpc_status` will not do: Envoy makes one up for every HTTP answer.
"""
AUDITED = "metadata.filter_metadata['envoy.common']['access_log_hint'] == true"
"""CEL: an AuthorizationPolicy with action AUDIT matched; Envoy's RBAC filter leaves the hint.

Source: https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/rbac/v3/rbac.proto
"""


class TelemetryArgs(ComponentArgs):
    """Arguments of `MeshTelemetry`."""

    namespaces: Namespaces
    telemetry: TelemetrySettings
    authentication: Authentication
    catalogue: Catalogue
    cluster: str
    traffic: dict[str, Split]
    """Splits by service: they multiply the routes that sampling is set on."""


class MeshTelemetry(MeshComponent[TelemetryArgs]):
    """What every proxy reports, and how much of it."""

    token = "voicemesh:istio:Telemetry"  # noqa: S105 - a Pulumi type token

    @staticmethod
    def build(args: TelemetryArgs) -> tuple[Manifest, ...]:
        """The default, the gateway's, the groups' services, then what Telemetry has no field for."""
        return labelled(args.stack, "telemetry", _objects(args))


def _objects(args: TelemetryArgs) -> Iterator[Manifest]:
    sampling = args.telemetry.sampling
    yield _telemetry(
        DEFAULT,
        args.namespaces.mesh,
        None,
        TelemetrySpec(
            access_logging=_access_logging(args),
            tracing=[_tracing(args, sampling.default)],
            metrics=[_metrics(_identity_metric_tags(args))],
        ),
    )
    if overrides := _gateway_metric_tags(args):
        yield _telemetry(
            GATEWAY,
            args.namespaces.mesh,
            GATEWAY_SELECTOR,
            TelemetrySpec(metrics=[_metrics(overrides)]),
        )
    groups = [service for service in args.catalogue.services if service.ai or service.websocket]
    for service in groups:
        yield _telemetry(
            service.name,
            args.namespaces.apps,
            {"app": service.name},
            TelemetrySpec(
                tracing=[_tracing(args, ratio(service, sampling), ai=service.ai)],
                metrics=[_metrics(_ai_metric_tags(args))] if service.ai else None,
            ),
        )
    yield from (token_metric(service, args.namespaces.apps) for service in groups if service.ai)
    yield trace_sampling(args.namespaces.mesh, args.catalogue, args.traffic, sampling)


def _access_logging(args: TelemetryArgs) -> list[AccessLogging]:
    errors = AccessLoggingFilter(expression=ERRORS)
    return [
        AccessLogging(
            providers=[ProviderRef(name=ACCESS_LOG)],
            filter=errors if args.telemetry.access_log.errors_only else None,
        ),
        # For the whole mesh: the audit policies alone say which workloads have anything to audit.
        AccessLogging(
            providers=[ProviderRef(name=AUDIT_LOG)], filter=AccessLoggingFilter(expression=AUDITED)
        ),
    ]


def _tracing(args: TelemetryArgs, percent: float, *, ai: bool = False) -> Tracing:
    tags = {
        "environment": TracingCustomTag(literal=TracingLiteral(value=args.stack)),
        "cluster": TracingCustomTag(literal=TracingLiteral(value=args.cluster)),
    }
    for name, header in identity_headers(args.authentication).items():
        tags[name] = TracingCustomTag(header=TracingRequestHeader(name=header))
    if ai:
        # `header` reads requests; model and tokens are known only with the answer.
        for name, header in AI_HEADERS.items():
            tags[name] = TracingCustomTag(formatter=TracingFormatter(value=f"%RESP({header})%"))
    return Tracing(
        providers=[ProviderRef(name=TRACING)],
        random_sampling_percentage=percent,
        # All proxies that a request passes then decide alike; see trace_sampling.py.
        use_request_id_for_trace_sampling=True,
        custom_tags=tags,
    )


def _metrics(overrides: list[MetricsOverrides]) -> Metrics:
    return Metrics(providers=[ProviderRef(name=METRICS)], overrides=overrides or None)


def _identity_metric_tags(args: TelemetryArgs) -> list[MetricsOverrides]:
    """Tenant and user at the services, where only mesh identities and the gateway write headers.

    On the request counter alone: on a histogram each tenant would cost a series for each bucket.
    """
    chosen = _identity_tags(args)
    headers = identity_headers(args.authentication)
    tags = {name: _request_header(headers[name]) for name in chosen}
    return [_override("REQUEST_COUNT", "SERVER", tags)] if tags else []


def _gateway_metric_tags(args: TelemetryArgs) -> list[MetricsOverrides]:
    """The same at the gateway, from the verified token.

    A header would let anyone make up tenants, each a series that the gateway has to keep.
    """
    claims = {
        "tenant_id": args.authentication.tenant.claim,
        "user_id": args.authentication.user.claim,
    }
    tags = {name: _metadata(claims[name]) for name in _identity_tags(args)}
    return [_override("REQUEST_COUNT", "CLIENT", tags)] if tags else []


def _identity_tags(args: TelemetryArgs) -> list[str]:
    metrics = args.telemetry.metrics
    chosen = {"tenant_id": metrics.tenant, "user_id": metrics.user}
    return [name for name, wanted in chosen.items() if wanted]


def _ai_metric_tags(args: TelemetryArgs) -> list[MetricsOverrides]:
    model = {"ai_model": _response_header(MODEL_HEADER)} if args.telemetry.metrics.model else {}
    headers = identity_headers(args.authentication)
    tokens = {name: _request_header(headers[name]) for name in _identity_tags(args)} | model
    overrides = [
        _override(metric, "SERVER", model)
        for metric in ("REQUEST_COUNT", "REQUEST_DURATION")
        if model
    ]
    if tokens:
        overrides.append(
            MetricsOverrides(
                match=MetricSelector(custom_metric=TOKENS, mode="SERVER"),
                tag_overrides=_upserts(tokens),
            )
        )
    return overrides


def _override(metric: str, mode: str, tags: dict[str, str]) -> MetricsOverrides:
    return MetricsOverrides(
        match=MetricSelector.model_validate({"metric": metric, "mode": mode}),
        tag_overrides=_upserts(tags),
    )


def _upserts(tags: dict[str, str]) -> dict[str, MetricsOverridesTagOverride]:
    return {
        name: MetricsOverridesTagOverride(operation="UPSERT", value=expression)
        for name, expression in tags.items()
    }


# CEL: where the header or claim is missing the expression fails and the tag is "unknown".


def _request_header(name: str) -> str:
    return f"request.headers['{name}']"


def _response_header(name: str) -> str:
    return f"response.headers['{name}']"


def _metadata(claim: str) -> str:
    return "metadata.filter_metadata" + "".join(f"['{key}']" for key in verified_claim(claim))


def _telemetry(
    name: str, namespace: str, selector: dict[str, str] | None, spec: TelemetrySpec
) -> Manifest:
    if selector is not None:
        spec = spec.model_copy(update={"selector": WorkloadSelector(match_labels=selector)})
    return Telemetry(metadata=ObjectMeta(name=name, namespace=namespace), spec=spec).manifest()
