"""Wire types: AuthorizationPolicy.

Generated from the CRDs of istio.io/api v1.31.1; do not edit. Regenerate with `python -m schema`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import TypeAliasType

from components.istio.selector import PolicyTargetReference, WorkloadSelector
from components.wire import Manifest, Message, ObjectMeta


class ExtensionProvider(Message):
    name: str | None = None


NotServiceAccountsValue = TypeAliasType(
    "NotServiceAccountsValue",
    Annotated[str, Field(max_length=320)],
)


ServiceAccountsValue = TypeAliasType("ServiceAccountsValue", Annotated[str, Field(max_length=320)])


class Source(Message):
    ip_blocks: Annotated[list[str] | None, Field(alias="ipBlocks")] = None
    namespaces: list[str] | None = None
    not_ip_blocks: Annotated[list[str] | None, Field(alias="notIpBlocks")] = None
    not_namespaces: Annotated[list[str] | None, Field(alias="notNamespaces")] = None
    not_principals: Annotated[list[str] | None, Field(alias="notPrincipals")] = None
    not_remote_ip_blocks: Annotated[list[str] | None, Field(alias="notRemoteIpBlocks")] = None
    not_request_principals: Annotated[list[str] | None, Field(alias="notRequestPrincipals")] = None
    not_service_accounts: Annotated[
        list[NotServiceAccountsValue] | None, Field(alias="notServiceAccounts", max_length=16)
    ] = None
    not_trust_domains: Annotated[list[str] | None, Field(alias="notTrustDomains")] = None
    principals: list[str] | None = None
    remote_ip_blocks: Annotated[list[str] | None, Field(alias="remoteIpBlocks")] = None
    request_principals: Annotated[list[str] | None, Field(alias="requestPrincipals")] = None
    service_accounts: Annotated[
        list[ServiceAccountsValue] | None, Field(alias="serviceAccounts", max_length=16)
    ] = None
    trust_domains: Annotated[list[str] | None, Field(alias="trustDomains")] = None


class RuleFrom(Message):
    source: Source | None = None


class Operation(Message):
    hosts: list[str] | None = None
    methods: list[str] | None = None
    not_hosts: Annotated[list[str] | None, Field(alias="notHosts")] = None
    not_methods: Annotated[list[str] | None, Field(alias="notMethods")] = None
    not_paths: Annotated[list[str] | None, Field(alias="notPaths")] = None
    not_ports: Annotated[list[str] | None, Field(alias="notPorts")] = None
    paths: list[str] | None = None
    ports: list[str] | None = None


class RuleTo(Message):
    operation: Operation | None = None


class Condition(Message):
    key: str
    not_values: Annotated[list[str] | None, Field(alias="notValues")] = None
    values: list[str] | None = None


class Rule(Message):
    from_: Annotated[list[RuleFrom] | None, Field(alias="from", max_length=512)] = None
    to: list[RuleTo] | None = None
    when: list[Condition] | None = None


class AuthorizationPolicySpec(Message):
    at_most_one = (("selector", "target_ref", "target_refs"),)

    action: Literal["ALLOW", "DENY", "AUDIT", "CUSTOM"] | None = None
    provider: ExtensionProvider | None = None
    rules: Annotated[list[Rule] | None, Field(max_length=512)] = None
    selector: WorkloadSelector | None = None
    target_ref: Annotated[PolicyTargetReference | None, Field(alias="targetRef")] = None
    target_refs: Annotated[
        list[PolicyTargetReference] | None, Field(alias="targetRefs", max_length=16)
    ] = None


class AuthorizationPolicy(Manifest):
    api_version: Annotated[Literal["security.istio.io/v1"], Field(alias="apiVersion")] = (
        "security.istio.io/v1"
    )
    kind: Literal["AuthorizationPolicy"] = "AuthorizationPolicy"
    metadata: ObjectMeta
    spec: AuthorizationPolicySpec
