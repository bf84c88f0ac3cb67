"""Pods' network: an address for each, a veth to the node, every packet routed by the node.

Each pod has a /32 and a default route to the node, so all its traffic passes the node's IP stack,
where Services are translated, and answers pass there too.
"""

from __future__ import annotations

import ipaddress
import subprocess
import threading
from pathlib import Path

from lab.control_plane.kubernetes import SERVICE_RANGE
from lab.node.init import BRIDGE, BRIDGE_ADDRESS

POD_NETWORK = ipaddress.IPv4Network("10.42.0.0/16")
"""Where pods get their addresses from."""
OUTSIDE = (
    ipaddress.IPv4Network("192.0.2.0/24"),
    ipaddress.IPv4Network("198.51.100.0/24"),
    ipaddress.IPv4Network("203.0.113.0/24"),
)
"""Addresses of the world outside, all of them one pod's: RFC 5737 keeps them for documentation."""
INTERNET = "192.0.2.1"
"""Where every host outside the mesh is found."""
GATEWAY = "169.254.1.1"
"""The node's end of every pod's link."""


class Addresses:
    """Hands out addresses of a network and takes them back."""

    def __init__(self, network: ipaddress.IPv4Network) -> None:
        self._lock = threading.Lock()
        # The least recently used address comes next: a new pod never gets the address of the one
        # that just went, which proxies may still hold connections to.
        self._free = [str(host) for host in network.hosts()]

    def take(self) -> str:
        """An address that nothing uses."""
        with self._lock:
            return self._free.pop(0)

    def give_back(self, address: str) -> None:
        """The address may be used again."""
        with self._lock:
            self._free.append(address)


def prepare_node() -> None:
    """Make the network namespace this process is in forward packets between pods."""
    for setting, value in (
        ("net/ipv4/ip_forward", "1"),
        ("net/ipv4/conf/all/rp_filter", "0"),
        ("net/ipv4/conf/default/rp_filter", "0"),
        ("net/ipv4/neigh/default/gc_thresh3", "4096"),
    ):
        path = Path("/proc/sys") / setting
        if path.exists():
            path.write_text(value)
    # What the node itself sends to a cluster IP needs a route before it is translated.
    _ip(f"route replace {SERVICE_RANGE} dev {BRIDGE} src {BRIDGE_ADDRESS}")


def attach(pid: int, address: str, number: int, routed: tuple[str, ...] = ()) -> None:
    """Give the network namespace of a process an interface with `address`.

    `number` names the node's end of the veth, `pod<number>`. `routed` are further networks whose
    packets go to that namespace, where any of their addresses may be used.
    """
    device = f"pod{number}"
    _ip(
        f"link add {device} type veth peer name eth0 netns {pid}",
        f"addr add {GATEWAY}/32 dev {device}",
        f"link set {device} up",
        f"route replace {address}/32 dev {device} src {BRIDGE_ADDRESS}",
        *(f"route replace {network} via {address} dev {device} onlink" for network in routed),
    )
    _ip(
        "link set lo up",
        "link set eth0 up",
        f"addr add {address}/32 dev eth0",
        f"route add {GATEWAY} dev eth0",
        f"route add default via {GATEWAY} src {address}",
        *(f"route add local {network} dev lo" for network in routed),
        pid=pid,
    )


def _ip(*commands: str, pid: int | None = None) -> None:
    enter = [] if pid is None else ["nsenter", "-t", str(pid), "-n"]
    result = subprocess.run(
        [*enter, "ip", "-batch", "-"],
        input="\n".join(commands),
        text=True,
        capture_output=True,
        check=False,
    )
    if result.returncode:
        raise OSError(f"ip failed: {result.stderr.strip()} in: {'; '.join(commands)}")
