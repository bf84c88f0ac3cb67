"""Clients that send exactly the request of a case: identity, sender address, raw path, token."""

from __future__ import annotations

import datetime
import http.client
import json
import socket
import ssl
from functools import cached_property
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from joserfc import jwk, jwt

from semantics.request import Request, Token

TCP_HELLO = b"hello\n"
"""What a raw connection says, and hears back where it is let in."""
REFUSED = 0
"""Status of a connection that is cut or refused."""


class Identities:
    """A certificate authority and, below it, one certificate for each identity."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._authority = self._certificate("root", self._key, None, None)
        (directory / "ca.pem").write_bytes(self._authority.public_bytes(_PEM))
        self._contexts: dict[str, ssl.SSLContext] = {}

    def files(self, name: str, identity: str) -> dict[str, str]:
        """Paths of certificate, key and authority for an identity."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._certificate(name, key, self._authority, identity)
        files = {
            "certificate": self._directory / f"{name}.pem",
            "key": self._directory / f"{name}.key",
        }
        files["certificate"].write_bytes(certificate.public_bytes(_PEM))
        files["key"].write_bytes(
            key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )
        return {**{k: str(v) for k, v in files.items()}, "ca": str(self._directory / "ca.pem")}

    def context(self, identity: str) -> ssl.SSLContext:
        """A client's TLS context that shows the identity."""
        if identity not in self._contexts:
            files = self.files(f"client-{len(self._contexts)}", identity)
            context = ssl.create_default_context(cafile=files["ca"])
            context.check_hostname = False
            context.load_cert_chain(files["certificate"], files["key"])
            self._contexts[identity] = context
        return self._contexts[identity]

    def _certificate(
        self, name: str, key: Any, issuer: x509.Certificate | None, identity: str | None
    ) -> x509.Certificate:
        subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, name)])
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer.subject if issuer else subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(
                x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True
            )
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
        )
        if identity is None:
            builder = builder.add_extension(_CA_USAGE, critical=True)
        else:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([x509.UniformResourceIdentifier(identity)]),
                critical=False,
            )
        return builder.sign(self._key, hashes.SHA256())


_PEM = serialization.Encoding.PEM
_CA_USAGE = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


class Issuer:
    """Signs tokens; one key is published, the other one makes tokens that must be refused."""

    def __init__(self) -> None:
        self._key = jwk.ECKey.generate_key("P-256", {"kid": "published", "alg": "ES256"})
        self._other = jwk.ECKey.generate_key("P-256", {"kid": "published", "alg": "ES256"})

    @cached_property
    def jwks(self) -> str:
        """The published keys as JSON."""
        return json.dumps({"keys": [self._key.as_dict(private=False)]})

    def sign(self, token: Token) -> str:
        """The token as it goes over the wire."""
        key = self._key if token.valid else self._other
        return str(jwt.encode({"alg": "ES256", "kid": "published"}, dict(token.claims), key))


def send(request: Request, address: str, identities: Identities, issuer: Issuer) -> int:
    """The status that comes back; REFUSED where the connection is cut."""
    connection = _connection(request, address, identities)
    headers = {
        "host": request.host,
        "x-forwarded-for": request.client_ip,
        **request.headers,
        "content-length": "0",
    }
    if request.token is not None:
        headers["authorization"] = f"Bearer {issuer.sign(request.token)}"
    try:
        connection.putrequest(
            request.method, request.path, skip_host=True, skip_accept_encoding=True
        )
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        return connection.getresponse().status
    except (ConnectionError, ssl.SSLError, http.client.BadStatusLine):
        return REFUSED
    finally:
        connection.close()


def _connection(
    request: Request, address: str, identities: Identities
) -> http.client.HTTPConnection:
    sender = (request.source_ip, 0)
    if request.peer is None:
        return http.client.HTTPConnection(address, request.port, 10, sender)
    return http.client.HTTPSConnection(
        address,
        request.port,
        timeout=10,
        source_address=sender,
        context=identities.context(request.peer),
    )


def send_tcp(request: Request, address: str, identities: Identities) -> bytes:
    """What a raw connection reads; empty where it is cut."""
    try:
        with socket.create_connection((address, request.port), 10, (request.source_ip, 0)) as plain:
            if request.peer is None:
                plain.sendall(TCP_HELLO)
                return plain.recv(64)
            with identities.context(request.peer).wrap_socket(plain) as secured:
                secured.sendall(TCP_HELLO)
                return secured.recv(64)
    except (ConnectionError, ssl.SSLError):
        return b""
