"""The node by itself: with root and in a user namespace, its parts, its ports on the host."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator

import httpx
import pytest

from lab.errors import LabError
from lab.lab import Lab
from lab.node.init import BRIDGE, BRIDGE_ADDRESS
from lab.node.parts import Part
from lab.waiting import NotYet, until
from tests.lab.conftest import throw_away_lab

pytestmark = pytest.mark.lab

SERVER = Part("web", (sys.executable, "-m", "http.server", "8000", "--bind", "127.0.0.1"))


@pytest.fixture(params=["root", "user namespace"])
def lab(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """A lab whose node runs, without a control plane."""
    if request.param == "user namespace":
        # Root may make user namespaces too: the way without root is taken, whoever we are.
        monkeypatch.setattr("lab.node.node.os.geteuid", lambda: 1000)
    with throw_away_lab("node", keep=False) as lab:
        lab.node.start()
        yield lab


def answer(port: int) -> httpx.Response:
    def get() -> httpx.Response:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/", trust_env=False, timeout=5)
        except httpx.TransportError as error:
            raise NotYet(f"{error!r}") from None

    return until("an answer through the forwarder", get, within=10)


def test_node_has_a_network_of_its_own(lab: Lab) -> None:
    assert not lab.node.start()
    assert BRIDGE_ADDRESS in lab.node.run("ip", "address", "show", BRIDGE)
    # Nothing but the loopback and the bridge: no way out to any network of the host.
    devices = lab.node.run("ip", "-brief", "link").splitlines()
    assert [line.split()[0] for line in devices] == ["lo", BRIDGE]
    assert lab.node.run("ip", "route").split()[:1] == ["10.77.0.0/16"]
    hosts = lab.node.run("getent", "hosts", "istiod.istio-system.svc")
    assert hosts.split()[0] == BRIDGE_ADDRESS


def test_pods_can_be_made(lab: Lab) -> None:
    lab.node.run("ip", "netns", "add", "pod")
    lab.node.run("ip", "link", "add", "veth0", "type", "veth", "peer", "eth0", "netns", "pod")
    redirect = ("-p", "tcp", "-j", "REDIRECT", "--to-ports", "15001")
    inside = ("ip", "netns", "exec", "pod", "iptables", "--table", "nat")
    lab.node.run(*inside, "--append", "OUTPUT", *redirect)
    assert "15001" in lab.node.run(*inside, "--list-rules")


def test_failing_and_slow_commands_say_so(lab: Lab) -> None:
    with pytest.raises(LabError, match=r"ip netns exec none true: .*none"):
        lab.node.run("ip", "netns", "exec", "none", "true")
    with pytest.raises(LabError, match=r"sleep 60: still running after 0\.2 s"):
        lab.node.run("sleep", "60", timeout=0.2)


def test_parts_are_found_replaced_and_ended(lab: Lab) -> None:
    assert lab.parts.start(SERVER)
    first = until_found(lab, SERVER)
    assert not lab.parts.start(SERVER)
    assert until_found(lab, SERVER) == first

    changed = Part(SERVER.name, SERVER.command, inputs="other")
    assert lab.parts.start(changed)
    assert until_found(lab, changed) != first
    assert lab.parts.find(SERVER) is None

    lab.parts.stop(SERVER.name)
    assert not lab.parts.alive(SERVER.name)


def test_a_part_may_be_away_for_a_while(lab: Lab) -> None:
    lab.parts.start(SERVER)
    first = until_found(lab, SERVER)
    with lab.parts.without(SERVER.name):
        assert not lab.parts.alive(SERVER.name)
    assert until_found(lab, SERVER) != first
    assert not lab.parts.start(SERVER), "it is taken for another than before"
    lab.parts.stop(SERVER.name)
    with pytest.raises(LabError, match="does not run"), lab.parts.without(SERVER.name):
        pass


def until_found(lab: Lab, part: Part) -> int:
    def find() -> int:
        found = lab.parts.find(part)
        if found is None:
            raise NotYet(lab.parts.log_tail(part.name))
        return found.pid

    return until(f"part {part.name}", find, within=10)


def test_ports_reach_the_host_and_stay_the_same(lab: Lab) -> None:
    lab.parts.start(SERVER)
    targets = {"http": "127.0.0.1:8000"}
    port = lab.exposure.expose("gateway", targets)["http"]
    assert answer(port).status_code == 200
    assert lab.exposure.expose("gateway", targets) == {"http": port}

    lab.parts.stop("gateway")
    assert lab.exposure.expose("gateway", targets) == {"http": port}
    assert answer(port).status_code == 200


def test_a_port_that_somebody_else_took_is_replaced(lab: Lab) -> None:
    lab.parts.start(SERVER)
    targets = {"http": "127.0.0.1:8000"}
    port = lab.exposure.expose("gateway", targets)["http"]
    lab.parts.stop("gateway")
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))
        other.listen()
        moved = lab.exposure.expose("gateway", targets)["http"]
    assert moved != port
    assert answer(moved).status_code == 200


def test_without_a_node_nothing_can_be_run(lab: Lab) -> None:
    lab.stop()
    with pytest.raises(LabError, match="the lab does not run; start it with"):
        lab.node.run("true")
