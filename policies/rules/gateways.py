"""The way in: encrypted, for named hosts, without rivals, on ports that are served."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from policies.exposed import HTTP, redirects
from policies.policy import (
    Config,
    Enforcement,
    Finding,
    Object,
    Severity,
    namespace_of,
    object_policy,
    reference,
    spec_of,
    stack_policy,
)
from policies.stack import Stack

_GATEWAY = "https://istio.io/latest/docs/reference/config/networking/gateway/"
_ANALYSIS = "https://istio.io/latest/docs/reference/config/analysis/"
_OLD_TLS = {"TLSV1_0", "TLSV1_1"}
_PLAIN = {*HTTP, "TCP", "MONGO", "MYSQL", "REDIS"}
_ENDING = {"SIMPLE", "MUTUAL", "OPTIONAL_MUTUAL", "ISTIO_MUTUAL"}
"""Modes in which the gateway itself ends TLS."""
_WEAK = ("RC4", "3DES", "CBC3", "NULL", "EXPORT", "MD5")


def _servers(item: Object) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if str(item.get("apiVersion", "")).startswith("networking.istio.io/"):
        for index, server in enumerate(spec_of(item).get("servers") or ()):
            yield f"spec.servers[{index}]", server


def _protocol(server: Mapping[str, Any]) -> str:
    return str((server.get("port") or {}).get("protocol", "")).upper()


@object_policy(
    "gateway-encrypted",
    "Gateway",
    title="Gateways serve nothing in plain text",
    severity=Severity.CRITICAL,
    text="A server for HTTP only redirects to HTTPS; every other server ends TLS.",
    remedy="Set tls.httpsRedirect on the plain server, and tls.mode on the others.",
    url=_GATEWAY + "#ServerTLSSettings",
)
def encrypted(item: Object, _: Config) -> Iterator[Finding]:
    """Looks at each server."""
    for path, server in _servers(item):
        tls, protocol = server.get("tls") or {}, _protocol(server)
        if protocol in _PLAIN and not redirects(server):
            yield Finding(item, f"{path}.tls", f"{protocol} is served in plain text")
        elif protocol not in _PLAIN and not tls:
            yield Finding(item, f"{path}.tls", f"{protocol} has no TLS settings")


@object_policy(
    "gateway-ends-tls",
    "Gateway",
    title="Gateways end TLS themselves",
    severity=Severity.HIGH,
    text="No server passes TLS through, as one does whose tls block names no mode. What is passed "
    "through is seen by no policy, no limit and no log of the gateway.",
    remedy="Use SIMPLE or MUTUAL for clients, ISTIO_MUTUAL for other clusters of the mesh.",
    url=_GATEWAY + "#ServerTLSSettings-TLSmode",
)
def ends_tls(item: Object, _: Config) -> Iterator[Finding]:
    """Looks at each server's mode."""
    for path, server in _servers(item):
        tls = server.get("tls") or {}
        mode = tls.get("mode")
        if mode in _ENDING or not tls or (not mode and _protocol(server) in HTTP):
            continue
        if not mode:
            message = "no mode means PASSTHROUGH, which goes past all policies"
        elif mode in ("PASSTHROUGH", "AUTO_PASSTHROUGH"):
            message = f"{mode} goes past all policies"
        else:
            message = f"{mode} is no mode that Istio knows"
        yield Finding(item, f"{path}.tls.mode", message)


@object_policy(
    "gateway-tls-modern",
    "Gateway",
    title="TLS 1.2 or later, with forward secrecy",
    severity=Severity.HIGH,
    text="No server takes TLS 1.0 or 1.1 or a cipher suite that is weak or has no forward secrecy.",
    remedy="Set minProtocolVersion to TLSV1_2 and list ECDHE suites only.",
    url=_GATEWAY + "#ServerTLSSettings-TLSProtocol",
)
def tls_modern(item: Object, _: Config) -> Iterator[Finding]:
    """Looks at versions and suites."""
    for path, server in _servers(item):
        tls = server.get("tls") or {}
        for key in ("minProtocolVersion", "maxProtocolVersion"):
            if tls.get(key) in _OLD_TLS:
                yield Finding(item, f"{path}.tls.{key}", f"{tls[key]} is broken")
        for suite in tls.get("cipherSuites") or ():
            if not str(suite).startswith("ECDHE-") or any(w in str(suite) for w in _WEAK):
                yield Finding(item, f"{path}.tls.cipherSuites", f"{suite} is weak")


