"""Pods that are configured alike, from templates and from releases of Istio's gateway chart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from policies.mesh_config import release_values
from policies.policy import Object, name_of, namespace_of

POD_TEMPLATES = ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Rollout", "Job")
"""Kinds with a pod template."""


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
