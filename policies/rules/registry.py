"""What joins the mesh by hand, and whom its names and addresses belong to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from policies.policy import (
    Config,
    Finding,
    Object,
    Severity,
    annotations_of,
    namespace_of,
    object_policy,
    reference,
    spec_of,
    stack_policy,
)
from policies.stack import Stack
from policies.workloads import MEMBERS

_SERVICE_ENTRY = "https://istio.io/latest/docs/reference/config/networking/service-entry/"
_WORKLOAD_ENTRY = "https://istio.io/latest/docs/reference/config/networking/workload-entry/"
RUNS_OUTSIDE = "voicemesh.io/runs-outside"
"""Annotation: this member of the mesh runs outside the cluster on purpose; `voicemesh.io/reason`
says why."""
_REASON = "voicemesh.io/reason"
_LEADING = ("location", "resolution", "endpoints", "workloadSelector", "addresses", "ports")
_MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
_CONTROLLERS = (
    "endpointslice-controller.k8s.io",
    "endpointslicemirroring-controller.k8s.io",
)


@stack_policy(
    "service-host-owned",
    title="No ServiceEntry takes a Service's name",
    severity=Severity.CRITICAL,
    text="No host of a ServiceEntry is the name of a Service, in full, cut short or by a wildcard, "
    "or lies among the cluster's names. Callers who hear of it are sent to its endpoints instead "
    "of the Service's pods.",
    remedy="Use a host of your own; give Services a WorkloadEntry through their selector.",
    url=_SERVICE_ENTRY,
)
def service_host_owned(stack: Stack, _: Config) -> Iterator[Finding]:
    """Compares each host with the ways to write a Service's name."""
    owners = _names(stack)
    for item in stack.of("ServiceEntry"):
        for index, written in enumerate(map(str, spec_of(item).get("hosts") or ())):
            path, host = f"spec.hosts[{index}]", written.lower().rstrip(".")
            if host in owners:
                yield Finding(item, path, f"{host} is a name of {reference(owners[host])}")
            elif host.startswith("*"):
                ending = host[1:]
                taken = next((name for name in owners if name.endswith(ending)), None)
                if taken is not None or _of_the_cluster(ending):
                    message = f"{host} takes in {taken or 'names of Services'}"
                    yield Finding(item, path, message)
            elif _of_the_cluster(host):
                yield Finding(item, path, f"{host} is a name that the cluster gives to Services")


def _names(stack: Stack) -> dict[str, Object]:
    """Every way to write the name of a Service, with the Service."""
    return {
        written: service
        for (namespace, name), service in stack.services.items()
        for written in (
            name,
            f"{name}.{namespace}",
            f"{name}.{namespace}.svc",
            f"{name}.{namespace}.svc.cluster.local",
        )
    }


def _of_the_cluster(host: str) -> bool:
    return host.endswith((".svc", ".cluster.local")) or ".svc." in host


@stack_policy(
    "service-leads-to-pods",
    title="Services lead to their pods",
    severity=Severity.HIGH,
    text="No Service of the mesh is an ExternalName, and no Endpoints or EndpointSlice of one is "
    "written by hand. Callers of such a name are sent to an address that no selector, no identity "
    "and no rule about hosts outside says anything of.",
    remedy="Give the Service a selector; declare a host outside as a ServiceEntry.",
    url="https://kubernetes.io/docs/concepts/services-networking/service/#externalname",
)
def leads_to_pods(stack: Stack, _: Config) -> Iterator[Finding]:
    """Looks at Services of injected namespaces, and at addresses that no controller wrote."""
    for (namespace, _name), item in stack.services.items():
        if spec_of(item).get("type") == "ExternalName" and stack.injects(namespace):
            target = spec_of(item).get("externalName")
            yield Finding(item, "spec.externalName", f"callers are sent to {target}")
    for item in stack.of("Endpoints", "EndpointSlice"):
        labels = (item.get("metadata") or {}).get("labels") or {}
        if labels.get(_MANAGED_BY) in _CONTROLLERS or not stack.injects(namespace_of(item)):
            continue
        groups = item.get("subsets") or [{"addresses": item.get("endpoints")}]
        for group in groups:
            for each in group.get("addresses") or ():
                if not each.get("targetRef"):
                    address = each.get("ip") or ", ".join(map(str, each.get("addresses") or ()))
                    yield Finding(item, "", f"callers are sent to {address}")


@stack_policy(
    "egress-host-distinct",
    title="A host outside is the same for all who hear of it",
    severity=Severity.HIGH,
    text="No two ServiceEntries that one namespace hears of lead to different places for the same "
    "host and port. Istio takes endpoints of both: whoever adds the second one receives requests "
    "of the first one's callers.",
    remedy='Merge the two, or set exportTo: ["."] in both.',
    url=_SERVICE_ENTRY,
)
def host_distinct(stack: Stack, _: Config) -> Iterator[Finding]:
    """Compares hosts, ports, endpoints and who hears of them."""
    seen: dict[tuple[str, Any], list[Object]] = {}
    for item in stack.of("ServiceEntry"):
        for index, host in enumerate(map(str, spec_of(item).get("hosts") or ())):
            for port in spec_of(item).get("ports") or ():
                others = seen.setdefault((host, port.get("number")), [])
                rival = next((r for r in others if _rivals(r, item)), None)
                others.append(item)
                if rival is not None and rival is not item:
                    message = f"{reference(rival)} leads elsewhere for {host}"
                    yield Finding(item, f"spec.hosts[{index}]", message)
                    break