@object_policy(
    "gateway-hosts-exact",
    "Gateway",
    title="Gateways serve named hosts",
    severity=Severity.HIGH,
    text="No server takes every host: a VirtualService of anybody could then claim one.",
    remedy="List the hosts.",
    url=_GATEWAY + "#Server",
)
def hosts_exact(item: Object, _: Config) -> Iterator[Finding]:
    """Looks for wildcards."""
    for path, server in _servers(item):
        for index, host in enumerate(server.get("hosts") or ()):
            if "*" in str(host).rpartition("/")[2]:
                yield Finding(item, f"{path}.hosts[{index}]", f"{host} is a wildcard")


@object_policy(
    "gateway-hosts-owned",
    "Gateway",
    title="Each public host belongs to a namespace",
    severity=Severity.MEDIUM,
    text="A server's hosts name the namespace whose VirtualServices may claim them. Without it a "
    "VirtualService of any namespace can take over a public path.",
    remedy="Write namespace/host.",
    url=_GATEWAY + "#Server",
)
def hosts_owned(item: Object, _: Config) -> Iterator[Finding]:
    """Looks for hosts without a namespace."""
    for path, server in _servers(item):
        for index, host in enumerate(server.get("hosts") or ()):
            if str(host).rpartition("/")[0] in ("", "*"):
                message = f"any namespace may claim {str(host).rpartition('/')[2]}"
                yield Finding(item, f"{path}.hosts[{index}]", message)


@stack_policy(
    "gateway-distinct",
    title="No two Gateways serve the same host on the same port",
    severity=Severity.HIGH,
    codes=("IST0145", "KIA0301"),
    text="For the same pods, a host and port stand in one server only. Istio takes one of the two "
    "and says nothing.",
    remedy="Merge the servers.",
    url=_ANALYSIS + "ist0145/",
)
def distinct(stack: Stack, _: Config) -> Iterator[Finding]:
    """Compares pods, ports and hosts of all servers."""
    seen: dict[tuple[object, str], list[tuple[Object, str]]] = {}
    for item in stack.of("Gateway"):
        for path, server in _servers(item):
            number = (server.get("port") or {}).get("number")
            for host in map(str, server.get("hosts") or ()):
                served = seen.setdefault((number, host.rpartition("/")[2]), [])
                first = next((i for i, where in served if _same_pods(i, item)), None)
                served.append((item, path))
                if first is not None:
                    message = f"{host} on port {number} is served by {reference(first)} too"
                    yield Finding(item, f"{path}.hosts", message)


def _same_pods(one: Object, other: Object) -> bool:
    """Whether a pod that one selects is selected by the other too."""
    first = (spec_of(one).get("selector") or {}).items()
    second = (spec_of(other).get("selector") or {}).items()
    return first <= second or second <= first


@stack_policy(
    "gateway-certificate",
    title="Each TLS server has a certificate that is there",
    severity=Severity.HIGH,
    codes=("IST0161",),
    text="A server in mode SIMPLE or MUTUAL names its certificate; a Secret of that name in the "
    "set, beside the gateway's pods, holds a certificate and its key.",
    remedy="Set credentialName to a kubernetes.io/tls Secret beside the gateway's pods.",
    url=_ANALYSIS + "ist0161/",
)
def certificate(stack: Stack, _: Config) -> Iterator[Finding]:
    """Looks at each server, and at Secrets of that name."""
    secrets = {(namespace_of(s), s["metadata"]["name"]): s for s in stack.of("Secret")}
    for item in stack.of("Gateway"):
        pods = stack.selected(spec_of(item).get("selector") or {}, None)
        homes = {w.namespace for w in pods} or {namespace_of(item)}
        for path, server in _servers(item):
            tls = server.get("tls") or {}
            if tls.get("mode") not in _ENDING - {"ISTIO_MUTUAL"}:
                continue
            name = tls.get("credentialName")
            files = tls.get("serverCertificate") and tls.get("privateKey")
            if not name and not files and not tls.get("credentialNames"):
                yield Finding(item, f"{path}.tls.credentialName", "no certificate is named")
            for namespace in sorted(homes):
                secret = secrets.get((namespace, str(name)))
                if secret and (problem := _no_certificate(secret)):
                    message = f"Secret {namespace}/{name} {problem}"
                    yield Finding(item, f"{path}.tls.credentialName", message)


