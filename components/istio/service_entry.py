"""Wire types: ServiceEntry.

Generated from the CRDs of istio.io/api v1.31.1; do not edit. Regenerate with `python -m schema`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import TypeAliasType

from components.istio.sidecar import WorkloadSelector
from components.istio.workload_entry import WorkloadEntry
from components.wire import Manifest, Message, ObjectMeta


class ServicePort(Message):
    name: Annotated[str, Field(max_length=256)]
    number: Annotated[int, Field(ge=1, le=65535)]
    protocol: Annotated[str | None, Field(max_length=256)] = None
    target_port: Annotated[int | None, Field(alias="targetPort", ge=1, le=65535)] = None


AddressesValue = TypeAliasType("AddressesValue", Annotated[str, Field(max_length=64)])


class ServiceEntrySpec(Message):
    at_most_one = (("workload_selector", "endpoints"),)

    addresses: Annotated[list[AddressesValue] | None, Field(max_length=256)] = None
    endpoints: Annotated[list[WorkloadEntry] | None, Field(max_length=4096)] = None
    export_to: Annotated[list[str] | None, Field(alias="exportTo")] = None
    hosts: Annotated[list[str], Field(max_length=256, min_length=1)]
    location: Literal["MESH_EXTERNAL", "MESH_INTERNAL"] | None = None
    ports: Annotated[list[ServicePort] | None, Field(max_length=256)] = None
    resolution: Literal["NONE", "STATIC", "DNS", "DNS_ROUND_ROBIN", "DYNAMIC_DNS"] | None = None
    subject_alt_names: Annotated[list[str] | None, Field(alias="subjectAltNames")] = None
    workload_selector: Annotated[WorkloadSelector | None, Field(alias="workloadSelector")] = None


class ServiceEntry(Manifest):
    api_version: Annotated[Literal["networking.istio.io/v1"], Field(alias="apiVersion")] = (
        "networking.istio.io/v1"
    )
    kind: Literal["ServiceEntry"] = "ServiceEntry"
    metadata: ObjectMeta
    spec: ServiceEntrySpec
