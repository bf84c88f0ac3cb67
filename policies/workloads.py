"""Pods that are configured alike, from templates and from releases of Istio's gateway chart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from policies.mesh_config import release_values
from policies.policy import Object, name_of, namespace_of, spec_of
from semantics.pods import injection_asked, pod_template

PODS = "Pods"
"""What `Stack.of` and a policy's kinds call every object that makes pods, of whatever kind."""
MEMBERS = ("WorkloadEntry", "WorkloadGroup")
"""Kinds that tell of members of the mesh outside the cluster."""
PROXY_CONTAINERS = frozenset({"istio-proxy", "istio-init", "istio-validation", "enable-core-dump"})
"""Containers that the injector adds; objects that were read from a cluster show them."""


def containers(item: Object) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(path, container) of the containers of an object's pods, those that only start up too.

    What the injector adds is left out: a container of that name whose image it chooses, or in a
    pod that it has been at.
    """
    base, template = pod_template(item)
    annotations = (template.get("metadata") or {}).get("annotations") or {}
    injected = "sidecar.istio.io/status" in annotations
    for part in ("containers", "initContainers", "ephemeralContainers"):
        for index, container in enumerate((template.get("spec") or {}).get(part) or ()):
            chosen = injected or container.get("image") in (None, "auto")
            if container.get("name") not in PROXY_CONTAINERS or not chosen:
                yield f"{base}spec.{part}[{index}]", container


@dataclass(frozen=True)
class Workload:
    """Pods that are configured alike."""

    namespace: str
    name: str
    labels: Mapping[str, str] = field(hash=False)
    account: str | None
    """Service account; None where the pods are not in the set."""
    source: Object = field(hash=False, compare=False)
    """The object that tells of the pods."""
    known: bool = True
    """False: only a Service's selector tells of the pods, and they may have more labels."""
    proxied: bool = True

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"

    def matched_by(self, selector: Mapping[str, str]) -> bool:
        """Whether the selector takes these pods, or may take some of them."""
        if self.known:
            return all(self.labels.get(key) == value for key, value in selector.items())
        shared = [key for key in selector if key in self.labels]
        return (not selector or bool(shared)) and all(self.labels[k] == selector[k] for k in shared)


def templated(item: Object, *, injects: bool) -> Workload:
    """Pods of an object that makes pods.

    Args:
        item: the object.
        injects: whether pods of its namespace get a proxy unless they say otherwise.
    """
    template = pod_template(item)[1]
    metadata, pod = template.get("metadata") or {}, template.get("spec") or {}
    asked = injection_asked(template)
    return Workload(
        namespace=namespace_of(item),
        name=name_of(item),
        labels={str(k): str(v) for k, v in (metadata.get("labels") or {}).items()},
        account=str(pod.get("serviceAccountName") or "default"),
        source=item,
        proxied=(injects if asked is None else asked) and not pod.get("hostNetwork"),
    )


def member(item: Object) -> Workload:
    """What runs outside the cluster and is a member of the mesh: WorkloadEntry, WorkloadGroup."""
    spec = spec_of(item)
    group = item.get("kind") == "WorkloadGroup"
    entry = (spec.get("template") or {}) if group else spec
    own = ((spec.get("metadata") or {}) if group else entry).get("labels") or {}
    labels = {**(entry.get("labels") or {}), **own}
    account = entry.get("serviceAccount")
    return Workload(
        namespace=namespace_of(item),
        name=name_of(item),
        labels={str(k): str(v) for k, v in labels.items()},
        account=str(account) if account else None,
        source=item,
    )


def _gateway_labels(release: Object) -> dict[str, str]:
    """Labels of the pods of Istio's gateway chart."""
    name = name_of(release)
    own = {str(k): str(v) for k, v in (release_values(release).get("labels") or {}).items()}
    return {"app": name, "istio": name.removeprefix("istio-"), **own}


def gateway_pods(release: Object) -> Workload:
    """Pods of a release of Istio's gateway chart."""
    account = release_values(release).get("serviceAccount") or {}
    return Workload(
        namespace=namespace_of(release),
        name=name_of(release),
        labels=_gateway_labels(release),
        account=str(account.get("name") or name_of(release)),
        source=release,
    )


def gateway_service(release: Object) -> dict[str, Any]:
    """Service of a release of Istio's gateway chart."""
    service = release_values(release).get("service") or {}
    ports = service.get("ports") or [{"name": "http2", "port": 80}, {"name": "https", "port": 443}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name_of(release), "namespace": namespace_of(release)},
        "spec": {
            "type": service.get("type", "LoadBalancer"),
            "selector": _gateway_labels(release),
            "ports": ports,
        },
    }
