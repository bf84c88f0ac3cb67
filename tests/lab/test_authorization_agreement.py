"""The evaluator says what a real Envoy does, for thousands of generated policies and requests.

Every case's policies go to the API server; istiod turns them into proxy configuration, Envoy
enforces it, and each request is sent for real. One disagreement fails the test, with its seed.
"""

from __future__ import annotations

import os
import socket
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from semantics.authentication import MtlsMode
from semantics.authorization import Guard
from semantics.mesh import Mesh
from semantics.objects import MeshObjects, Workload
from semantics.request import Request
from tests.lab.agreement.clients import REFUSED, TCP_HELLO, Identities, Issuer, send, send_tcp
from tests.lab.agreement.control_plane import policy_control_plane
from tests.lab.agreement.proxy import Site, inbound, listeners, running
from tests.unit.semantics.generated import NAMESPACE, PORTS, TCP_PORT, Case, generate

pytestmark = pytest.mark.lab

CASES = 130
FIRST_SEED = int(os.environ.get("VOICEMESH_FIRST_SEED", "0"))
"""Another number tries other policies and requests."""
REQUESTS = 18
TCP_REQUESTS = 3
MESH = Mesh(path_normalization="DECODE_AND_MERGE_SLASHES")


def _guard(case: Case, app: str) -> Guard:
    ports = {**dict.fromkeys(PORTS, True), TCP_PORT: False}
    workload = Workload(NAMESPACE, app, {"app": app}, ports=ports)
    return Guard(workload, MeshObjects(case.objects, MESH))


def _tcp_requests(case: Case) -> list[Request]:
    return [
        replace(request, port=TCP_PORT, http=False, remote_ip="", token=None)
        for request in case.requests[:TCP_REQUESTS]
    ]


def _as_clients_do(request: Request, guard: Guard) -> Request:
    """A client of the mesh sends plaintext to a port whose mode is DISABLE: it knows the mode."""
    if guard.mtls.of(request.port) is MtlsMode.DISABLE:
        return replace(request, peer=None)
    return request


def _sidecar() -> dict[str, Any]:
    """Gives the proxies inbound ports without Services."""
    protocols = {**dict.fromkeys(PORTS, "HTTP"), TCP_PORT: "TCP"}
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "Sidecar",
        "metadata": {"name": "ports", "namespace": NAMESPACE},
        "spec": {
            "ingress": [
                {
                    "port": {"number": port, "protocol": protocol, "name": f"p-{port}"},
                    "defaultEndpoint": f"127.0.0.1:{port}",
                }
                for port, protocol in protocols.items()
            ]
        },
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_verdicts_are_envoys(tmp_path: Path) -> None:
    issuer, identities = Issuer(), Identities(tmp_path)
    sites = [Site(f"case-{n}", f"127.30.{n // 250}.{n % 250 + 1}") for n in range(CASES)]
    cases = {
        site.app: generate(seed, requests=REQUESTS, app=site.app, jwks=issuer.jwks)
        for seed, site in enumerate(sites, FIRST_SEED)
    }
    all_ports = (*PORTS, TCP_PORT)
    with policy_control_plane(tmp_path / "lab") as control_plane:
        control_plane.make(NAMESPACE)
        control_plane.apply(NAMESPACE, (item for case in cases.values() for item in case.objects))
        control_plane.apply(NAMESPACE, [_sidecar()])
        made = inbound(control_plane.xds, NAMESPACE, cases, last=all_ports)
    tls = identities.files("server", "spiffe://cluster.local/ns/apps/sa/server")
    open_ports = [each for s in sites for each in listeners(s, made[s.app], all_ports, tls)]
    envoy = str(Path(sys.executable).with_name("envoy"))
    wrong: list[str] = []
    seen: Counter[int] = Counter()
    with running(envoy, tmp_path, open_ports, _free_port()):
        for site in sites:
            case = cases[site.app]
            guard = _guard(case, site.app)
            for request in case.requests:
                decision = guard.decide(request)
                status = send(_as_clients_do(request, guard), site.address, identities, issuer)
                seen[status] += 1
                if status != (200 if decision.allowed else decision.status):
                    wrong.append(f"seed {case.seed}: {status}, not {decision}: {request}")
            for request in _tcp_requests(case):
                allowed = guard.decide(request).allowed
                answer = send_tcp(_as_clients_do(request, guard), site.address, identities)
                seen[1 if answer else -1] += 1
                if (answer == TCP_HELLO) is not allowed:
                    wrong.append(f"seed {case.seed}: TCP {answer!r}, allowed {allowed}: {request}")
    total = seen.total()
    assert not wrong, f"{len(wrong)} of {total} differ:\n" + "\n".join(wrong[:10])
    assert total >= 2000
    # All kinds of answers came up, so agreement is not agreement on one answer.
    for status in (200, 401, 403, REFUSED, 1, -1):
        assert seen[status] >= 20, seen
