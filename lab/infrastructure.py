"""What the lab adds to the cluster, beside the stack: everything here is the lab's alone.

Servers that the platform has and the stack only refers to (token issuers, a span collector), the
certificate that a real environment gets from its certificate manager, and the one object that
upstream Envoy needs in the place of Istio's own build.
"""

from __future__ import annotations

import base64
import datetime
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from lab import network
from lab.pod import ROUTED
from lab.tokens import Issuers
from model.settings import Settings

Manifest = dict[str, Any]
IMAGE = "voicemesh-lab"
LABELS = {"app.kubernetes.io/managed-by": "voicemesh-lab"}
JWKS, COLLECTOR = "jwks", "otel-collector"
OUTSIDE = "lab-outside"
"""The pod, and the namespace, of everything outside: clients, and hosts that services call. istiod
does not look at that namespace."""
UNVERSIONED = "unknown"
"""The version that the lab's proxies state: pilot-agent here is built without one."""
UNDECLARED_HOST = "undeclared.example"
"""A host outside that no service declares."""


def objects(settings: Settings, issuers: Issuers, certificate: Certificate) -> Iterator[Manifest]:
    """The lab's own objects; the stack's namespaces must exist."""
    infra = settings.namespaces.infra
    yield {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _metadata(JWKS, infra),
        "data": issuers.key_sets(settings.authentication.issuers),
    }
    yield from _server(
        JWKS,
        infra,
        8080,
        ["lab.jwks", "--port=8080", "--directory=/keys"],
        [{"name": "keys", "configMap": {"name": JWKS}}],
    )
    yield from _server(
        COLLECTOR,
        infra,
        settings.telemetry.collector_port,
        ["lab.otlp", f"--port={settings.telemetry.collector_port}"],
        [],
    )
    yield {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/tls",
        "metadata": _metadata(settings.gateway.tls.credential_name, settings.namespaces.mesh),
        "data": {"tls.crt": _encoded(certificate.chain), "tls.key": _encoded(certificate.key)},
    }
    yield without_istio_stats(settings.namespaces.mesh)
    yield from _outside(certificate)


def _outside(certificate: Certificate) -> Iterator[Manifest]:
    yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": OUTSIDE}}
    yield {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/tls",
        "metadata": _metadata("certificate", OUTSIDE),
        "data": {"tls.crt": _encoded(certificate.chain), "tls.key": _encoded(certificate.key)},
    }
    deployment, _ = _server(
        OUTSIDE,
        OUTSIDE,
        443,
        ["lab.outside", "--directory=/certificate"],
        [{"name": "certificate", "secret": {"secretName": "certificate"}}],
    )
    template = deployment["spec"]["template"]
    template["metadata"]["annotations"] = {
        ROUTED: ",".join(str(found) for found in network.OUTSIDE)
    }
    template["spec"]["securityContext"] = {
        "sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}]
    }
    yield deployment


def without_istio_stats(namespace: str) -> Manifest:
    """Removes the filter `istio.stats`, which upstream Envoy does not have.

    istiod adds it wherever metrics apply; an Envoy that does not know a filter refuses the whole
    listener. Nothing else of what istiod sends is changed, and nothing of what it would send to
    Istio's own proxies: these name their version.
    """
    contexts = ("SIDECAR_INBOUND", "SIDECAR_OUTBOUND", "GATEWAY")
    removed = [
        {
            "applyTo": kind,
            "match": {
                "context": context,
                "proxy": {"proxyVersion": f"^{UNVERSIONED}$"},
                "listener": {"filterChain": {"filter": {"name": network, **inner}}},
            },
            "patch": {"operation": "REMOVE"},
        }
        for context in contexts
        for kind, network, inner in (
            (
                "HTTP_FILTER",
                "envoy.filters.network.http_connection_manager",
                {"subFilter": {"name": "istio.stats"}},
            ),
            ("NETWORK_FILTER", "istio.stats", {}),
        )
    ]
    return {
        "apiVersion": "networking.istio.io/v1alpha3",
        "kind": "EnvoyFilter",
        "metadata": _metadata("lab-without-istio-stats", namespace),
        "spec": {"priority": 100, "configPatches": removed},
    }


def _server(
    name: str, namespace: str, port: int, arguments: list[str], volumes: list[Manifest]
) -> Iterator[Manifest]:
    labels = {"app": name}
    mounts = [{"name": volume["name"], "mountPath": f"/{volume['name']}"} for volume in volumes]
    container = {
        "name": name,
        "image": IMAGE,
        "args": arguments,
        "ports": [{"name": "serving", "containerPort": port}],
        "readinessProbe": {"tcpSocket": {"port": "serving"}, "periodSeconds": 5},
        "volumeMounts": mounts,
    }
    yield {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(name, namespace),
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [container], "volumes": volumes},
            },
        },
    }
    protocol = "grpc" if name == COLLECTOR else "http"
    yield {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(name, namespace),
        "spec": {
            "selector": labels,
            "ports": [
                {"name": protocol, "port": port, "targetPort": "serving", "appProtocol": protocol}
            ],
        },
    }


def _metadata(name: str, namespace: str) -> Manifest:
    return {"name": name, "namespace": namespace, "labels": LABELS}


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


@dataclass(frozen=True)
class Certificate:
    """A server certificate of the public hosts and the CA that clients trust for it."""

    directory: Path

    @property
    def ca(self) -> Path:
        """The CA's certificate."""
        return self.directory / "ca.crt"

    @property
    def chain(self) -> bytes:
        """The server's certificate, PEM."""
        return (self.directory / "tls.crt").read_bytes()

    @property
    def key(self) -> bytes:
        """The server's key, PEM."""
        return (self.directory / "tls.key").read_bytes()

    def ensure(self, hosts: tuple[str, ...]) -> None:
        """Make it unless it is there; the CA's own key is thrown away."""
        if (self.directory / "tls.key").exists():
            return
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        ca_key, server_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        ca_name = _name("voicemesh lab public CA")
        ca = (
            _unsigned(ca_name, ca_name, ca_key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(ca_key, hashes.SHA256())
        )
        server = (
            _unsigned(_name(hosts[0]), ca_name, server_key)
            .add_extension(
                x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts]), critical=False
            )
            .sign(ca_key, hashes.SHA256())
        )
        self.ca.write_bytes(ca.public_bytes(serialization.Encoding.PEM))
        (self.directory / "tls.crt").write_bytes(server.public_bytes(serialization.Encoding.PEM))
        key = self.directory / "tls.key"
        key.touch(mode=0o600)
        key.write_bytes(
            server_key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


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
        .not_valid_after(now + datetime.timedelta(days=365))
    )
