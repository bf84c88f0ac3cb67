"""Wire types: RequestAuthentication.

Generated from the CRDs of istio.io/api v1.31.1; do not edit. Regenerate with `python -m schema`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import TypeAliasType

from components.istio.selector import PolicyTargetReference, WorkloadSelector
from components.wire import Manifest, Message, ObjectMeta, PositiveDuration


class JWTHeader(Message):
    name: Annotated[str, Field(min_length=1)]
    prefix: str | None = None


class ClaimToHeader(Message):
    claim: Annotated[str, Field(min_length=1)]
    header: Annotated[str, Field(min_length=1, pattern="^[-_A-Za-z0-9]+$")]


AudiencesValue = TypeAliasType("AudiencesValue", Annotated[str, Field(min_length=1)])


FromCookiesValue = TypeAliasType("FromCookiesValue", Annotated[str, Field(min_length=1)])


FromParamsValue = TypeAliasType("FromParamsValue", Annotated[str, Field(min_length=1)])


SpaceDelimitedClaimsValue = TypeAliasType(
    "SpaceDelimitedClaimsValue",
    Annotated[str, Field(min_length=1)],
)


class JWTRule(Message):
    at_most_one = (("jwks_uri", "jwks"),)

    audiences: list[AudiencesValue] | None = None
    forward_original_token: Annotated[bool | None, Field(alias="forwardOriginalToken")] = None
    from_cookies: Annotated[list[FromCookiesValue] | None, Field(alias="fromCookies")] = None
    from_headers: Annotated[list[JWTHeader] | None, Field(alias="fromHeaders")] = None
    from_params: Annotated[list[FromParamsValue] | None, Field(alias="fromParams")] = None
    issuer: Annotated[str | None, Field(min_length=1)] = None
    jwks: str | None = None
    jwks_uri: Annotated[str | None, Field(alias="jwksUri", max_length=2048, min_length=1)] = None
    output_claim_to_headers: Annotated[
        list[ClaimToHeader] | None, Field(alias="outputClaimToHeaders")
    ] = None
    output_payload_to_header: Annotated[str | None, Field(alias="outputPayloadToHeader")] = None
    space_delimited_claims: Annotated[
        list[SpaceDelimitedClaimsValue] | None, Field(alias="spaceDelimitedClaims", max_length=64)
    ] = None
    timeout: PositiveDuration | None = None


class RequestAuthenticationSpec(Message):
    at_most_one = (("selector", "target_ref", "target_refs"),)

    jwt_rules: Annotated[list[JWTRule] | None, Field(alias="jwtRules", max_length=4096)] = None
    selector: WorkloadSelector | None = None
    target_ref: Annotated[PolicyTargetReference | None, Field(alias="targetRef")] = None
    target_refs: Annotated[
        list[PolicyTargetReference] | None, Field(alias="targetRefs", max_length=16)
    ] = None


class RequestAuthentication(Manifest):
    api_version: Annotated[Literal["security.istio.io/v1"], Field(alias="apiVersion")] = (
        "security.istio.io/v1"
    )
    kind: Literal["RequestAuthentication"] = "RequestAuthentication"
    metadata: ObjectMeta
    spec: RequestAuthenticationSpec
