"""Wire types: ServiceMonitor.

Generated from the CRDs of prometheus-operator v0.85.0; do not edit. Regenerate with `python -m schema`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import TypeAliasType

from components.wire import IntOrString, Manifest, Message, ObjectMeta


class AttachMetadata(Message):
    node: bool | None = None


class SecretKeySelector(Message):
    key: str
    name: str | None = None
    optional: bool | None = None


class Authorization(Message):
    credentials: SecretKeySelector | None = None
    type: str | None = None


class BasicAuth(Message):
    password: SecretKeySelector | None = None
    username: SecretKeySelector | None = None


SourceLabelsValue = TypeAliasType(
    "SourceLabelsValue",
    Annotated[str, Field(pattern="^[a-zA-Z_][a-zA-Z0-9_]*$")],
)


class RelabelConfig(Message):
    action: (
        Literal[
            "replace",
            "Replace",
            "keep",
            "Keep",
            "drop",
            "Drop",
            "hashmod",
            "HashMod",
            "labelmap",
            "LabelMap",
            "labeldrop",
            "LabelDrop",
            "labelkeep",
            "LabelKeep",
            "lowercase",
            "Lowercase",
            "uppercase",
            "Uppercase",
            "keepequal",
            "KeepEqual",
            "dropequal",
            "DropEqual",
        ]
        | None
    ) = None
    modulus: int | None = None
    regex: str | None = None
    replacement: str | None = None
    separator: str | None = None
    source_labels: Annotated[list[SourceLabelsValue] | None, Field(alias="sourceLabels")] = None
    target_label: Annotated[str | None, Field(alias="targetLabel")] = None


class ConfigMapKeySelector(Message):
    key: str
    name: str | None = None
    optional: bool | None = None


class SecretOrConfigMap(Message):
    config_map: Annotated[ConfigMapKeySelector | None, Field(alias="configMap")] = None
    secret: SecretKeySelector | None = None


class TLSConfig(Message):
    ca: SecretOrConfigMap | None = None
    cert: SecretOrConfigMap | None = None
    insecure_skip_verify: Annotated[bool | None, Field(alias="insecureSkipVerify")] = None
    key_secret: Annotated[SecretKeySelector | None, Field(alias="keySecret")] = None
    max_version: Annotated[
        Literal["TLS10", "TLS11", "TLS12", "TLS13"] | None, Field(alias="maxVersion")
    ] = None
    min_version: Annotated[
        Literal["TLS10", "TLS11", "TLS12", "TLS13"] | None, Field(alias="minVersion")
    ] = None
    server_name: Annotated[str | None, Field(alias="serverName")] = None


class OAuth2(Message):
    client_id: Annotated[SecretOrConfigMap, Field(alias="clientId")]
    client_secret: Annotated[SecretKeySelector, Field(alias="clientSecret")]
    endpoint_params: Annotated[dict[str, str] | None, Field(alias="endpointParams")] = None
    no_proxy: Annotated[str | None, Field(alias="noProxy")] = None
    proxy_connect_header: Annotated[
        dict[str, list[SecretKeySelector]] | None, Field(alias="proxyConnectHeader")
    ] = None
    proxy_from_environment: Annotated[bool | None, Field(alias="proxyFromEnvironment")] = None
    proxy_url: Annotated[
        str | None, Field(alias="proxyUrl", pattern="^(http|https|socks5)://.+$")
    ] = None
    scopes: list[str] | None = None
    tls_config: Annotated[TLSConfig | None, Field(alias="tlsConfig")] = None
    token_url: Annotated[str, Field(alias="tokenUrl", min_length=1)]


class EndpointTLSConfig(Message):
    ca: SecretOrConfigMap | None = None
    ca_file: Annotated[str | None, Field(alias="caFile")] = None
    cert: SecretOrConfigMap | None = None
    cert_file: Annotated[str | None, Field(alias="certFile")] = None
    insecure_skip_verify: Annotated[bool | None, Field(alias="insecureSkipVerify")] = None
    key_file: Annotated[str | None, Field(alias="keyFile")] = None
    key_secret: Annotated[SecretKeySelector | None, Field(alias="keySecret")] = None
    max_version: Annotated[
        Literal["TLS10", "TLS11", "TLS12", "TLS13"] | None, Field(alias="maxVersion")
    ] = None
    min_version: Annotated[
        Literal["TLS10", "TLS11", "TLS12", "TLS13"] | None, Field(alias="minVersion")
    ] = None
    server_name: Annotated[str | None, Field(alias="serverName")] = None


class Endpoint(Message):
    authorization: Authorization | None = None
    basic_auth: Annotated[BasicAuth | None, Field(alias="basicAuth")] = None
    bearer_token_file: Annotated[str | None, Field(alias="bearerTokenFile")] = None
    bearer_token_secret: Annotated[SecretKeySelector | None, Field(alias="bearerTokenSecret")] = (
        None
    )
    enable_http2: Annotated[bool | None, Field(alias="enableHttp2")] = None
    filter_running: Annotated[bool | None, Field(alias="filterRunning")] = None
    follow_redirects: Annotated[bool | None, Field(alias="followRedirects")] = None
    honor_labels: Annotated[bool | None, Field(alias="honorLabels")] = None
    honor_timestamps: Annotated[bool | None, Field(alias="honorTimestamps")] = None
    interval: Annotated[
        str | None,
        Field(
            pattern="^(0|(([0-9]+)y)?(([0-9]+)w)?(([0-9]+)d)?(([0-9]+)h)?(([0-9]+)m)?(([0-9]+)s)?(([0-9]+)ms)?)$"
        ),
    ] = None
    metric_relabelings: Annotated[list[RelabelConfig] | None, Field(alias="metricRelabelings")] = (
        None
    )
    no_proxy: Annotated[str | None, Field(alias="noProxy")] = None
    oauth2: OAuth2 | None = None
    params: dict[str, list[str]] | None = None
    path: str | None = None
    port: str | None = None
    proxy_connect_header: Annotated[
        dict[str, list[SecretKeySelector]] | None, Field(alias="proxyConnectHeader")
    ] = None
    proxy_from_environment: Annotated[bool | None, Field(alias="proxyFromEnvironment")] = None
    proxy_url: Annotated[
        str | None, Field(alias="proxyUrl", pattern="^(http|https|socks5)://.+$")
    ] = None
    relabelings: list[RelabelConfig] | None = None
    scheme: Literal["http", "https"] | None = None
    scrape_timeout: Annotated[
        str | None,
        Field(
            alias="scrapeTimeout",
            pattern="^(0|(([0-9]+)y)?(([0-9]+)w)?(([0-9]+)d)?(([0-9]+)h)?(([0-9]+)m)?(([0-9]+)s)?(([0-9]+)ms)?)$",
        ),
    ] = None
    target_port: Annotated[IntOrString | None, Field(alias="targetPort")] = None
    tls_config: Annotated[EndpointTLSConfig | None, Field(alias="tlsConfig")] = None
    track_timestamps_staleness: Annotated[bool | None, Field(alias="trackTimestampsStaleness")] = (
        None
    )


class NamespaceSelector(Message):
    any: bool | None = None
    match_names: Annotated[list[str] | None, Field(alias="matchNames")] = None


class LabelSelectorRequirement(Message):
    key: str
    operator: str
    values: list[str] | None = None


class LabelSelector(Message):
    match_expressions: Annotated[
        list[LabelSelectorRequirement] | None, Field(alias="matchExpressions")
    ] = None
    match_labels: Annotated[dict[str, str] | None, Field(alias="matchLabels")] = None


class ServiceMonitorSpec(Message):
    attach_metadata: Annotated[AttachMetadata | None, Field(alias="attachMetadata")] = None
    body_size_limit: Annotated[
        str | None,
        Field(alias="bodySizeLimit", pattern="(^0|([0-9]*[.])?[0-9]+((K|M|G|T|E|P)i?)?B)$"),
    ] = None
    convert_classic_histograms_to_nhcb: Annotated[
        bool | None, Field(alias="convertClassicHistogramsToNHCB")
    ] = None
    endpoints: list[Endpoint]
    fallback_scrape_protocol: Annotated[
        Literal[
            "PrometheusProto",
            "OpenMetricsText0.0.1",
            "OpenMetricsText1.0.0",
            "PrometheusText0.0.4",
            "PrometheusText1.0.0",
        ]
        | None,
        Field(alias="fallbackScrapeProtocol"),
    ] = None
    job_label: Annotated[str | None, Field(alias="jobLabel")] = None
    keep_dropped_targets: Annotated[int | None, Field(alias="keepDroppedTargets")] = None
    label_limit: Annotated[int | None, Field(alias="labelLimit")] = None
    label_name_length_limit: Annotated[int | None, Field(alias="labelNameLengthLimit")] = None
    label_value_length_limit: Annotated[int | None, Field(alias="labelValueLengthLimit")] = None
    namespace_selector: Annotated[NamespaceSelector | None, Field(alias="namespaceSelector")] = None
    native_histogram_bucket_limit: Annotated[
        int | None, Field(alias="nativeHistogramBucketLimit")
    ] = None
    native_histogram_min_bucket_factor: Annotated[
        IntOrString | None, Field(alias="nativeHistogramMinBucketFactor")
    ] = None
    pod_target_labels: Annotated[list[str] | None, Field(alias="podTargetLabels")] = None
    sample_limit: Annotated[int | None, Field(alias="sampleLimit")] = None
    scrape_class: Annotated[str | None, Field(alias="scrapeClass", min_length=1)] = None
    scrape_classic_histograms: Annotated[bool | None, Field(alias="scrapeClassicHistograms")] = None
    scrape_protocols: Annotated[
        list[
            Literal[
                "PrometheusProto",
                "OpenMetricsText0.0.1",
                "OpenMetricsText1.0.0",
                "PrometheusText0.0.4",
                "PrometheusText1.0.0",
            ]
        ]
        | None,
        Field(alias="scrapeProtocols"),
    ] = None
    selector: LabelSelector
    selector_mechanism: Annotated[
        Literal["RelabelConfig", "RoleSelector"] | None, Field(alias="selectorMechanism")
    ] = None
    target_labels: Annotated[list[str] | None, Field(alias="targetLabels")] = None
    target_limit: Annotated[int | None, Field(alias="targetLimit")] = None


class ServiceMonitor(Manifest):
    api_version: Annotated[Literal["monitoring.coreos.com/v1"], Field(alias="apiVersion")] = (
        "monitoring.coreos.com/v1"
    )
    kind: Literal["ServiceMonitor"] = "ServiceMonitor"
    metadata: ObjectMeta
    spec: ServiceMonitorSpec
