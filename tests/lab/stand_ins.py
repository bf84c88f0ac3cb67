"""What a cluster has and no stack declares: pods of the services, the gateway's certificate."""

from __future__ import annotations

import base64
import datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from components.objects import Manifest
from model.access import Catalogue
from model.service import Service
from model.settings import Settings


def pods(settings: Settings, catalogue: Catalogue) -> list[Manifest]:
    """One injected pod for each version of each service, as the platform's own charts run them."""
    return [
        _pod(service, version, settings.namespaces.apps)
        for service in catalogue.services
        for version in [subset.version for subset in service.subsets] or ["v1"]
    ]


def _pod(service: Service, version: str, namespace: str) -> Manifest:
    ports = [{"name": port.name, "containerPort": port.number} for port in service.ports]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{service.name}-{version}",
            "namespace": namespace,
            "labels": {"app": service.name, "version": version},
            "annotations": {"sidecar.istio.io/status": "{}"},
        },
        "spec": {
            "serviceAccountName": service.name,
            "containers": [
                {"name": "app", "image": "registry.example.com/app:1", "ports": ports},
                {"name": "istio-proxy", "image": "registry.istio.io/release/proxyv2:1.31.1"},
            ],
        },
        "status": {"phase": "Running"},
    }


def certificate(settings: Settings) -> Manifest:
    """The gateway's TLS Secret, with a certificate made up for the public hosts."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, settings.domain)])
    now = datetime.datetime.now(datetime.UTC)
    hosts = x509.SubjectAlternativeName([x509.DNSName(host) for host in settings.public_hosts])
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=60))
        .add_extension(hosts, critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    data: dict[str, Any] = {
        "tls.crt": signed.public_bytes(pem),
        "tls.key": key.private_bytes(
            pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
    }
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/tls",
        "metadata": {
            "name": settings.gateway.tls.credential_name,
            "namespace": settings.namespaces.mesh,
        },
        "data": {name: base64.b64encode(content).decode() for name, content in data.items()},
    }
