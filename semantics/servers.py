"""The servers of Gateway objects: which pods answer at which port for which hosts.

Source: https://istio.io/latest/docs/reference/config/networking/gateway/
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from semantics.identity import name_of, namespace_of
from semantics.objects import HTTP_SERVERS, MeshObjects, Workload

PASSTHROUGH = "PASSTHROUGH"


@dataclass(frozen=True)
class Server:
    """One server of a Gateway object, at the pods that serve it."""

    gateway: str
    """`namespace/name` of the Gateway object."""
    workload: Workload
    number: int
    """The port as the Gateway names it."""
    port: int
    """The pod's port."""
    protocol: str
    mode: str
    """TLS mode; empty where there is no TLS."""
    hosts: tuple[str, ...]
    """As written: a host, or `namespace/host` for routes of one namespace only."""

    @property
    def plaintext(self) -> bool:
        """Whether clients send plain text."""
        return not self.mode

    @property
    def mutual(self) -> bool:
        """Whether clients must show a certificate of the mesh."""
        return self.mode in ("ISTIO_MUTUAL", "AUTO_PASSTHROUGH")

    @property
    def http(self) -> bool:
        """Whether the gateway reads HTTP here, so that `http` routes count."""
        return self.protocol in HTTP_SERVERS and self.mode != PASSTHROUGH

    def domains(self, host: str, namespace: str) -> Iterator[str]:
        """The hosts at which it serves a VirtualService's host: the narrower one of both."""
        own = self.gateway.partition("/")[0]
        for entry in self.hosts:
            within, slash, pattern = entry.rpartition("/")
            if not slash or within == "*" or namespace == (own if within == "." else within):
                if host_within(host, pattern):
                    yield host
                elif host_within(pattern, host):
                    yield pattern


def servers(objects: MeshObjects) -> list[Server]:
    """All servers of all gateways that answer clients; redirects to HTTPS are left out."""
    found = []
    for gateway in objects.of("Gateway"):
        spec = gateway.get("spec") or {}
        selector = spec.get("selector") or {}
        pods = [w for w in objects.workloads if selector.items() <= dict(w.labels).items()]
        for server in spec.get("servers") or ():
            tls, port = server.get("tls") or {}, server.get("port") or {}
            if tls.get("httpsRedirect"):
                continue
            number = int(port.get("number") or 0)
            for pod in pods:
                found.append(
                    Server(
                        gateway=f"{namespace_of(gateway)}/{name_of(gateway)}",
                        workload=pod,
                        number=number,
                        port=_pod_port(objects, pod, number),
                        protocol=str(port.get("protocol") or "").upper(),
                        mode=str(tls.get("mode") or PASSTHROUGH) if tls else "",
                        hosts=tuple(str(h).lower() for h in server.get("hosts") or ()),
                    )
                )
    return found


def _pod_port(objects: MeshObjects, pod: Workload, number: int) -> int:
    for service in objects.of("Service"):
        spec = service.get("spec") or {}
        selector = spec.get("selector") or {}
        if namespace_of(service) != pod.namespace or not selector:
            continue
        if selector.items() <= dict(pod.labels).items():
            for port in spec.get("ports") or ():
                if port.get("port") == number and isinstance(port.get("targetPort"), int):
                    return int(port["targetPort"])
    return number


def host_within(host: str, pattern: str) -> bool:
    """Whether a host (or all that a wildcard stands for) lies within a pattern."""
    return pattern in ("*", host) or (pattern.startswith("*") and host.endswith(pattern[1:]))
