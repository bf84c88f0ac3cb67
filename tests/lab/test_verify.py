"""verify as its users call it: in the lab, and safely against a gateway that is anywhere else."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import yaml

from components.gateway_workload import GATEWAY
from lab.contracts import live as live_gateway
from lab.contracts.arrangements import pods
from lab.data_plane import DataPlane
from lab.errors import LabError
from lab.waiting import NotYet, until
from tests.lab.conftest import STACK
from tests.lab.mutations.mutant import MutantMesh
from tests.lab.mutations.mutation import Mutation, Objects, named, without

pytestmark = pytest.mark.lab
SECONDS = 300
Live = tuple[str, ...]


def called(*words: str, kubeconfig: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "COLUMNS": "200"}
    if kubeconfig:
        environment["KUBECONFIG"] = str(kubeconfig)
    return subprocess.run(
        [sys.executable, "-m", "cli.main", *words],
        capture_output=True, text=True, timeout=SECONDS, check=False, env=environment,
    )  # fmt: skip


@pytest.fixture(scope="module")
def live(mesh: DataPlane) -> Iterator[Live]:
    """Options that make the lab's gateway the one of a cluster somewhere, behind a port-forward."""
    address = pods(mesh, app=GATEWAY)[0]["address"]
    ports = mesh.lab.exposure.expose(
        "public", {"https": f"{address}:443", "http": f"{address}:80"}
    )  # fmt: skip
    forwarded = (f"--port=443={ports['https']}", f"--port=80={ports['http']}")
    yield ("verify", f"--stack={STACK}", "--safe", *forwarded)
    mesh.lab.parts.stop("public")


def test_safe_contracts_hold_through_the_public_address(
    mesh: DataPlane, live: Live, tmp_path: Path
) -> None:
    file = tmp_path / "results" / "junit.xml"
    found = called(
        *live, "--address=127.0.0.1", f"--ca={mesh.certificate.ca}", "--json", f"--junit={file}"
    )
    assert found.returncode == 0, found.stdout + found.stderr
    told = json.loads(found.stdout)
    assert (told["failed"], told["passed"]) == (0, len(told["contracts"]))
    assert {"jwt.none", "tls.versions", "tls.redirect"} <= {one["id"] for one in told["contracts"]}
    suite = ET.parse(file).getroot()
    assert suite.get("tests") == str(told["passed"])
    assert suite.get("failures") == "0"


def test_the_address_is_that_of_the_clusters_service(
    mesh: DataPlane, live: Live, tmp_path: Path
) -> None:
    context = yaml.safe_load(mesh.lab.kubeconfig.read_text())["current-context"]
    asked = (*live, f"--context={context}", f"--ca={mesh.certificate.ca}", "--only=tls.redirect")
    _publish(mesh, {"ingress": [{"ip": "127.0.0.1"}]})
    try:
        found = called(*asked, kubeconfig=mesh.lab.kubeconfig)
    finally:
        _publish(mesh, None)
    assert found.returncode == 0, found.stdout + found.stderr
    assert found.stdout.rstrip().endswith("1 passed, 0 failed")


def test_the_load_balancer_has_an_address(mesh: DataPlane) -> None:
    """Helm and the Pulumi engine wait for it; drills send their traffic to it."""
    _publish(mesh, None)

    def check() -> None:
        service = mesh.lab.kubectl.get(
            "service", GATEWAY, f"--namespace={mesh.settings.namespaces.mesh}"
        )
        wanted = [{"ip": service["spec"]["clusterIP"], "ipMode": "VIP"}]
        if service["status"]["loadBalancer"].get("ingress") != wanted:
            raise NotYet(f"{service['status']}, not {wanted}")

    until("the kubelet to give the address back", check, within=10)


def test_a_gateway_without_an_address_is_told(
    mesh: DataPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(mesh.lab.kubeconfig))
    context = yaml.safe_load(mesh.lab.kubeconfig.read_text())["current-context"]
    inside = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": GATEWAY, "namespace": "default"},
        "spec": {"ports": [{"port": 443}]},
    }
    mesh.lab.kubectl.apply([inside])
    try:
        with pytest.raises(LabError, match="has no public address yet; give one by --address"):
            live_gateway.public_address(context, "default")
    finally:
        mesh.lab.kubectl.run("delete", "service", GATEWAY, "--namespace=default")


def _publish(mesh: DataPlane, balancer: Any) -> None:
    mesh.lab.kubectl.run(
        *("patch", "service", GATEWAY, "--subresource=status", "--type=merge"),
        f"--namespace={mesh.settings.namespaces.mesh}",
        f"--patch={json.dumps({'status': {'loadBalancer': balancer}})}",
    )


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        (("--address=127.0.0.1",), 1, "The CA to trust is given by --ca"),
        (("--address=127.0.0.1", "--port=443=9"), 1, "127.0.0.1:9 can't be reached"),
        (("--context=elsewhere",), 1, "no context 'elsewhere' in the kubeconfig"),
        ((), 2, "--safe needs either --context or --address"),
        (("--address=127.0.0.1", "--only=limit.tenant"), 2, "contracts is safe; these are:"),
        (("--address=127.0.0.1", "--only=nothing"), 2, "no contract begins with nothing"),
    ],
)
def test_what_cannot_be_asked_is_told_once(
    mesh: DataPlane, live: Live, words: tuple[str, ...], status: int, told: str
) -> None:
    found = called(*live, *words, kubeconfig=mesh.lab.kubeconfig)
    assert (found.returncode, found.stdout) == (status, "")
    assert told in " ".join(found.stderr.replace("│", " ").split())


