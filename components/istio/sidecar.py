"""Wire types: Sidecar.

Generated from the CRDs of istio.io/api v1.31.1; do not edit. Regenerate with `python -m schema`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import TypeAliasType

from components.istio.destination_rule import ConnectionPoolSettings
from components.istio.gateway import ServerTLSSettings
from components.istio.virtual_service import Destination
from components.wire import Manifest, Message, ObjectMeta


class SidecarPort(Message):
    name: str | None = None
    number: Annotated[int | None, Field(ge=0, le=4294967295)] = None
    protocol: str | None = None


class IstioEgressListener(Message):
    bind: str | None = None
    capture_mode: Annotated[
        Literal["DEFAULT", "IPTABLES", "NONE"] | None, Field(alias="captureMode")
    ] = None
    hosts: list[str]
    port: SidecarPort | None = None


class IstioIngressListener(Message):
    bind: str | None = None
    capture_mode: Annotated[
        Literal["DEFAULT", "IPTABLES", "NONE"] | None, Field(alias="captureMode")
    ] = None
    connection_pool: Annotated[ConnectionPoolSettings | None, Field(alias="connectionPool")] = None
    default_endpoint: Annotated[str | None, Field(alias="defaultEndpoint")] = None
    port: SidecarPort
    tls: ServerTLSSettings | None = None


class OutboundTrafficPolicy(Message):
    egress_proxy: Annotated[Destination | None, Field(alias="egressProxy")] = None
    mode: Literal["REGISTRY_ONLY", "ALLOW_ANY"] | None = None


LabelsValue = TypeAliasType("LabelsValue", Annotated[str, Field(max_length=63, pattern="^[^*]*$")])


class WorkloadSelector(Message):
    labels: dict[str, LabelsValue] | None = None


class SidecarSpec(Message):
    egress: list[IstioEgressListener] | None = None
    inbound_connection_pool: Annotated[
        ConnectionPoolSettings | None, Field(alias="inboundConnectionPool")
    ] = None
    ingress: list[IstioIngressListener] | None = None
    outbound_traffic_policy: Annotated[
        OutboundTrafficPolicy | None, Field(alias="outboundTrafficPolicy")
    ] = None
    workload_selector: Annotated[WorkloadSelector | None, Field(alias="workloadSelector")] = None


class Sidecar(Manifest):
    api_version: Annotated[Literal["networking.istio.io/v1"], Field(alias="apiVersion")] = (
        "networking.istio.io/v1"
    )
    kind: Literal["Sidecar"] = "Sidecar"
    metadata: ObjectMeta
    spec: SidecarSpec
