"""Who is believed: trust domains, certificate authorities, and whether istiod asks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from policies.mesh_config import RELEASE_KINDS, release_values
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

_MESH_CONFIG = "https://istio.io/latest/docs/reference/config/istio.mesh.v1alpha1/"
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
