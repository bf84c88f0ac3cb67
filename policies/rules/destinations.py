"""Subsets and DestinationRules that mean the pods they look like."""

from __future__ import annotations

from collections.abc import Iterator

from policies.policy import (
    Config,
    Finding,
    Object,
    Severity,
    namespace_of,
    reference,
    spec_of,
    stack_policy,
)
from policies.routing import traffic_policies
from policies.stack import Stack

_DESTINATION_RULE = "https://istio.io/latest/docs/reference/config/networking/destination-rule/"


@stack_policy(
    "subset-selects",
    title="Subsets select pods, and different ones",
    severity=Severity.HIGH,
    codes=("IST0173", "KIA0203", "KIA0209"),
    text="Each subset has labels that some pod of its Service carries, and no two subsets of a "
    "host have the same name or labels. A subset without pods is a 503 for its share of the "
    "requests.",
    remedy="Correct the labels, or deploy the pods before the subset.",
    url=_DESTINATION_RULE + "#Subset",
)
def subset_selects(stack: Stack, _: Config) -> Iterator[Finding]:
    """Compares with pod templates where the set holds those of the Service."""
    for item in stack.of("DestinationRule"):
        service = stack.service_of(str(spec_of(item).get("host", "")), namespace_of(item))
        selector = spec_of(stack.services.get(service or ("", ""), {})).get("selector") or {}
        namespace = service[0] if service else None
        pods = [w for w in stack.selected(selector, namespace) if w.known] if selector else []
        seen: dict[object, str] = {}
        for index, subset in enumerate(spec_of(item).get("subsets") or ()):
            path = f"spec.subsets[{index}]"
            labels, name = subset.get("labels") or {}, str(subset.get("name"))
            if not labels:
                yield Finding(item, f"{path}.labels", f"subset {name} has no labels")
            elif pods and not any(labels.items() <= pod.labels.items() for pod in pods):
                yield Finding(item, f"{path}.labels", f"no pod of the Service is in subset {name}")
            elif any(selector.get(key, value) != value for key, value in labels.items()):
                message = f"the Service's own selector excludes subset {name}"
                yield Finding(item, f"{path}.labels", message)
            for mark in (("name", name), ("labels", frozenset(labels.items()))):
                if mark in seen and labels:
                    message = f"subset {name} has the same {mark[0]} as {seen[mark]}"
                    yield Finding(item, path, message)
                seen.setdefault(mark, name)


@stack_policy(
    "destination-rules-distinct",
    title="One DestinationRule for each host",
    severity=Severity.HIGH,
    codes=("KIA0201",),
    text="No two DestinationRules of a namespace are for the same host and the same callers: "
    "Istio merges subsets and takes the traffic policy of the older one.",
    remedy="Merge the two.",
    url=_DESTINATION_RULE,
)
def rules_distinct(stack: Stack, _: Config) -> Iterator[Finding]:
    """Compares hosts and workload selectors."""
    seen: dict[object, Object] = {}
    for item in stack.of("DestinationRule"):
        spec = spec_of(item)
        callers = ((spec.get("workloadSelector") or {}).get("matchLabels") or {}).items()
        host = stack.fqdn(str(spec.get("host", "")), namespace_of(item))
        first = seen.setdefault((namespace_of(item), host, frozenset(callers)), item)
        if first is not item:
            yield Finding(item, "spec.host", f"{reference(first)} is for {host} too")


@stack_policy(
    "destination-is-the-service",
    title="A DestinationRule leads nowhere else",
    severity=Severity.HIGH,
    text="No DestinationRule sends requests through a tunnel to another host, or takes certificates "
    "of another trust domain for a Service of the mesh.",
    remedy="Delete the tunnel; name identities of the mesh, or leave subjectAltNames out.",
    url=_DESTINATION_RULE + "#TrafficPolicy-TunnelSettings",
)
def is_the_service(stack: Stack, _: Config) -> Iterator[Finding]:
    """Looks at every level."""
    for item in stack.of("DestinationRule"):
        for path, policy in traffic_policies(item):
            if tunnel := policy.get("tunnel"):
                message = f"requests go through a tunnel to {tunnel.get('targetHost')}"
                yield Finding(item, f"{path}.tunnel", message)
            tls = policy.get("tls") or {}
            for name in tls.get("subjectAltNames") or ():
                scheme, _separator, rest = str(name).partition("://")
                domain = rest.partition("/")[0]
                if (tls.get("mode") == "ISTIO_MUTUAL" and scheme != "spiffe") or (
                    scheme == "spiffe" and domain not in stack.trust_domains
                ):
                    message = f"{name} is no identity of the mesh"
                    yield Finding(item, f"{path}.tls.subjectAltNames", message)
