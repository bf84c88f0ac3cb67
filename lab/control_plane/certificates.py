"""Keys and certificates of one lab: a CA, the API server, its clients, service account tokens."""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from lab.node.init import BRIDGE_ADDRESS

_LIFETIME = datetime.timedelta(days=365)
_RENEWED_BEFORE = datetime.timedelta(days=7)
KUBERNETES_ADDRESS = "10.96.0.1"
"""The first address of the Services' range: that of the Service `kubernetes`."""


@dataclass(frozen=True)
class Identity:
    """A client as the API server's authentication sees it."""

    file: str
    user: str
    groups: tuple[str, ...]


IDENTITIES = (
    Identity("admin", "voicemesh-lab-admin", ("system:masters",)),
    Identity("controller-manager", "system:kube-controller-manager", ()),
    # The user that istiod's service account token would make of it, so that the roles of Istio's
    # chart decide what it may do.
    Identity(
        "istiod",
        "system:serviceaccount:istio-system:istiod",
        ("system:serviceaccounts", "system:serviceaccounts:istio-system", "system:authenticated"),
    ),
)


@dataclass(frozen=True)
class Certificates:
    """Files in `directory`: NAME.crt and NAME.key; ca, api-server, each identity, accounts.key."""

    directory: Path

    def certificate(self, name: str) -> Path:
        """PEM certificate."""
        return self.directory / f"{name}.crt"

    def key(self, name: str) -> Path:
        """PEM private key, mode 0600."""
        return self.directory / f"{name}.key"

    def public_key(self, name: str) -> Path:
        """PEM public key."""
        return self.directory / f"{name}.pub"

    @property
    def digest(self) -> str:
        """Changes when the certificates are made anew."""
        return hashlib.sha256(self.certificate("ca").read_bytes()).hexdigest()[:16]

    def ensure(self) -> None:
        """Make all of them unless they are there and valid for another week."""
        if self._valid():
            return
        made = self.directory.with_name(f"{self.directory.name}.new")
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir(mode=0o700, parents=True)
        _make(Certificates(made))
        shutil.rmtree(self.directory, ignore_errors=True)
        made.rename(self.directory)

    def _valid(self) -> bool:
        ca = self.certificate("ca")
        needed = [ca, self.public_key("accounts"), self.certificate("api-server")]
        needed += [self.certificate(identity.file) for identity in IDENTITIES]
        if not all(file.exists() for file in needed):
            return False
        until = x509.load_pem_x509_certificate(ca.read_bytes()).not_valid_after_utc
        return until - _RENEWED_BEFORE > datetime.datetime.now(datetime.UTC)


def _make(files: Certificates) -> None:
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "voicemesh-lab")])
    ca = (
        _unsigned(ca_name, ca_name, ca_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(certificates=True), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    _write(files, "ca", ca_key, ca)

    names = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"]
    addresses = ["127.0.0.1", KUBERNETES_ADDRESS, BRIDGE_ADDRESS]
    subjects = [x509.DNSName(name) for name in [*names, "kubernetes.default.svc.cluster.local"]]
    server_key = ec.generate_private_key(ec.SECP256R1())
    server = (
        _unsigned(_name("kube-apiserver", ()), ca_name, server_key)
        .add_extension(
            x509.SubjectAlternativeName(
                [*subjects, *(x509.IPAddress(ipaddress.ip_address(one)) for one in addresses)]
            ),
            critical=False,
        )
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    _write(files, "api-server", server_key, server)

    for identity in IDENTITIES:
        key = ec.generate_private_key(ec.SECP256R1())
        client = (
            _unsigned(_name(identity.user, identity.groups), ca_name, key)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
            .sign(ca_key, hashes.SHA256())
        )
        _write(files, identity.file, key, client)

    accounts = ec.generate_private_key(ec.SECP256R1())
    _write(files, "accounts", accounts, None)
    files.public_key("accounts").write_bytes(
        accounts.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )


def _name(user: str, groups: Sequence[str]) -> x509.Name:
    """Kubernetes reads the common name as user and each organisation as a group."""
    organisations = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
    return x509.Name([*organisations, x509.NameAttribute(NameOID.COMMON_NAME, user)])


def _unsigned(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + _LIFETIME)
    )


def _usage(*, certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=certificates,
        crl_sign=certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _write(
    files: Certificates,
    name: str,
    key: ec.EllipticCurvePrivateKey,
    certificate: x509.Certificate | None,
) -> None:
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    descriptor = os.open(files.key(name), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as handle:
        handle.write(pem)
    if certificate is not None:
        files.certificate(name).write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