def _no_certificate(secret: Object) -> str | None:
    """Why a Secret can't be a server's certificate."""
    if secret.get("type") not in ("kubernetes.io/tls", "Opaque", None):
        return f"is of type {secret['type']}"
    keys = {*(secret.get("data") or {}), *(secret.get("stringData") or {})}
    if not {"tls.crt", "tls.key"} <= keys and not {"cert", "key"} <= keys:
        return "lacks tls.crt or tls.key"
    return None


@stack_policy(
    "gateway-certificate-shared",
    title="Gateways do not share a certificate",
    severity=Severity.MEDIUM,
    codes=("IST0138",),
    text="Two Gateway objects for the same pods have different certificates. With one certificate "
    "for both, browsers reuse an HTTP/2 connection for a host of the other and get 404.",
    remedy="Put the hosts into one Gateway object, or give each its certificate.",
    url=_ANALYSIS + "ist0138/",
)
def certificate_shared(stack: Stack, _: Config) -> Iterator[Finding]:
    """Compares the certificates of Gateway objects."""
    seen: dict[object, Object] = {}
    for item in stack.of("Gateway"):
        selector = frozenset((spec_of(item).get("selector") or {}).items())
        for path, server in _servers(item):
            name = (server.get("tls") or {}).get("credentialName")
            if not name:
                continue
            first = seen.setdefault((selector, name), item)
            if first is not item:
                message = f"{reference(first)} has the certificate {name} too"
                yield Finding(item, f"{path}.tls.credentialName", message)


@stack_policy(
    "gateway-port-served",
    title="Gateway ports are ports of the gateway's Service",
    severity=Severity.HIGH,
    codes=("IST0162",),
    text="A server's port is open on the Service of the pods it selects; otherwise no client ever "
    "arrives there.",
    remedy="Add the port to the Service, or correct the server.",
    url=_ANALYSIS + "ist0162/",
)
def port_served(stack: Stack, _: Config) -> Iterator[Finding]:
    """Compares with the Services of the selected pods."""
    for item in stack.of("Gateway"):
        pods = stack.selected(spec_of(item).get("selector") or {}, None)
        ports = {
            number
            for pod in pods
            for service in stack.services_selecting(pod)
            for port in spec_of(service).get("ports") or ()
            for number in (port.get("port"), port.get("targetPort"))
        }
        for path, server in _servers(item) if ports else ():
            number = (server.get("port") or {}).get("number")
            if number not in ports:
                yield Finding(item, f"{path}.port.number", f"no Service opens port {number}")


@stack_policy(
    "way-in-is-the-gateway",
    title="Clients come in through the gateway only",
    severity=Severity.HIGH,
    text="No Service but that of a Gateway's pods is of type LoadBalancer or NodePort or has "
    "external addresses, and no Ingress leads past the Gateway objects.",
    remedy="Make the Service ClusterIP and route to it from the gateway.",
    url="https://istio.io/latest/docs/ops/best-practices/security/",
    enforcement=Enforcement.MANDATORY,
)
def way_in(stack: Stack, _: Config) -> Iterator[Finding]:
    """Looks at Services and Ingresses."""
    for item in stack.services.values():
        spec = spec_of(item)
        open_type = spec.get("type") in ("LoadBalancer", "NodePort")
        if not open_type and not spec.get("externalIPs"):
            continue
        if not stack.is_gateway(spec.get("selector") or {}):
            how = spec.get("type") if open_type else "externalIPs"
            yield Finding(item, "spec.type", f"{how} opens the Service beside the gateway")
    for item in stack.of("Ingress"):
        yield Finding(item, "", "an Ingress routes past the Gateway objects")
