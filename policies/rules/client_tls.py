"""What DestinationRules say of TLS: never off, never without checking the server."""

from __future__ import annotations

from collections.abc import Iterator

from policies.policy import (
    Config,
    Finding,
    Object,
    Severity,
    namespace_of,
    object_policy,
    spec_of,
    stack_policy,
)
from policies.routing import traffic_policies
from policies.stack import Stack

_TLS = (
    "https://istio.io/latest/docs/reference/config/networking/destination-rule/#ClientTLSSettings"
)
_MODES = {"SIMPLE", "MUTUAL", "ISTIO_MUTUAL"}


@object_policy(
    "client-tls-on",
    "DestinationRule",
    title="No DestinationRule switches TLS off",
    severity=Severity.CRITICAL,
    codes=("KIA0204",),
    text="TLS mode DISABLE stands nowhere: not at the top, not for a port, not in a subset, not "
    "for a port of a subset. It makes callers send plain text past everything else. A tls block "
    "that names no mode means DISABLE too.",
    remedy="Use ISTIO_MUTUAL inside the mesh, or delete the tls block.",
    url=_TLS,
    locked=True,
)
def on(item: Object, _: Config) -> Iterator[Finding]:
    """Looks at all four levels."""
    for path, policy in traffic_policies(item):
        tls = policy.get("tls")
        if tls is None:
            continue
        mode = tls.get("mode") or "DISABLE"
        if mode == "DISABLE":
            said = "" if tls.get("mode") else ": no mode means DISABLE"
            yield Finding(item, f"{path}.tls.mode", f"TLS is switched off{said}")
        elif mode not in _MODES:
            yield Finding(item, f"{path}.tls.mode", f"{mode} is no mode that Istio knows")


@object_policy(
    "client-tls-verifies",
    "DestinationRule",
    title="TLS to a server checks who the server is",
    severity=Severity.HIGH,
    codes=("IST0128", "IST0129"),
    text="SIMPLE and MUTUAL name the certificate authority they trust and leave verification on. "
    "Otherwise any server with any certificate is accepted.",
    remedy="Set caCertificates (or workloadSelector and credentialName); drop insecureSkipVerify.",
    url=_TLS,
)
def verifies(item: Object, _: Config) -> Iterator[Finding]:
    """Looks at all four levels."""
    for path, policy in traffic_policies(item):
        tls = policy.get("tls") or {}
        if tls.get("mode") not in ("SIMPLE", "MUTUAL"):
            continue
        if tls.get("insecureSkipVerify"):
            yield Finding(item, f"{path}.tls.insecureSkipVerify", "the server is not verified")
        # Sidecars read a credential only from a rule that selects them.
        credential = tls.get("credentialName") and spec_of(item).get("workloadSelector")
        if not tls.get("caCertificates") and not credential:
            message = f"mode {tls['mode']} names no certificate authority"
            yield Finding(item, f"{path}.tls.caCertificates", message)


@stack_policy(
    "client-tls-mutual",
    title="Inside the mesh TLS is Istio's own",
    severity=Severity.CRITICAL,
    text="A DestinationRule for a Service of an injected namespace uses no mode but ISTIO_MUTUAL. "
    "SIMPLE and MUTUAL bring other certificates, so the callee sees no mesh identity.",
    remedy="Set tls.mode to ISTIO_MUTUAL or leave the tls block out.",
    url=_TLS,
)
def mutual(stack: Stack, _: Config) -> Iterator[Finding]:
    """Looks at rules for hosts that are Services with a proxy."""
    for item in stack.of("DestinationRule"):
        host = str(spec_of(item).get("host", ""))
        service = stack.service_of(host, namespace_of(item))
        inside = (
            host.endswith((".local", "*"))
            if host.startswith("*")
            else service in stack.services and stack.injects(service[0]) is not False
            if service
            else False
        )
        if not inside:
            continue
        for path, policy in traffic_policies(item):
            mode = (policy.get("tls") or {}).get("mode")
            if mode in ("SIMPLE", "MUTUAL"):
                yield Finding(item, f"{path}.tls.mode", f"{mode} to {host}, which is in the mesh")
