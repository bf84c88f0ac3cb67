"""etcd, kube-apiserver and kube-controller-manager as parts of the node."""

from __future__ import annotations

import ssl
from pathlib import Path

import httpx

from lab.control_plane.certificates import Certificates
from lab.directory import LabDirectory
from lab.node.init import BRIDGE_ADDRESS
from lab.node.parts import Part
from lab.waiting import NotYet

API_PORT = 6443
ETCD_PORT = 2379
ETCD_PEER_PORT = 2380
CONTROLLER_MANAGER_PORT = 10257
SERVICE_RANGE = "10.96.0.0/16"
ISSUER = "https://kubernetes.default.svc"
NODE_URL = f"https://127.0.0.1:{API_PORT}"
"""The API server as processes of the node reach it."""


def etcd(program: Path, directory: LabDirectory) -> Part:
    """One member, whose data survive its restart but not a power cut."""
    client = f"http://127.0.0.1:{ETCD_PORT}"
    peer = f"http://127.0.0.1:{ETCD_PEER_PORT}"
    return Part(
        "etcd",
        (
            *(str(program), "--name=lab", f"--data-dir={directory.data}", "--unsafe-no-fsync"),
            *(f"--listen-client-urls={client}", f"--advertise-client-urls={client}"),
            *(f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}"),
            *(f"--initial-cluster=lab={peer}", "--log-level=warn"),
        ),
    )


def api_server(program: Path, certificates: Certificates) -> Part:
    """The API server with RBAC and the default admission plugins, as clusters run it."""
    return Part(
        "kube-apiserver",
        (
            *(str(program), f"--etcd-servers=http://127.0.0.1:{ETCD_PORT}"),
            *("--bind-address=127.0.0.1", f"--secure-port={API_PORT}"),
            *(f"--advertise-address={BRIDGE_ADDRESS}", "--endpoint-reconciler-type=none"),
            f"--tls-cert-file={certificates.certificate('api-server')}",
            f"--tls-private-key-file={certificates.key('api-server')}",
            f"--client-ca-file={certificates.certificate('ca')}",
            f"--service-account-issuer={ISSUER}",
            f"--service-account-key-file={certificates.public_key('accounts')}",
            f"--service-account-signing-key-file={certificates.key('accounts')}",
            f"--service-cluster-ip-range={SERVICE_RANGE}",
            *("--authorization-mode=RBAC", "--allow-privileged=true", "--profiling=false"),
        ),
        inputs=certificates.digest,
    )


def controller_manager(program: Path, certificates: Certificates, kubeconfig: Path) -> Part:
    """The controllers: Deployments make pods, Services get EndpointSlices, namespaces go."""
    return Part(
        "kube-controller-manager",
        (
            *(str(program), f"--kubeconfig={kubeconfig}", "--leader-elect=false"),
            *("--bind-address=127.0.0.1", f"--secure-port={CONTROLLER_MANAGER_PORT}"),
            *("--use-service-account-credentials", "--profiling=false"),
            f"--service-account-private-key-file={certificates.key('accounts')}",
            f"--root-ca-file={certificates.certificate('ca')}",
        ),
        inputs=certificates.digest,
    )


def ready(url: str, socket: Path | None = None, ca: Path | None = None) -> str:
    """The body of `GET url`, over a forwarder's Unix socket where one is given.

    Raises NotYet unless the answer is 200. Without `ca` a server's certificate is not checked:
    good enough to ask whether it is up, on a socket that is ours.
    """
    verify: ssl.SSLContext | bool = ssl.create_default_context(cafile=str(ca)) if ca else False
    transport = httpx.HTTPTransport(uds=str(socket) if socket else None, verify=verify)
    try:
        with httpx.Client(transport=transport, timeout=5, trust_env=False) as client:
            answer = client.get(url)
    except httpx.TransportError as error:
        raise NotYet(f"{url}: {error or type(error).__name__}") from None
    if answer.status_code != 200:
        failed = [line for line in answer.text.splitlines() if not line.startswith("[+]")]
        raise NotYet(f"{url}: {answer.status_code} {' '.join(failed)[:300]}")
    return answer.text
