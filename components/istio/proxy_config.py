"""Wire types: ProxyConfig.

Generated from the CRDs of istio.io/api v1.31.1; do not edit. Regenerate with `python -m schema`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import TypeAliasType

from components.istio.selector import WorkloadSelector
from components.wire import Manifest, Message, ObjectMeta


class ProxyImage(Message):
    image_type: Annotated[str | None, Field(alias="imageType")] = None


EnvironmentVariablesValue = TypeAliasType(
    "EnvironmentVariablesValue",
    Annotated[str, Field(max_length=2048)],
)


class ProxyConfigSpec(Message):
    concurrency: Annotated[int | None, Field(ge=0)] = None
    environment_variables: Annotated[
        dict[str, EnvironmentVariablesValue] | None, Field(alias="environmentVariables")
    ] = None
    image: ProxyImage | None = None
    selector: WorkloadSelector | None = None


class ProxyConfig(Manifest):
    api_version: Annotated[Literal["networking.istio.io/v1beta1"], Field(alias="apiVersion")] = (
        "networking.istio.io/v1beta1"
    )
    kind: Literal["ProxyConfig"] = "ProxyConfig"
    metadata: ObjectMeta
    spec: ProxyConfigSpec
