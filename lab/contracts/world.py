"""The running mesh as contracts see it: where things are, and what the proxies logged."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
from base64 import b64decode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from components.gateway_workload import GATEWAY
from lab.contracts.contract import BALANCED, Call, Line
from lab.data_plane import DataPlane
from lab.errors import LabError
from lab.exchange import Request, Tls
from lab.infrastructure import COLLECTOR, JWKS, OUTSIDE
from lab.pod import recorded

AGENT = "voicemesh-contract"
NUMBERED = f"{AGENT}/?"
"""Begins a User-Agent of a call's own by which the lines about the call are found all the same."""


@dataclass(frozen=True)
class Logged:
    """What one proxy wrote about a request."""

    proxy: str
    fields: Mapping[str, Any]

    def __str__(self) -> str:
        told = self.fields
        flags = f", flags {told['flags']}" if told.get("flags", "-") != "-" else ""
        return f"{self.proxy}: {told.get('code')} {told.get('code_details', '')}{flags}"


class World:
    """Pods, addresses, certificates and logs of a lab whose pods are ready."""

    def __init__(self, data_plane: DataPlane) -> None:
        self.data_plane = data_plane
        self.look()
        self._offsets = {path: path.stat().st_size for path in self._logs()}
        self._spans_from = self._collector_log.stat().st_size

    def look(self) -> None:
        """See which pods there are now."""
        self.pods = [record for record in recorded(self.data_plane.pods) if _alive(record)]

    def resolve(self, call: Call, number: str) -> tuple[int, Request]:
        """The process whose network a call starts in, and its request with real addresses."""
        request = call.request
        headers = request.headers
        names = {name.lower() for name, _ in headers}
        if "user-agent" not in names:
            headers = (*headers, ("user-agent", f"{AGENT}/{number}"))
        headers = tuple(
            (name, value.replace(NUMBERED, f"{AGENT}/{number}", 1)) for name, value in headers
        )
        kind = call.caller.kind
        if kind == "client" and "x-forwarded-for" not in names:
            headers = (*headers, ("x-forwarded-for", client_address(number)))
        tls = request.tls
        if kind == "identity":
            tls = Tls(
                # Services need no name; the gateway has a server for each host.
                server_name=request.tls.server_name if request.tls else "",
                alpn=("istio",) if not request.http2 else ("istio", "h2"),
                certificate=str(self._certificate(call.caller.name, call.caller.authority)),
            )
        where = {
            "client": lambda: self._pod(OUTSIDE),
            "plain": lambda: self._pod(JWKS),
            "identity": lambda: self._pod(JWKS),
            "service": lambda: self._pod(call.caller.name),
        }[kind]()
        resolved = replace(
            request, address=self._address(request.address), headers=headers, tls=tls
        )
        return where["pid"], resolved

    def _address(self, address: str) -> str:
        kind, _, rest = address.partition(":")
        if kind == "gateway":
            index, _, port = rest.rpartition(":")
            if not (gateways := self.all(GATEWAY)):
                raise LabError(f"no pod of {GATEWAY} runs")
            return f"{gateways[int(index or 0) % len(gateways)]['address']}:{port}"
        if kind == BALANCED:
            return f"{self._balanced}:{rest}"
        if kind == "pod":
            name, _, port = rest.rpartition(":")
            return f"{self._pod(name)['address']}:{port}"
        if kind == "service":
            name, _, port = rest.rpartition(":")
            namespace = self.data_plane.settings.namespaces.apps
            return f"{name}.{namespace}.svc.cluster.local:{port}"
        return address

    @cached_property
    def _balanced(self) -> str:
        """The gateways' cluster IP, behind which the node's service proxy picks a ready one."""
        service = self.data_plane.lab.kubectl.get(
            "service", GATEWAY, "-n", self.data_plane.settings.namespaces.mesh
        )
        return str(service["spec"]["clusterIP"])

    def all(self, app: str) -> list[Mapping[str, Any]]:
        """Records of all pods of an app."""
        return [record for record in self.pods if record["labels"].get("app") == app]

    def _pod(self, app: str) -> Mapping[str, Any]:
        """A pod of an app; of `APP@VERSION` one of that version."""
        app, _, version = app.partition("@")
        found = [
            record
            for record in self.all(app)
            if not version or record["labels"].get("version") == version
        ]
        if not found:
            raise LabError(f"no pod of {app}{f' {version}' if version else ''} runs")
        return found[0]

    def _logs(self) -> Iterable[Path]:
        for record in self.pods:
            proxy = record["containers"].get("istio-proxy")
            # A pod that was killed takes its logs with it.
            if proxy and (path := Path(proxy["log"])).exists():
                yield path

    def logged(self, number: str) -> list[Logged]:
        """Lines of the access logs, all proxies, about the request of that number."""
        wanted = (f'"{AGENT}/{number}"', f'"{AGENT}/{number} ')  # gRPC adds its own agent
        found = []
        for path in self._logs():
            with path.open(errors="replace") as file:
                file.seek(self._offsets.get(path, 0))
                for line in file:
                    if line.startswith("{") and any(text in line for text in wanted):
                        fields = json.loads(line)
                        if fields.get("log") == "access":
                            found.append(Logged(path.parent.name.split("_", 1)[-1], fields))
        return found

    def lines(self, numbers: Sequence[str]) -> list[list[Line]]:
        """For each number the lines of all logs, audit too, about the request of that number."""
        found: dict[str, list[Line]] = {number: [] for number in numbers}
        audits: list[Line] = []
        for proxy, line in self._written():
            if f'"{AGENT}/' in line:
                fields = json.loads(line)
                agent, *_ = str(fields.get("user_agent", "")).split(" ")
                number = agent.removeprefix(f"{AGENT}/")
                if number in found:
                    found[number].append({**fields, "proxy": proxy})
            elif '"audit"' in line:
                audits.append({**json.loads(line), "proxy": proxy})
        # The audit log does not name user agents; the request's id joins the two.
        requests = {
            str(access["request_id"]): number
            for number, lines in found.items()
            for access in lines
            if access.get("request_id")
        }
        for audit in audits:
            if audit.get("log") == "audit" and (of := requests.get(str(audit["request_id"]))):
                found[of].append(audit)
        return [found[number] for number in numbers]

    def _written(self) -> Iterable[tuple[str, str]]:
        for path in self._logs():
            with path.open(errors="replace") as file:
                file.seek(self._offsets.get(path, 0))
                for line in file:
                    if line.startswith("{") and line.endswith("}\n"):
                        yield path.parent.name.split("_", 1)[-1], line

    def spans(self) -> list[Line]:
        """The spans that the collector got since this object was made."""
        path = self._collector_log
        with path.open(errors="replace") as file:
            file.seek(self._spans_from)
            return [
                json.loads(line) for line in file if line.startswith("{") and line.endswith("}\n")
            ]

    @property
    def _collector_log(self) -> Path:
        return Path(self._pod(COLLECTOR)["containers"][COLLECTOR]["log"])

    def _certificate(self, identity: str, authority: str) -> Path:
        """A certificate for a SPIFFE id, by the mesh's own CA or by another."""
        digest = hashlib.sha256(f"{identity} {authority}".encode()).hexdigest()[:16]
        directory = self.data_plane.lab.directory.path / "identities"
        path = directory / f"{digest}.pem"
        if path.exists() and path.stat().st_mtime > self._authority_since:
            return path
        directory.mkdir(mode=0o700, exist_ok=True)
        key = ec.generate_private_key(ec.SECP256R1())
        ca_name, ca_key, ca_pem = (
            self._mesh_authority if authority == "mesh" else _foreign_authority()
        )
        now = datetime.datetime.now(datetime.UTC)
        leaf = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(ca_name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=5))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(
                x509.SubjectAlternativeName([x509.UniformResourceIdentifier(identity)]),
                critical=True,
            )
            .sign(ca_key, hashes.SHA256())
        )
        pem = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        path.unlink(missing_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem + leaf.public_bytes(serialization.Encoding.PEM) + ca_pem)
        return path

    @cached_property
    def _authority_since(self) -> float:
        path = self.data_plane.lab.certificates.certificate("ca")
        return path.stat().st_mtime

    @cached_property
    def _mesh_authority(self) -> tuple[x509.Name, Any, bytes]:
        secret = self.data_plane.lab.kubectl.get(
            "secret", "istio-ca-secret", "-n", self.data_plane.settings.namespaces.mesh
        )
        certificate = b64decode(secret["data"]["ca-cert.pem"])
        key = serialization.load_pem_private_key(b64decode(secret["data"]["ca-key.pem"]), None)
        return x509.load_pem_x509_certificate(certificate).subject, key, certificate


def _foreign_authority() -> tuple[x509.Name, Any, bytes]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "foreign.example")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    return name, key, certificate.public_bytes(serialization.Encoding.PEM)


def client_address(number: str) -> str:
    """An address of the benchmarking network (RFC 2544), one for each contract.

    Limits count by address, so that no contract uses up what another is allowed.
    """
    digest = hashlib.sha256(number.rsplit("/", 1)[0].encode()).digest()
    return f"198.{18 + digest[0] % 2}.{digest[1]}.{digest[2] or 1}"


def _alive(record: Mapping[str, Any]) -> bool:
    return bool(record.get("address"))