def test_no_live_cluster_is_asked_what_is_not_safe() -> None:
    for word in ("--address=127.0.0.1", "--context=production"):
        found = called("verify", f"--stack={STACK}", word)
        assert found.returncode == 2
        assert "need --safe" in found.stderr


# In the lab, as everybody calls it

FAMILIES = ("--only=route.unknown", "--only=tls.")


def in_lab(mesh: DataPlane, *words: str) -> subprocess.CompletedProcess[str]:
    return called("verify", f"--stack={STACK}", f"--directory={mesh.lab.directory.path}", *words)


def test_contracts_that_hold_are_told_for_people_and_for_machines(
    mesh: DataPlane, tmp_path: Path
) -> None:
    file = tmp_path / "junit.xml"
    found = in_lab(mesh, *FAMILIES, "--json", f"--junit={file}")
    assert found.returncode == 0, found.stdout + found.stderr
    told = json.loads(found.stdout)
    ids = {one["id"] for one in told["contracts"]}
    assert {"route.unknown", "tls.versions", "tls.hosts", "tls.redirect"} <= ids
    assert (told["passed"], told["failed"]) == (len(ids), 0)
    suite = ET.parse(file).getroot()
    assert (suite.get("tests"), suite.get("failures")) == (str(len(ids)), "0")
    for case in suite.iter("testcase"):
        assert re.search(r"sent: [1-9]\d*\ncame back: ", case.findtext("system-out") or "")
    plain = in_lab(mesh, *FAMILIES)
    assert plain.returncode == 0, plain.stdout + plain.stderr
    assert plain.stdout.rstrip().splitlines()[-1] == f"{len(ids)} passed, 0 failed"
    assert "FAIL" not in plain.stdout


def test_what_does_not_hold_is_told_with_what_the_proxies_say_of_it(
    mesh: DataPlane, tmp_path: Path
) -> None:
    mutant, file = MutantMesh(mesh, STACK), tmp_path / "junit.xml"
    wrong = Mutation("route.gone", "a service has no routes", (), _unreached)
    asked = (f"--only=route.{UNREACHED}", "--only=tls.redirect", f"--junit={file}")
    try:
        mutant.become([wrong])
        found = in_lab(mesh, *asked)
        # Proxies hear of a change a moment later than the API server.
        for _ in range(5):
            if found.returncode:
                break
            found = in_lab(mesh, *asked)
    finally:
        mutant.become([])
        _reached(mesh)
    assert found.returncode == 1, found.stdout + found.stderr
    assert found.stdout.rstrip().splitlines()[-1] == "1 passed, 1 failed"
    rows = [line for line in found.stdout.splitlines() if " FAIL " in line]
    assert [row.split()[0] for row in rows] == [f"route.{UNREACHED}"]
    (failure,) = ET.parse(file).getroot().iter("failure")
    # What came, and by whose decision: the proxy, its filter, Envoy's flag.
    said = r"expected 200 from \S+, got 404 \[istio-ingressgateway-\S+: 404 route_not_found, flags NR\]"
    assert re.search(said, failure.text or ""), failure.text
    # The table says the same; its cells are broken into lines.
    told = "".join(line[120:].strip() for line in found.stdout.splitlines())
    assert "route_not_found" in told.replace(" ", "")
    assert "flagsNR" in told.replace(" ", "")


UNREACHED = "notification-service"


def _unreached(objects: Objects) -> Objects:
    return without(objects, named(objects, "VirtualService", UNREACHED))


def _reached(mesh: DataPlane) -> None:
    def check() -> None:
        if in_lab(mesh, f"--only=route.{UNREACHED}").returncode:
            raise NotYet(f"{UNREACHED} is not reached")

    until("the mesh as before", check, within=60, every=1.0)


# For a person who explores


def by_hand(mesh: DataPlane, verb: str, *words: str) -> subprocess.CompletedProcess[str]:
    return called("lab", verb, f"--directory={mesh.lab.directory.path}", *words)


def test_a_request_by_hand_and_what_the_proxies_say_of_it(mesh: DataPlane) -> None:
    url = f"https://{mesh.settings.api_host}/api/v1/models/1"
    served = by_hand(mesh, "request", url, "--token", "--tenant=blue")
    assert served.returncode == 0, served.stderr
    assert "RequestHeader=X-Tenant-Id:blue" in served.stdout
    refused = by_hand(mesh, "request", url)
    assert (refused.returncode, refused.stdout.split("\n")[0]) == (0, "HTTP/2 403")
    inside = by_hand(mesh, "request", "http://model-router:9004/x", "--from=identity-service")
    assert inside.returncode == 1
    assert "no answer" in inside.stderr


def test_shell_and_logs_of_a_service(mesh: DataPlane) -> None:
    words = ("echo", "inside")
    assert by_hand(mesh, "shell", "identity-service", *words).stdout == "inside\n"
    # The command's own options need no `--`.
    listed = by_hand(mesh, "shell", "identity-service", "ls", "-l", "--directory", "/")
    assert (listed.returncode, listed.stdout.split()[-1]) == (0, "/"), listed.stderr
    assert len(by_hand(mesh, "logs", "identity-service", "--tail=3").stdout.splitlines()) == 3
    nobody = by_hand(mesh, "logs", "nobody")
    assert nobody.returncode == 1
    assert "there are pods of" in nobody.stderr
