"""The node's part of Services: cluster IPs become ready endpoints, by nftables as kube-proxy does.

The load balancer in front of the node is these same rules, so a Service of that type has its
cluster IP for a public address.

Packets of pods with a sidecar never get here, for their proxy picks the endpoint itself; plain
clients, proxies on their way to istiod, and istiod on its way to a JWKS server do.
"""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

Object = Mapping[str, Any]


class Backend(NamedTuple):
    """One address and port behind a Service's port."""

    address: str
    port: int


class Frontend(NamedTuple):
    """One port of a cluster IP."""

    address: str
    protocol: str
    port: int


class ServiceProxy:
    """Keeps the node's NAT rules in step with Services and EndpointSlices."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._applied = ""

    def update(self, services: Iterable[Object], slices: Iterable[Object]) -> None:
        """Replace the rules, in one step, where they are no longer right."""
        rules = ruleset(table(services, slices))
        with self._lock:
            if rules != self._applied:
                subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True)
                self._applied = rules


def table(
    services: Iterable[Object], slices: Iterable[Object]
) -> dict[Frontend, tuple[Backend, ...]]:
    """Each port of each cluster IP with its ready endpoints, none where nothing is ready."""
    by_service: dict[tuple[str, str], list[Object]] = {}
    for piece in slices:
        owner = piece["metadata"].get("labels", {}).get("kubernetes.io/service-name", "")
        by_service.setdefault((piece["metadata"]["namespace"], owner), []).append(piece)
    found = {}
    for service in services:
        address = service["spec"].get("clusterIP")
        if not address or address == "None":
            continue
        metadata = service["metadata"]
        pieces = by_service.get((metadata["namespace"], metadata["name"]), [])
        for port in service["spec"].get("ports", ()):
            protocol = port.get("protocol", "TCP").lower()
            backends = sorted(set(_backends(pieces, port.get("name"))))
            found[Frontend(address, protocol, port["port"])] = tuple(backends)
    return found


def unpublished(services: Iterable[Object]) -> Iterator[tuple[Object, str]]:
    """Services that want a load balancer and have no public address yet, each with what it gets."""
    for service in services:
        balanced = service["spec"].get("type") == "LoadBalancer"
        address = service["spec"].get("clusterIP")
        published = service.get("status", {}).get("loadBalancer", {}).get("ingress")
        if balanced and address and not published:
            yield service, address


def _backends(slices: Iterable[Object], port_name: str | None) -> Iterator[Backend]:
    for piece in slices:
        for port in piece.get("ports") or ():
            if (port.get("name") or None) != (port_name or None) or port.get("port") is None:
                continue
            for endpoint in piece.get("endpoints") or ():
                if endpoint.get("conditions", {}).get("ready", True):
                    yield from (Backend(address, port["port"]) for address in endpoint["addresses"])


def ruleset(frontends: Mapping[Frontend, tuple[Backend, ...]]) -> str:
    """An nft script that replaces all rules of the table `services`.

    A port without a ready endpoint refuses connections, in a chain of its own before NAT.
    """
    chains, served, unserved = [], [], []
    for number, (frontend, backends) in enumerate(sorted(frontends.items())):
        key = f"{frontend.address} . {frontend.protocol} . {frontend.port}"
        if not backends:
            unserved.append(key)
            continue
        choice = ", ".join(f"{i} : {b.address} . {b.port}" for i, b in enumerate(backends))
        served.append(f"{key} : goto service_{number}")
        chains.append(
            f"chain service_{number} {{\n meta l4proto {frontend.protocol} dnat ip to"
            f" numgen random mod {len(backends)} map {{ {choice} }}\n}}"
        )
    for hook in ("prerouting", "output"):
        chains.append(
            f"chain {hook}_unserved {{\n type filter hook {hook} priority -110\n"
            " ip daddr . meta l4proto . th dport @unserved meta l4proto tcp"
            " reject with tcp reset\n}"
        )
        chains.append(
            f"chain {hook} {{\n type nat hook {hook} priority -100\n"
            " ip daddr . meta l4proto . th dport vmap @served\n}"
        )
    return "\n".join(
        (
            # Added first, so that deleting it never fails.
            "table ip services",
            "delete table ip services",
            "table ip services {",
            "map served {\n type ipv4_addr . inet_proto . inet_service : verdict"
            f"{_elements(served)}\n}}",
            "set unserved {\n type ipv4_addr . inet_proto . inet_service"
            f"{_elements(unserved)}\n}}",
            *chains,
            "}\n",
        )
    )


def _elements(keys: list[str]) -> str:
    return f"\n elements = {{ {', '.join(keys)} }}" if keys else ""
