"""The control plane is real, and start and stop hold whatever happened before."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from lab.errors import LabError
from lab.lab import CONTROL_PLANE, Lab
from lab.node.node import LAB
from lab.waiting import NotYet, until
from tests.lab.conftest import MESH_CONFIG, throw_away_lab

pytestmark = pytest.mark.lab


@pytest.fixture
def namespace(control_plane: Lab) -> Iterator[str]:
    """An injected namespace, gone afterwards."""
    mended(control_plane)
    name = f"test-{time.monotonic_ns()}"
    control_plane.kubectl.apply(
        [
            {
                "apiVersion": "v1",
                "kind": "Namespace",
                "metadata": {"name": name, "labels": {"istio-injection": "enabled"}},
            }
        ]
    )
    yield name
    mended(control_plane)
    control_plane.kubectl.run("delete", "namespace", name, "--wait=false")


def mended(lab: Lab) -> None:
    """Other tests break the lab on purpose; a start that finds nothing to do still takes seconds."""
    if not lab.running():
        lab.start(MESH_CONFIG)


def virtual_service(namespace: str, **route: Any) -> dict[str, Any]:
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "sample", "namespace": namespace},
        "spec": {
            "hosts": ["sample"],
            "http": [{"route": [{"destination": {"host": "sample"}}], **route}],
        },
    }


def pids(lab: Lab) -> dict[str, int | None]:
    return {part.part: part.pid for part in lab.status()}


def test_valid_virtual_service_is_accepted_and_stored(control_plane: Lab, namespace: str) -> None:
    control_plane.kubectl.apply([virtual_service(namespace, timeout="5s")])
    stored = control_plane.kubectl.get("virtualservice", "sample", "-n", namespace)
    assert stored["spec"]["http"][0]["timeout"] == "5s"


@pytest.mark.parametrize(
    ("route", "refusal"),
    [
        ({"match": [{"uri": {"regex": "("}}]}, "error parsing regexp: missing closing )"),
        ({"retries": {"attempts": -1}}, "attempts"),
        (
            {"route": [{"destination": {"host": "sample"}, "weight": -1}]},
            "weight",
        ),
        ({"route": [{"destination": {"host": "sample", "port": {"number": 70000}}}]}, "port"),
        ({"route": [{"destination": {"host": "not_a_host!"}}]}, "not_a_host!"),
    ],
    ids=["regex", "retries", "weight", "port", "host"],
)
def test_invalid_virtual_service_is_refused(
    control_plane: Lab, namespace: str, route: dict[str, Any], refusal: str
) -> None:
    with pytest.raises(LabError, match=r"denied|invalid|Invalid") as refused:
        control_plane.kubectl.apply([virtual_service(namespace, **route)])
    assert refusal in str(refused.value)


def test_refusal_is_istiods_own(control_plane: Lab, namespace: str) -> None:
    """What the CRD's schema lets pass, istiod's webhook finds."""
    bad = virtual_service(namespace, match=[{"uri": {"regex": "("}}])
    with pytest.raises(LabError, match=r'admission webhook "validation.istio.io" denied'):
        control_plane.kubectl.apply([bad])


def test_deployment_gets_pods_with_a_proxy(control_plane: Lab, namespace: str) -> None:
    control_plane.kubectl.run("create", "deployment", "app", "--image=app", "-n", namespace)

    def pod() -> dict[str, Any]:
        found: list[dict[str, Any]] = control_plane.kubectl.get(
            "pods", "-n", namespace, "--selector=app=app"
        )["items"]
        if not found:
            events = control_plane.kubectl.run("get", "events", "-n", namespace)
            raise NotYet(f"no pod; events:\n{events}")
        return found[0]

    injected = until("a pod of the deployment", pod, within=20)
    spec = injected["spec"]
    proxy = next(
        container
        for container in [*spec["containers"], *spec.get("initContainers", [])]
        if container["name"] == "istio-proxy"
    )
    assert proxy["args"][:2] == ["proxy", "sidecar"]
    environment = {item["name"]: item.get("value") for item in proxy["env"]}
    assert environment["CA_ADDR"] == "istiod.istio-system.svc:15012"
    tokens = [
        source["serviceAccountToken"]
        for volume in spec["volumes"]
        if volume["name"] == "istio-token"
        for source in volume["projected"]["sources"]
    ]
    assert [token["audience"] for token in tokens] == ["istio-ca"]


def test_pod_without_injection_gets_no_proxy(control_plane: Lab, namespace: str) -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "plain",
            "namespace": namespace,
            "labels": {"sidecar.istio.io/inject": "false"},
        },
        "spec": {
            "serviceAccountName": "default",
            "containers": [{"name": "app", "image": "app"}],
        },
    }

    def created() -> None:
        try:
            control_plane.kubectl.apply([pod])
        except LabError as error:
            if "serviceaccount" not in str(error):
                raise
            raise NotYet(str(error)) from None

    until("the namespace's service account", created, within=20)
    stored = control_plane.kubectl.get("pod", "plain", "-n", namespace)
    assert [one["name"] for one in stored["spec"]["containers"]] == ["app"]


def test_deleted_namespace_goes(control_plane: Lab) -> None:
    mended(control_plane)
    control_plane.kubectl.run("create", "namespace", "short-lived")
    control_plane.kubectl.run("delete", "namespace", "short-lived", "--timeout=30s")


def test_second_start_changes_nothing(control_plane: Lab) -> None:
    control_plane.start(MESH_CONFIG)
    before = pids(control_plane)
    assert control_plane.start(MESH_CONFIG) == []
    assert pids(control_plane) == before


def test_new_mesh_config_reaches_istiod_without_a_restart(control_plane: Lab) -> None:
    changed = MESH_CONFIG | {"outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"}}
    assert control_plane.start(changed) == []
    try:
        mesh = control_plane.kubectl.get("configmap", "istio", "-n", "istio-system")["data"]["mesh"]
        assert yaml.safe_load(mesh)["outboundTrafficPolicy"] == {"mode": "REGISTRY_ONLY"}
    finally:
        control_plane.start(MESH_CONFIG)


@pytest.mark.parametrize("part", [*CONTROL_PLANE, "forwarder"])
def test_killed_part_is_started_again_and_no_other(
    control_plane: Lab, namespace: str, part: str
) -> None:
    before = pids(control_plane)
    killed = before[part]
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    psutil.wait_procs([psutil.Process(killed)] if psutil.pid_exists(killed) else [], timeout=10)

    started = control_plane.start(MESH_CONFIG)

    assert started == ([part] if part in CONTROL_PLANE else [])
    after = pids(control_plane)
    assert [name for name in before if before[name] != after[name]] == [part]
    control_plane.kubectl.apply([virtual_service(namespace)])


def test_killed_node_comes_back_with_its_data(control_plane: Lab, namespace: str) -> None:
    control_plane.kubectl.apply([virtual_service(namespace, timeout="7s")])
    init = control_plane.node.init()
    assert init is not None
    init.kill()
    psutil.wait_procs([init], timeout=10)

    assert control_plane.start(MESH_CONFIG) == ["node", *CONTROL_PLANE]
    stored = control_plane.kubectl.get("virtualservice", "sample", "-n", namespace)
    assert stored["spec"]["http"][0]["timeout"] == "7s"


@pytest.mark.parametrize("seconds", [0.7, 3.0])
def test_start_converges_after_an_interrupted_one(control_plane: Lab, seconds: float) -> None:
    control_plane.stop()
    program = (
        "import sys, pathlib; from lab.lab import Lab; Lab(pathlib.Path(sys.argv[1])).start({})"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(control_plane.directory.path)],
        stderr=subprocess.DEVNULL,
    ) as interrupted:
        time.sleep(seconds)
        interrupted.kill()

    control_plane.start(MESH_CONFIG)

    assert control_plane.running()
    assert control_plane.start(MESH_CONFIG) == []


def test_two_commands_at_a_time_are_refused(control_plane: Lab) -> None:
    with control_plane.directory.locked(), pytest.raises(LabError, match="another command"):
        control_plane.start(MESH_CONFIG)


def test_nobody_else_can_read_keys_and_kubeconfigs(control_plane: Lab) -> None:
    mended(control_plane)
    secret = [*control_plane.directory.kubeconfigs.iterdir()]
    secret += control_plane.directory.certificates.glob("*.key")
    assert len(secret) > 5
    for path in secret:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    for path in control_plane.directory.sockets.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_parts_see_little_of_the_callers_environment(
    monkeypatch: pytest.MonkeyPatch, control_plane: Lab
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden")
    control_plane.stop()
    control_plane.start(MESH_CONFIG)
    for process in control_plane.node.processes():
        assert "AWS_SECRET_ACCESS_KEY" not in process.environ(), process


def host_network() -> str:
    """Devices, addresses, rules and named namespaces of the host."""
    shown = [
        subprocess.run(command, capture_output=True, text=True, check=True).stdout
        for command in (
            ["ip", "-oneline", "link"],
            ["ip", "-oneline", "-4", "address"],
            ["ip", "route"],
            ["ip", "netns", "list"],
            ["iptables", "--list-rules"],
        )
    ]
    return "\n".join([*shown, Path("/proc/sys/net/ipv4/ip_forward").read_text()])


def mounts() -> set[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return {line.split()[4] for line in lines}


def test_stop_leaves_nothing_and_the_host_sees_nothing(request: pytest.FixtureRequest) -> None:
    network, mounted = host_network(), mounts()
    with throw_away_lab("stop", keep=False) as lab:
        lab.start(MESH_CONFIG)
        # What a kubelet does: a named namespace and a veth pair inside the node.
        lab.node.run("ip", "netns", "add", "pod")
        lab.node.run("ip", "link", "add", "veth0", "type", "veth", "peer", "eth0", "netns", "pod")
        assert host_network() == network
        assert mounts() == mounted

        assert lab.stop() > len(CONTROL_PLANE)

        marker = str(lab.directory.path)
        left = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(LAB) == marker and process.status() != "zombie":
                    left.append(process)
            except psutil.Error:
                continue
        assert left == []
        assert host_network() == network
        assert mounts() == mounted
        assert not lab.directory.data.exists()
        assert not lab.directory.certificates.exists()
        assert [part.state for part in lab.status()] == ["stopped"] * (len(CONTROL_PLANE) + 1)
        assert lab.stop() == 0
