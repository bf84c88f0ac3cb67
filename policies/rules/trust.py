"""Who is believed: trust domains, authorities, control planes, and in what words they speak."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from policies.mesh_config import RELEASE_KINDS, parsed, release_values
from policies.policy import (
    Config,
    Finding,
    Object,
    Setting,
    Severity,
    object_policy,
    stack_policy,
)
from policies.stack import Stack
from policies.workloads import PODS, containers
from semantics.pods import pod_template

_MESH_CONFIG = "https://istio.io/latest/docs/reference/config/istio.mesh.v1alpha1/"
_WEAK_SUITES = ("RC4", "3DES", "CBC3", "NULL", "EXPORT", "MD5", "AES128-SHA", "AES256-SHA")
_FORWARDING = ("APPEND_FORWARD", "FORWARD_ONLY", "ALWAYS_FORWARD_ONLY")
_WEAKENING = {
    "PILOT_SKIP_VALIDATE_TRUST_DOMAIN": "true",
    "UNSAFE_ENABLE_ADMIN_ENDPOINTS": "true",
    "XDS_AUTH": "false",
    "VERIFY_CERTIFICATE_AT_CLIENT": "false",
}
"""Variables of istiod with the value that switches a check off."""


@stack_policy(
    "trust-domains-known",
    title="Only known trust domains are believed",
    severity=Severity.CRITICAL,
    text="Every alias in meshConfig.trustDomainAliases is known, and no certificate authority of "
    "meshConfig.caCertificates is believed for other domains. Whoever issues certificates of an "
    "alias can issue one for every caller that a policy names.",
    remedy="Delete the alias or the authority, or list the domain under `domains`.",
    url=_MESH_CONFIG + "#MeshConfig-trust_domain_aliases",
    settings={
        "domains": Setting("array", [], "Trust domains that are believed beside the mesh's own.")
    },
)
def trust_domains(stack: Stack, config: Config) -> Iterator[Finding]:
    """Looks at every meshConfig."""
    for mesh in stack.mesh_configs:
        own = str(mesh.get("trustDomain", "cluster.local"))
        if "*" in own:
            yield mesh.finding("trustDomain", f"{own} is a wildcard")
        known = {own, "cluster.local", *config["domains"]}
        for index, alias in enumerate(map(str, mesh.get("trustDomainAliases", ()))):
            if alias not in known or "*" in alias:
                message = f"{alias} is believed, and nobody has said that it is known"
                yield mesh.finding(f"trustDomainAliases[{index}]", message)
        for index, authority in enumerate(mesh.get("caCertificates", ())):
            domains = [str(d) for d in authority.get("trustDomains") or ()]
            unknown = [d for d in domains if d not in known or "*" in d]
            if not domains or unknown:
                whom = ", ".join(unknown) or "every trust domain"
                message = f"another authority is believed for {whom}"
                yield mesh.finding(f"caCertificates[{index}]", message)


@stack_policy(
    "control-plane-own",
    title="Proxies ask the cluster's own control plane",
    severity=Severity.CRITICAL,
    text="meshConfig names no istiod (defaultConfig.discoveryAddress), source of configuration "
    "(configSources) or certificate authority (ca.address) outside the cluster. Whoever answers "
    "there writes every policy and every certificate.",
    remedy="Name a Service of the cluster, or delete the field.",
    url=_MESH_CONFIG + "#ProxyConfig",
)
def control_plane_own(stack: Stack, _: Config) -> Iterator[Finding]:
    """Looks at the three addresses."""
    for mesh in stack.mesh_configs:
        named = {
            "defaultConfig.discoveryAddress": mesh.get("defaultConfig.discoveryAddress"),
            "ca.address": mesh.get("ca.address"),
            **{
                f"configSources[{index}].address": source.get("address")
                for index, source in enumerate(mesh.get("configSources", ()))
            },
        }
        for path, address in named.items():
            if address and not _in_cluster(str(address)):
                yield mesh.finding(path, f"{address} is outside the cluster")


def _in_cluster(address: str) -> bool:
    scheme, _, rest = address.rpartition("://")
    if scheme in ("k8s", "fs"):
        return True
    host = rest.partition("/")[0].rpartition(":")[0] or rest
    return host.endswith((".svc", ".svc.cluster.local")) or host in ("localhost", "127.0.0.1")


@stack_policy(
    "mesh-tls-strong",
    title="meshConfig weakens TLS for nobody",
    severity=Severity.HIGH,
    text="meshMTLS and tlsDefaults allow nothing below TLS 1.2 and no weak cipher suite, and "
    "defaultTrafficPolicy does not switch TLS off for every host without a DestinationRule.",
    remedy="Set minProtocolVersion TLSV1_2 or later; delete defaultTrafficPolicy.tls.",
    url=_MESH_CONFIG + "#MeshConfig-TLSConfig",
)
def mesh_tls(stack: Stack, _: Config) -> Iterator[Finding]:
    """Looks at the three blocks."""
    for mesh in stack.mesh_configs:
        for part in ("meshMTLS", "tlsDefaults"):
            version = mesh.get(f"{part}.minProtocolVersion")
            if version in ("TLSV1_0", "TLSV1_1"):
                yield mesh.finding(f"{part}.minProtocolVersion", f"{version} is broken")
            for suite in mesh.get(f"{part}.cipherSuites", ()):
                if any(weak in str(suite) for weak in _WEAK_SUITES):
                    yield mesh.finding(f"{part}.cipherSuites", f"{suite} is weak")
        tls = mesh.get("defaultTrafficPolicy.tls")
        if tls is not None and tls.get("mode", "DISABLE") == "DISABLE":
            yield mesh.finding("defaultTrafficPolicy.tls", "callers send plain text")


@stack_policy(
    "client-certificate-own",
    title="Nobody's word for a client certificate is taken",
    severity=Severity.CRITICAL,
    text="gatewayTopology.forwardClientCertDetails, in meshConfig or on pods, is not one that hands "
    "on the X-Forwarded-Client-Cert header that clients send. Services that read it take it for an "
    "identity.",
    remedy="Use SANITIZE or SANITIZE_SET.",
    url="https://istio.io/latest/docs/ops/configuration/traffic-management/network-topologies/",
)
def client_certificate(stack: Stack, _: Config) -> Iterator[Finding]:
    """Looks at meshConfig and at proxies' own configuration."""
    for mesh in stack.mesh_configs:
        how = mesh.get("defaultConfig.gatewayTopology.forwardClientCertDetails")
        if how in _FORWARDING:
            path = "defaultConfig.gatewayTopology.forwardClientCertDetails"
            yield mesh.finding(path, f"it is {how}")
    for item in stack.of(PODS):
        base, template = pod_template(item)
        annotations = (template.get("metadata") or {}).get("annotations") or {}
        topology = parsed(annotations.get("proxy.istio.io/config")).get("gatewayTopology") or {}
        if topology.get("forwardClientCertDetails") in _FORWARDING:
            path = f"{base}metadata.annotations[proxy.istio.io/config]"
            yield Finding(item, path, f"it is {topology['forwardClientCertDetails']}")


