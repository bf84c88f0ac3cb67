"""Wire types: Gateway.

Generated from the CRDs of istio.io/api v1.31.1; do not edit. Regenerate with `python -m schema`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from components.wire import Manifest, Message, ObjectMeta


class Port(Message):
    name: str
    number: Annotated[int, Field(ge=0, le=4294967295)]
    protocol: str


class ServerTLSSettingsTLSCertificate(Message):
    ca_certificates: Annotated[str | None, Field(alias="caCertificates")] = None
    private_key: Annotated[str | None, Field(alias="privateKey")] = None
    server_certificate: Annotated[str | None, Field(alias="serverCertificate")] = None


class ServerTLSSettings(Message):
    at_most_one = (
        ("tls_certificates", "credential_names"),
        ("credential_name", "credential_names"),
        ("credential_names", "tls_certificates"),
    )

    ca_cert_credential_name: Annotated[str | None, Field(alias="caCertCredentialName")] = None
    ca_certificates: Annotated[str | None, Field(alias="caCertificates")] = None
    ca_crl: Annotated[str | None, Field(alias="caCrl")] = None
    cipher_suites: Annotated[list[str] | None, Field(alias="cipherSuites")] = None
    credential_name: Annotated[str | None, Field(alias="credentialName")] = None
    credential_names: Annotated[
        list[str] | None, Field(alias="credentialNames", max_length=2, min_length=1)
    ] = None
    https_redirect: Annotated[bool | None, Field(alias="httpsRedirect")] = None
    insecure_skip_verify: Annotated[bool | None, Field(alias="insecureSkipVerify")] = None
    max_protocol_version: Annotated[
        Literal["TLS_AUTO", "TLSV1_0", "TLSV1_1", "TLSV1_2", "TLSV1_3"] | None,
        Field(alias="maxProtocolVersion"),
    ] = None
    min_protocol_version: Annotated[
        Literal["TLS_AUTO", "TLSV1_0", "TLSV1_1", "TLSV1_2", "TLSV1_3"] | None,
        Field(alias="minProtocolVersion"),
    ] = None
    mode: (
        Literal[
            "PASSTHROUGH", "SIMPLE", "MUTUAL", "AUTO_PASSTHROUGH", "ISTIO_MUTUAL", "OPTIONAL_MUTUAL"
        ]
        | None
    ) = None
    private_key: Annotated[str | None, Field(alias="privateKey")] = None
    server_certificate: Annotated[str | None, Field(alias="serverCertificate")] = None
    subject_alt_names: Annotated[list[str] | None, Field(alias="subjectAltNames")] = None
    tls_certificates: Annotated[
        list[ServerTLSSettingsTLSCertificate] | None,
        Field(alias="tlsCertificates", max_length=2, min_length=1),
    ] = None
    verify_certificate_hash: Annotated[list[str] | None, Field(alias="verifyCertificateHash")] = (
        None
    )
    verify_certificate_spki: Annotated[list[str] | None, Field(alias="verifyCertificateSpki")] = (
        None
    )


class Server(Message):
    bind: str | None = None
    default_endpoint: Annotated[str | None, Field(alias="defaultEndpoint")] = None
    hosts: list[str]
    name: str | None = None
    port: Port
    tls: ServerTLSSettings | None = None


class GatewaySpec(Message):
    selector: dict[str, str] | None = None
    servers: list[Server] | None = None


class Gateway(Manifest):
    api_version: Annotated[Literal["networking.istio.io/v1"], Field(alias="apiVersion")] = (
        "networking.istio.io/v1"
    )
    kind: Literal["Gateway"] = "Gateway"
    metadata: ObjectMeta
    spec: GatewaySpec
