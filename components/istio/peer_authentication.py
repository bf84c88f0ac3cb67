"""Wire types: PeerAuthentication.

Generated from the CRDs of istio.io/api v1.31.1; do not edit. Regenerate with `python -m schema`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from components.istio.selector import WorkloadSelector
from components.wire import Manifest, Message, ObjectMeta


class MutualTLS(Message):
    mode: Literal["UNSET", "DISABLE", "PERMISSIVE", "STRICT"] | None = None


class PeerAuthenticationSpec(Message):
    mtls: MutualTLS | None = None
    port_level_mtls: Annotated[dict[str, MutualTLS] | None, Field(alias="portLevelMtls")] = None
    selector: WorkloadSelector | None = None


class PeerAuthentication(Manifest):
    api_version: Annotated[Literal["security.istio.io/v1"], Field(alias="apiVersion")] = (
        "security.istio.io/v1"
    )
    kind: Literal["PeerAuthentication"] = "PeerAuthentication"
    metadata: ObjectMeta
    spec: PeerAuthenticationSpec