@object_policy(
    "istiod-checks-callers",
    PODS,
    *RELEASE_KINDS,
    title="istiod checks who asks",
    severity=Severity.CRITICAL,
    text="No variable of istiod switches off the check of trust domains, the authentication of "
    "proxies or the verification of servers, or serves its dangerous debug endpoints.",
    remedy="Delete the variable.",
    url="https://istio.io/latest/docs/reference/commands/pilot-discovery/",
)
def checks_callers(item: Object, _: Config) -> Iterator[Finding]:
    """Looks at containers' variables and at `env` of Helm values."""
    if item.get("kind") in RELEASE_KINDS:
        values = release_values(item)
        for path, holder in (("", values), ("pilot.", values.get("pilot") or {})):
            variables = holder.get("env") or {}
            for name in _weakened(variables) if isinstance(variables, Mapping) else ():
                where = f"spec.values.{path}env.{name}"
                yield Finding(item, where, f"{name} is {variables[name]}")
        return
    for path, container in containers(item):
        for index, variable in enumerate(container.get("env") or ()):
            for name in _weakened({variable.get("name"): variable.get("value")}):
                where = f"{path}.env[{index}]"
                yield Finding(item, where, f"{name} is {variable.get('value')}")


def _weakened(variables: Mapping[Any, Any]) -> list[str]:
    # Go takes 1, t, T and 0, f, F for truth values too.
    return [
        name
        for name, value in variables.items()
        if name in _WEAKENING and str(value).lower()[:1] in (_WEAKENING[name][0], _digit(name))
    ]


def _digit(name: str) -> str:
    return "1" if _WEAKENING[name] == "true" else "0"
