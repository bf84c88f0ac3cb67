"""verify as its users call it: in the lab, and safely against a gateway that is anywhere else."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import yaml

from lab.contracts.arrangements import pods
from lab.data_plane import DataPlane
from tests.lab.conftest import STACK

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
    address = pods(mesh, app="istio-ingressgateway")[0]["address"]
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
    missing = called(*asked, kubeconfig=mesh.lab.kubeconfig)
    assert missing.returncode == 1
    assert "has no public address yet" in missing.stderr
    _publish(mesh, {"ingress": [{"ip": "127.0.0.1"}]})
    try:
        found = called(*asked, kubeconfig=mesh.lab.kubeconfig)
    finally:
        _publish(mesh, None)
    assert found.returncode == 0, found.stdout + found.stderr
    assert found.stdout.rstrip().endswith("1 passed, 0 failed")


def _publish(mesh: DataPlane, balancer: Any) -> None:
    mesh.lab.kubectl.run(
        *("patch", "service", "istio-ingressgateway", "--subresource=status", "--type=merge"),
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


# For a person who explores


def by_hand(mesh: DataPlane, *words: str) -> subprocess.CompletedProcess[str]:
    return called("lab", *words, f"--directory={mesh.lab.directory.path}")


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
    assert len(by_hand(mesh, "logs", "identity-service", "--tail=3").stdout.splitlines()) == 3
    nobody = by_hand(mesh, "logs", "nobody")
    assert nobody.returncode == 1
    assert "there are pods of" in nobody.stderr
