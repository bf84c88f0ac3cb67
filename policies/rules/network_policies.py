"""What has no proxy is guarded by the cluster's network."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from typing import Any

from policies.labels import selects
from policies.policy import (
    Config,
    Enforcement,
    Finding,
    Object,
    Severity,
    name_of,
    namespace_of,
    object_policy,
    spec_of,
    stack_policy,
)
from policies.stack import Stack

_NETWORK_POLICIES = "https://kubernetes.io/docs/concepts/services-networking/network-policies/"
_WIDEST = {4: 8, 6: 16}
"""Shortest prefix of an address range, by version of IP, that is not the world."""


@stack_policy(
    "outside-guarded",
    title="What has no proxy has a NetworkPolicy",
    severity=Severity.MEDIUM,
    enforcement=Enforcement.MANDATORY,
    text="Pods of the set that run without a proxy, in a namespace that is not injected, are "
    "selected by a NetworkPolicy for ingress that names who may reach them. Nothing else keeps "
    "callers out.",
    remedy="Add a NetworkPolicy with the callers' namespaces and labels.",
    url=_NETWORK_POLICIES,
)
def outside_guarded(stack: Stack, _: Config) -> Iterator[Finding]:
    """Compares pods of namespaces with injection disabled with the NetworkPolicies there."""
    for workload in stack.workloads:
        if workload.proxied or not workload.known or stack.injects(workload.namespace):
            continue
        if workload.namespace == stack.root_namespace:
            continue  # istiod answers every proxy of every namespace
        policies = [
            item
            for item in stack.of("NetworkPolicy")
            if namespace_of(item) == workload.namespace
            and _guards_ingress(item)
            and selects(spec_of(item).get("podSelector") or {}, workload.labels)
        ]
        if not policies:
            yield Finding(workload.source, "", "no NetworkPolicy says who may reach its pods")


def _guards_ingress(policy: Object) -> bool:
    types = spec_of(policy).get("policyTypes")
    return not types or "Ingress" in types


@object_policy(
    "network-policy-narrow",
    "NetworkPolicy",
    title="NetworkPolicies name who may come in",
    severity=Severity.HIGH,
    text="Every ingress rule has a `from`, and no peer of it is the whole cluster or the world.",
    remedy="Name the namespace and the pods' labels.",
    url=_NETWORK_POLICIES,
)
def network_policy_narrow(item: Object, _: Config) -> Iterator[Finding]:
    """Looks at each rule's peers."""
    for index, rule in enumerate(spec_of(item).get("ingress") or ()):
        path = f"spec.ingress[{index}].from"
        if not (rule or {}).get("from"):
            yield Finding(item, path, f"{name_of(item)} lets everybody in")
        for peer in (rule or {}).get("from") or ():
            block = str((peer.get("ipBlock") or {}).get("cidr") or "")
            everyone = _every_namespace(peer) and not peer.get("podSelector")
            if everyone or (block and _is_the_world(block)):
                yield Finding(item, path, f"{block or 'every namespace'} may come in")


def _every_namespace(peer: Mapping[str, Any]) -> bool:
    """Whether a peer's namespaces are all, or all but some."""
    selector = peer.get("namespaceSelector")
    if selector is None or selector.get("matchLabels"):
        return False
    return all(
        each.get("operator") in ("NotIn", "DoesNotExist")
        or (each.get("operator"), each.get("key")) == ("Exists", "kubernetes.io/metadata.name")
        for each in selector.get("matchExpressions") or ()
    )


def _is_the_world(block: str) -> bool:
    network = ipaddress.ip_network(block, strict=False)
    return network.prefixlen < _WIDEST[network.version]
