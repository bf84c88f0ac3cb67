"""Mutual TLS holds everywhere: at the root, in namespaces, at workloads, at ports."""

from __future__ import annotations

from collections.abc import Iterator

from policies.policy import (
    Config,
    Finding,
    Object,
    Severity,
    namespace_of,
    object_policy,
    reference,
    spec_of,
    stack_policy,
)
from policies.stack import Stack, selector_of

_PEER_AUTHENTICATION = "https://istio.io/latest/docs/reference/config/security/peer_authentication/"


@object_policy(
    "mtls-strict",
    "PeerAuthentication",
    title="Mutual TLS is STRICT at every level",
    severity=Severity.CRITICAL,
    codes=("TIS0104", "TIS0206"),
    text="No PeerAuthentication sets PERMISSIVE, DISABLE or a mode that Istio does not know, "
    "neither as a whole nor for one port: such a port takes plain text, and everything that "
    "policies say of callers' identities is void there.",
    remedy="Set mtls.mode to STRICT and delete the exception under portLevelMtls.",
    url=_PEER_AUTHENTICATION + "#PeerAuthentication-MutualTLS-Mode",
    locked=True,
)
def strict(item: Object, _: Config) -> Iterator[Finding]:
    """Looks at the whole and at each port."""
    spec = spec_of(item)
    levels = {"spec.mtls.mode": (spec.get("mtls") or {}).get("mode")}
    for port, mtls in (spec.get("portLevelMtls") or {}).items():
        levels[f"spec.portLevelMtls.{port}.mode"] = (mtls or {}).get("mode")
    for path, mode in levels.items():
        if mode in ("PERMISSIVE", "DISABLE"):
            yield Finding(item, path, f"mode is {mode}, plain text is accepted")
        elif mode and mode not in ("STRICT", "UNSET"):
            yield Finding(item, path, f"{mode} is no mode that Istio knows")


@stack_policy(
    "mtls-strict-root",
    title="Mutual TLS is STRICT for the whole mesh",
    severity=Severity.CRITICAL,
    codes=("KIA0205", "TIS0104"),
    text="The root namespace holds a PeerAuthentication without selector and with mode STRICT. "
    "Without it a namespace that nobody has thought of starts in Istio's default, PERMISSIVE.",
    remedy="Add a PeerAuthentication named default to the root namespace with mtls.mode STRICT.",
    url=_PEER_AUTHENTICATION,
    locked=True,
)
def strict_root(stack: Stack, _: Config) -> Iterator[Finding]:
    """Looks for one mesh-wide STRICT."""
    mesh_wide = [
        item
        for item in stack.of("PeerAuthentication")
        if namespace_of(item) == stack.root_namespace and not selector_of(item)
    ]
    if not stack.uses_istio:
        return
    if not mesh_wide:
        root = {
            "kind": "PeerAuthentication",
            "metadata": {"name": "default", "namespace": stack.root_namespace},
        }
        yield Finding(root, "", "there is no mesh-wide PeerAuthentication")
    for item in mesh_wide:
        mode = (spec_of(item).get("mtls") or {}).get("mode")
        if mode != "STRICT":
            yield Finding(
                item, "spec.mtls.mode", f"the mesh-wide mode is {mode or 'unset'}, not STRICT"
            )


@stack_policy(
    "mtls-one-policy",
    title="One PeerAuthentication for each scope",
    severity=Severity.MEDIUM,
    text="No two PeerAuthentications have the same namespace and the same selector: Istio takes "
    "the older one, so what holds depends on when each was created.",
    remedy="Merge the two into one.",
    url=_PEER_AUTHENTICATION,
)
def one_policy(stack: Stack, _: Config) -> Iterator[Finding]:
    """Compares scopes."""
    seen: dict[tuple[str, frozenset[tuple[str, str]]], Object] = {}
    for item in stack.of("PeerAuthentication"):
        scope = (namespace_of(item), frozenset(selector_of(item).items()))
        first = seen.setdefault(scope, item)
        if first is not item:
            yield Finding(item, "spec.selector", f"has the same scope as {reference(first)}")


@stack_policy(
    "mtls-auto",
    title="Proxies use mutual TLS by themselves",
    severity=Severity.CRITICAL,
    text="meshConfig.enableAutoMtls is not false. With it off, callers send plain text wherever no "
    "DestinationRule says otherwise, and STRICT servers refuse them.",
    remedy="Remove enableAutoMtls: false from meshConfig.",
    url="https://istio.io/latest/docs/reference/config/istio.mesh.v1alpha1/#MeshConfig-enable_auto_mtls",
    locked=True,
)
def auto(stack: Stack, _: Config) -> Iterator[Finding]:
    """Looks at every meshConfig of the set."""
    for mesh in stack.mesh_configs:
        if mesh.get("enableAutoMtls", True) is False:
            yield mesh.finding("enableAutoMtls", "automatic mutual TLS is switched off")
