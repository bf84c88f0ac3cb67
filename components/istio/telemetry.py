"""Wire types: Telemetry.

Generated from the CRDs of istio.io/api v1.31.1; do not edit. Regenerate with `python -m schema`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from components.istio.selector import PolicyTargetReference, WorkloadSelector
from components.wire import Manifest, Message, Number, ObjectMeta, PositiveDuration


class AccessLoggingFilter(Message):
    expression: str | None = None


class AccessLoggingLogSelector(Message):
    mode: Literal["CLIENT_AND_SERVER", "CLIENT", "SERVER"] | None = None


class ProviderRef(Message):
    name: Annotated[str, Field(min_length=1)]


class AccessLogging(Message):
    disabled: bool | None = None
    filter: AccessLoggingFilter | None = None
    match: AccessLoggingLogSelector | None = None
    providers: list[ProviderRef] | None = None


class MetricSelector(Message):
    at_most_one = (("metric", "custom_metric"),)

    custom_metric: Annotated[str | None, Field(alias="customMetric", min_length=1)] = None
    metric: (
        Literal[
            "ALL_METRICS",
            "REQUEST_COUNT",
            "REQUEST_DURATION",
            "REQUEST_SIZE",
            "RESPONSE_SIZE",
            "TCP_OPENED_CONNECTIONS",
            "TCP_CLOSED_CONNECTIONS",
            "TCP_SENT_BYTES",
            "TCP_RECEIVED_BYTES",
            "GRPC_REQUEST_MESSAGES",
            "GRPC_RESPONSE_MESSAGES",
        ]
        | None
    ) = None
    mode: Literal["CLIENT_AND_SERVER", "CLIENT", "SERVER"] | None = None


class MetricsOverridesTagOverride(Message):
    operation: Literal["UPSERT", "REMOVE"] | None = None
    value: str | None = None


class MetricsOverrides(Message):
    disabled: bool | None = None
    match: MetricSelector | None = None
    tag_overrides: Annotated[
        dict[str, MetricsOverridesTagOverride] | None, Field(alias="tagOverrides")
    ] = None


class Metrics(Message):
    overrides: list[MetricsOverrides] | None = None
    providers: list[ProviderRef] | None = None
    reporting_interval: Annotated[PositiveDuration | None, Field(alias="reportingInterval")] = None


class TracingEnvironment(Message):
    default_value: Annotated[str | None, Field(alias="defaultValue")] = None
    name: Annotated[str, Field(min_length=1)]


class TracingFormatter(Message):
    value: Annotated[str, Field(min_length=1)]


class TracingRequestHeader(Message):
    default_value: Annotated[str | None, Field(alias="defaultValue")] = None
    name: Annotated[str, Field(min_length=1)]


class TracingLiteral(Message):
    value: Annotated[str, Field(min_length=1)]


class TracingCustomTag(Message):
    at_most_one = (("literal", "environment", "header", "formatter"),)

    environment: TracingEnvironment | None = None
    formatter: TracingFormatter | None = None
    header: TracingRequestHeader | None = None
    literal: TracingLiteral | None = None


class TracingTracingSelector(Message):
    mode: Literal["CLIENT_AND_SERVER", "CLIENT", "SERVER"] | None = None


class Tracing(Message):
    custom_tags: Annotated[dict[str, TracingCustomTag] | None, Field(alias="customTags")] = None
    disable_context_propagation: Annotated[
        bool | None, Field(alias="disableContextPropagation")
    ] = None
    disable_span_reporting: Annotated[bool | None, Field(alias="disableSpanReporting")] = None
    enable_istio_tags: Annotated[bool | None, Field(alias="enableIstioTags")] = None
    match: TracingTracingSelector | None = None
    providers: list[ProviderRef] | None = None
    random_sampling_percentage: Annotated[
        Number | None, Field(alias="randomSamplingPercentage", ge=0, le=100)
    ] = None
    use_request_id_for_trace_sampling: Annotated[
        bool | None, Field(alias="useRequestIdForTraceSampling")
    ] = None


class TelemetrySpec(Message):
    at_most_one = (("selector", "target_ref", "target_refs"),)

    access_logging: Annotated[list[AccessLogging] | None, Field(alias="accessLogging")] = None
    metrics: list[Metrics] | None = None
    selector: WorkloadSelector | None = None
    target_ref: Annotated[PolicyTargetReference | None, Field(alias="targetRef")] = None
    target_refs: Annotated[
        list[PolicyTargetReference] | None, Field(alias="targetRefs", max_length=16)
    ] = None
    tracing: list[Tracing] | None = None


class Telemetry(Manifest):
    api_version: Annotated[Literal["telemetry.istio.io/v1"], Field(alias="apiVersion")] = (
        "telemetry.istio.io/v1"
    )
    kind: Literal["Telemetry"] = "Telemetry"
    metadata: ObjectMeta
    spec: TelemetrySpec
