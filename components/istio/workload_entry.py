"""Wire types: what several kinds share from workload_entry.

Generated from the CRDs of istio.io/api v1.31.1; do not edit. Regenerate with `python -m schema`.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from typing_extensions import TypeAliasType

from components.wire import Message

PortsValue = TypeAliasType("PortsValue", Annotated[int, Field(ge=1, le=65535)])


class WorkloadEntry(Message):
    address: Annotated[str | None, Field(max_length=256)] = None
    labels: dict[str, str] | None = None
    locality: Annotated[str | None, Field(max_length=2048)] = None
    network: Annotated[str | None, Field(max_length=2048)] = None
    ports: dict[str, PortsValue] | None = None
    service_account: Annotated[str | None, Field(alias="serviceAccount", max_length=253)] = None
    weight: Annotated[int | None, Field(ge=0, le=4294967295)] = None