def _rivals(one: Object, other: Object) -> bool:
    """Whether two entries lead to different places, and some namespace hears of both."""
    if all(spec_of(one).get(key) == spec_of(other).get(key) for key in _LEADING):
        return False
    heard = []
    for item in (one, other):
        exported = [str(each) for each in spec_of(item).get("exportTo") or ("*",)]
        heard.append({namespace_of(item) if each == "." else each for each in exported})
    return "*" in heard[0] | heard[1] or bool(heard[0] & heard[1])


@object_policy(
    "egress-location-true",
    "ServiceEntry",
    title="What is outside the mesh is not called inside",
    severity=Severity.HIGH,
    text="A ServiceEntry with location MESH_INTERNAL has members of the mesh as endpoints: a "
    "workloadSelector, or endpoints that show their service accounts. For anything else the rules "
    "about hosts outside would have to hold, and this word switches them off.",
    remedy="Set location: MESH_EXTERNAL, or a workloadSelector.",
    url=_SERVICE_ENTRY + "#ServiceEntry-Location",
)
def location_true(item: Object, _: Config) -> Iterator[Finding]:
    """Looks at what the entry leads to."""
    spec = spec_of(item)
    if spec.get("location") != "MESH_INTERNAL" or spec.get("workloadSelector"):
        return
    endpoints = spec.get("endpoints") or ()
    if not endpoints:
        yield Finding(item, "spec.location", "it leads to nothing that is known to be a member")
    for index, endpoint in enumerate(endpoints):
        if not endpoint.get("serviceAccount"):
            yield Finding(item, f"spec.endpoints[{index}]", "nothing says who the endpoint is")


@object_policy(
    "member-declared",
    "ServiceEntry",
    *MEMBERS,
    title="Members of the mesh outside the cluster are declared",
    severity=Severity.HIGH,
    text="A WorkloadEntry, WorkloadGroup or endpoint of a ServiceEntry in the mesh receives "
    "requests of Services and entries whose selectors take its labels, with a service account of "
    "the mesh, at any address. It says with the annotation voicemesh.io/runs-outside and a "
    "voicemesh.io/reason that this is meant.",
    remedy="Delete it, or declare it with its reason.",
    url=_WORKLOAD_ENTRY,
)
def member_declared(item: Object, _: Config) -> Iterator[Finding]:
    """Looks at entries and groups, and at endpoints within the mesh."""
    spec = spec_of(item)
    if item.get("kind") == "ServiceEntry" and (
        spec.get("location") != "MESH_INTERNAL" or not spec.get("endpoints")
    ):
        return
    annotations = annotations_of(item)
    if annotations.get(RUNS_OUTSIDE) != "true" or not str(annotations.get(_REASON) or "").strip():
        message = f"{_address(spec)} joins the mesh and nothing says why"
        yield Finding(item, f"metadata.annotations[{RUNS_OUTSIDE}]", message)


def _address(spec: Mapping[str, Any]) -> str:
    addresses = [each.get("address") for each in (spec, *(spec.get("endpoints") or ()))]
    return ", ".join(str(address) for address in addresses if address) or "whatever registers"


@object_policy(
    "member-encrypted",
    "ServiceEntry",
    *MEMBERS,
    title="Members outside the cluster are called with mutual TLS",
    severity=Severity.CRITICAL,
    text="A WorkloadEntry, WorkloadGroup or endpoint in the mesh has a service account, and no label "
    "security.istio.io/tlsMode but istio. Otherwise callers send it plain text, whatever "
    "PeerAuthentications say of those who are called.",
    remedy="Set serviceAccount; delete the label, or set it to istio.",
    url=_WORKLOAD_ENTRY,
)
def member_encrypted(item: Object, _: Config) -> Iterator[Finding]:
    """Looks at labels and accounts of entries and endpoints."""
    spec = spec_of(item)
    places: dict[str, Mapping[str, Any]]
    match item.get("kind"):
        case "WorkloadGroup":
            template = spec.get("template") or {}
            labels = (
                (spec.get("metadata") or {}).get("labels") or {},
                template.get("labels") or {},
            )
            places = {"spec.template": {**template, "labels": {**labels[0], **labels[1]}}}
        case "WorkloadEntry":
            places = {"spec": spec}
        case _:
            inside = spec.get("location") == "MESH_INTERNAL"
            endpoints = (spec.get("endpoints") or ()) if inside else ()
            places = {f"spec.endpoints[{index}]": each for index, each in enumerate(endpoints)}
    for path, place in places.items():
        mode = (place.get("labels") or {}).get("security.istio.io/tlsMode")
        if mode not in (None, "istio"):
            yield Finding(item, f"{path}.labels", f"security.istio.io/tlsMode is {mode}")
        elif mode is None and not place.get("serviceAccount"):
            message = "without an account callers send it plain text"
            yield Finding(item, f"{path}.serviceAccount", message)
